"""What is a representation worth?  Probes, health, downstream tasks, and one protocol that runs them all.

Book: selfsup/representations
"""

from gadkit.evaluation.downstream import (
    Boxes,
    clip_features,
    fit_boxes,
    fit_segmenter,
    mean_average_precision,
    mean_iou,
    segment,
)
from gadkit.evaluation.features import Features, ImageFeatures, encode
from gadkit.evaluation.probes import fit_linear, knn_accuracy, label_efficiency, linear_probe
from gadkit.evaluation.protocol import EVALUATORS, Sizes, evaluate
from gadkit.evaluation.representation import (
    alignment,
    attention_maps,
    effective_rank,
    fit_colours,
    kernels,
    nearest,
    pca_colours,
    uniformity,
)

__all__ = [
    "EVALUATORS",
    "Boxes",
    "Features",
    "ImageFeatures",
    "Sizes",
    "alignment",
    "attention_maps",
    "clip_features",
    "effective_rank",
    "encode",
    "evaluate",
    "fit_boxes",
    "fit_colours",
    "fit_linear",
    "fit_segmenter",
    "kernels",
    "knn_accuracy",
    "label_efficiency",
    "linear_probe",
    "mean_average_precision",
    "mean_iou",
    "nearest",
    "pca_colours",
    "segment",
    "uniformity",
]
