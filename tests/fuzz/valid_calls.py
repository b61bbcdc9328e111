"""One valid, small call of every function that a page shows, and the few that are not tried, each with its reason.

Keys are a function's name, with as much of its module before it as tells it from others of that name.
"""

import random
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from gadkit import factory, weights, zoo
from gadkit.anomaly.benchmark import Result, factory_cases
from gadkit.anomaly.detectors.knn import KNN, PatchKNN
from gadkit.anomaly.detectors.residual_heads import untrained
from gadkit.anomaly.detectors.winclip import WinCLIP
from gadkit.backbones import Encoder, Timm
from gadkit.backbones.timm_models import TINY
from gadkit.curation import hierarchical_kmeans
from gadkit.curation.longtail import Setting
from gadkit.evaluation.segments import truth
from gadkit.factory import scenes
from gadkit.factory.descriptions import Fact
from gadkit.factory.films import motion
from gadkit.factory.pool import Pool
from gadkit.factory.scene import Scene
from gadkit.losses.detection import Costs
from gadkit.multimodal.florence import Named
from gadkit.nn import ViT
from gadkit.nn.baselines import tiny_model
from gadkit.objects.architecture import SamConfig, build_sam
from gadkit.objects.promptable import SAM
from gadkit.objects.protocols import Boxes, Segments
from gadkit.search import index
from gadkit.selfsup import SimCLR
from gadkit.train import Plan
from gadkit.viz import Scale

Arguments = Callable[[], dict[str, Any]]


def valid(arguments: Arguments) -> dict[str, Any]:
    """Arguments of a valid call, the same every time."""
    torch.manual_seed(0)
    return arguments()


def images(count: int = 3, side: int = 32) -> torch.Tensor:
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8)


ORIGIN = index.Origin("dino", "tiny", "dino", "0.1", "8")


@cache
def kept_index() -> Path:
    """A folder with an index of two vectors."""
    folder = Path(tempfile.mkdtemp()) / "index"
    index.Index(folder, ORIGIN).append(["a", "b"], [(1, 2)] * 2, torch.eye(2))
    return folder


def pictures(count: int = 2, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side)


def some_boxes(count: int) -> Boxes:
    low = 4 * torch.rand(count, 2)
    return Boxes(torch.cat([low, low + 2], 1), torch.rand(count), torch.arange(count) % 2)


def masks(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).view(shape) % 3 == 0


def measured() -> dict[str, Any]:
    """A row of the benchmark's results file."""
    told = {"detector": "knn", "backbone": "eyes", "heads": None, "trained_on": "nothing", **PRODUCT}
    return told | dict.fromkeys(("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_ap", "aupro"), 0.5)


PRODUCT = {"category": "felt", "data": "loose", "variant": 0, "seed": 0, "shots": 4, "kind": None, "ms": 1.0, "mb": 1.0}
PUBLISHED = {"method": "Nearest images", "dataset": "MVTec AD", "shots": 4, "measure": "image AUROC", "value": 90.0}
PUBLISHED |= {"verified": "the abstract"}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@cache
def vit() -> ViT:
    return ViT(image_size=16, patch_size=8, width=8, depth=2, heads=2)


@cache
def encoder() -> Encoder:
    return Encoder(vit(), image_size=16)


@cache
def clip() -> Any:
    return zoo.load("clip-random")


@cache
def classifier() -> Timm:
    """A network of three classes."""
    model = tiny_model("vit")
    model.reset_classifier(3)
    return Timm(model, TINY, patch_size=8)


@cache
def fitted() -> WinCLIP:
    return WinCLIP(clip(), "nut").fit(images(2))


@cache
def films() -> motion.Clips:
    return motion.clips(2, frames=3, size=16)


def segmenter() -> SAM:
    torch.manual_seed(0)
    config = SamConfig(size=32, width=16, depth=1, heads=2, dim=16, window=0, everywhere=(0,))
    return SAM(build_sam(config)).set_image(images(1)[0])


@cache
def scene() -> Scene:
    drawn = Scene(torch.arange(2), torch.arange(2), 16)
    factory.CATEGORIES["washer"].draw(drawn)
    return drawn


def scale() -> Scale:
    return Scale(0.0, 1.0)


def folder() -> Path:
    root = Path("photographs")
    if not root.exists():
        root.mkdir()
        Image.new("RGB", (20, 16)).save(root / "one.png")
    return root


@cache
def few_scenes() -> scenes.Scenes:
    return scenes.render(2, 0, 32, "development")


def true_segments() -> list[Segments]:
    return [truth(few_scenes(), i) for i in range(2)]


def two_sets() -> dict[str, Any]:
    labels = torch.arange(12) % 3
    return {"x": torch.randn(12, 4), "labels": labels, "test": torch.randn(12, 4), "test_labels": labels}


def method(**options: Any) -> Arguments:
    return lambda: {"encoder": ViT(16, 8, 8, 2, 2), **options}


CALLS: dict[str, Arguments] = {
    # multimodal
    "qformer.attention": lambda: {"kind": "causal", "queries": 2, "ids": torch.tensor([[5, 6, 0]])},
    "captions.cider": lambda: {"captions": ["a red gear"], "references": [["a red gear", "a gear"]]},
    "captions.parse": lambda: {"caption": "a red gear with a scratch"},
    "blip2.invented": lambda: {"count": 2, "seed": 1},
    "reading.write": lambda: {"facts": [Fact("gear", "gear", "object", "red", "", "scratch", 0.5)], "seed": 1},
    # objects
    "segments.quality": lambda: {"found": true_segments(), "scenes": few_scenes()},
    "segments.mean_iou": lambda: {"found": true_segments(), "scenes": few_scenes()},
    "segments.click": lambda: {"mask": masks(4, 4), "generator": generator()},
    "segments.read": lambda: {
        "classes": torch.randn(5, 3),
        "masks": torch.randn(5, 4, 4),
        "things": (False, True),
        "task": "panoptic",
        "threshold": 0.5,
    },
    "segments.interactive": lambda: {
        "predict": lambda scene, part, points, labels: few_scenes().masks(scene)[part],
        "scenes": few_scenes(),
        "clicks": 2,
    },
    "seem.text_ids": lambda: {"texts": ["the red nut"], "words": 24},
    "universal.describe": lambda: {"held": zoo.load("oneformer-random")},
    "Otsu": lambda: {"least": 0.01},
    # anomaly
    "HybridPrompts": lambda: {
        "general": ("defect on {}",),
        "specific": ("hole",),
        "noun": "nut",
        "count": 2,
        "area": 0.5,
        "inside": 0.5,
        "keep": 3,
    },
    "saliency.aggregate": lambda: {"scores": torch.rand(2), "masks": masks(2, 4, 5), "shrink": True},
    "saliency.rescore": lambda: {
        "scores": torch.rand(2),
        "masks": masks(2, 4, 5),
        "saliency": torch.rand(4, 5),
        "sharpness": 3.0,
    },
    "factory_cases": lambda: {
        "categories": ("felt",),
        "regime": "loose",
        "variants": 1,
        "seeds": (0,),
        "references": 1,
        "size": 16,
    },
    "benchmark.run": lambda: {
        "detector": lambda noun: KNN(encoder()),
        "cases": factory_cases(("felt",), variants=1, seeds=(0,), references=1, size=16),
        "shots": (1,),
        "quiet": True,
    },
    "summarise": lambda: {
        "results": [Result("felt", 0, 0, "loose", 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)],
        "measure": "aupro",
    },
    "benchmark.table": lambda: {"rows": [{"detector": "knn", "image_auroc": (0.5, 0.1)}]},
    "beside": lambda: {"rows": [measured()], "records": [PUBLISHED], "measure": "image_auroc"},
    "comparison.entry": lambda: {"row": measured(), "shots": True},
    "comparison.lines": lambda: {"rows": [measured()]},
    "ranking": lambda: {"rows": [measured()], "measure": "image_auroc", "draws": 10, "seed": 0},
    "saw": lambda: {"row": measured()},
    "standings": lambda: {"rows": [measured()], "measure": "image_auroc"},
    "peak": lambda: {"call": lambda: torch.zeros(2)},
    "Encoded": lambda: {"features": {"pooled": torch.rand(2, 3)}, "size": (8, 8)},
    "KNN": lambda: {"backbone": encoder(), "k": 1, "chunk": 2},
    "PatchKNN": lambda: {
        "backbone": encoder(),
        "layers": (-1,),
        "k": 1,
        "thin": 0.5,
        "turns": 1,
        "top": 0.1,
        "chunk": 2,
    },
    "association": lambda: {"queries": torch.rand(2, 3, 4), "references": torch.rand(5, 4), "chunk": 2},
    "harmonic_mean": lambda: {"maps": [torch.rand(2, 3), torch.rand(2, 3)]},
    "spread_windows": lambda: {"scores": torch.rand(2, 6), "grid": (3, 4), "scale": 2},
    "upsample": lambda: {"maps": torch.rand(2, 3, 4), "size": (6, 8)},
    "smooth_upsample": lambda: {"maps": torch.rand(2, 3, 4), "size": (6, 8), "sigma": 0.1},
    "anomalyclip.encoded": lambda: {"clip": clip(), "pairs": 12, "seed": 0},
    "anomalyclip.learn": lambda: {"clip": clip(), "steps": 1, "pairs": 24, "seed": 0},
    "window_indices": lambda: {"grid": (3, 4), "scale": 2},
    "plain_aupro": lambda: {"maps": np.ones((2, 6, 6)), "masks": masks(2, 6, 6).numpy(), "thresholds": 5},
    "plain.random_maps": lambda: {"count": 2, "size": 16, "seed": 0},
    "aupro": lambda: {"maps": torch.rand(2, 6, 6), "masks": masks(2, 6, 6), "limit": 0.3},
    "auroc": lambda: {"scores": torch.rand(9), "labels": masks(9)},
    "average_precision": lambda: {"scores": np.linspace(0, 1, 9), "labels": masks(9).numpy()},
    "f1_max": lambda: {"scores": torch.rand(9), "labels": masks(9).long()},
    "PromptEnsemble": lambda: {"normal": ("{}",), "anomalous": ("bad {}",), "templates": ("a {}",)},
    "false_alarm_rate": lambda: {"scores": torch.rand(4), "line": 0.5},
    "held_out": lambda: {"detector": fitted(), "normal": images(2), "quiet": True},
    "threshold": lambda: {"scores": torch.rand(4), "quantile": 0.9},
    "counted": lambda: {"alarms": 1, "parts": 4, "confidence": 0.9},
    "promised": lambda: {"scores": torch.rand(4), "line": 0.5, "confidence": 0.9},
    "doubts": lambda: {"scores": torch.rand(20), "line": 0.5},
    "detectors.build": lambda: {"name": "knn", "backbone": encoder(), "object_name": "nut", "k": 1},
    "InCTRL": lambda: {
        "backbone": clip(),
        "object_name": "nut",
        "heads": untrained(196, 128),
        "temperature": 0.1,
        "terms": ("text",),
        "pairing": "reference",
    },
    "paper_layers": lambda: {"depth": 6},
    "ResidualHeads": lambda: {"patches": 9, "width": 8},
    "WinCLIP": lambda: {"backbone": clip(), "object_name": "nut"},
    "AnomalyResult": lambda: {"maps": torch.rand(2, 4, 4), "scores": torch.rand(2)},
    # backbones
    "Encoder": lambda: {"vit": vit(), "image_size": 16, "pool": "cls"},
    "zoo.load": lambda: {"name": "random", "preset": "tiny", "device": "cpu", "gives": None, "file": None},
    "OpenCLIP": lambda: {"model": clip().model, "tokenizer": clip().tokenizer},
    "Tower": lambda: {"visual": clip().model.visual, "precision": "float32"},
    "encode_prompts": lambda: {"clip": clip(), "texts": ["a.", "b."], "contexts": torch.zeros(2, 1, 128)},
    "encode_values": lambda: {"clip": clip(), "images": torch.rand(1, 3, 224, 224), "blocks": 1, "layers": (-1,)},
    "value_stream.project": lambda: {"clip": clip(), "tokens": torch.rand(1, 3, 160)},
    "Timm": lambda: {"model": tiny_model("convnext"), "data_config": dict(TINY), "patch_size": 8},
    "tiny_model": lambda: {"architecture": "swin"},
    "check_images": lambda: {"images": images(), "what": "photographs"},
    # curation
    "centre_of": lambda: {"x": torch.randn(6, 3)},
    "curate": lambda: {
        "x": torch.randn(20, 3),
        "keep": 5,
        "clusters": (4, 2),
        "duplicates": 0.99,
        "choice": "closest",
        "generator": generator(),
    },
    "curation.prepare": lambda: {"x": torch.randn(6, 3), "centre": torch.zeros(3)},
    "twins": lambda: {"x": torch.randn(6, 3), "threshold": 0.9, "neighbours": 3},
    "retaken": lambda: {
        "backbone": encoder(),
        "images": images(2),
        "features": torch.randn(2, 8),
        "centre": torch.zeros(8),
        "quantile": 0.1,
    },
    "Setting": lambda: {"photographs": 64, "keep": 8, "steps": 3, "made_up": 0.2, "again": 0.3, "products": (4, 2)},
    "long_tail": lambda: {"setting": Setting(photographs=40, products=(2, 1)), "seed": 0, "size": 16},
    "longtail.statistics": lambda: {
        "pool": Pool(images(4), torch.arange(4) % 2, torch.full((4,), -1), ("gear", "coin")),
        "products": torch.arange(4),
        "rows": torch.tensor([0, 2]),
    },
    "sampling.sample": lambda: {
        "tree": hierarchical_kmeans(torch.arange(24.0).view(12, 2), (3,), rounds=0),
        "target": 5,
        "choice": "closest",
        "x": torch.arange(24.0).view(12, 2),
        "generator": generator(),
        "shared": False,
    },
    "waterfall": lambda: {"sizes": torch.tensor([1, 5, 9]), "target": 7, "generator": generator()},
    "divergence": lambda: {"x": torch.randn(9, 2), "bandwidth": 0.5, "cells": 12},
    "simulation.points": lambda: {"count": 36, "generator": generator()},
    "hierarchical_kmeans": lambda: {
        "x": torch.randn(20, 3),
        "clusters": (4, 2),
        "resample": 2,
        "rounds": 1,
        "generator": generator(),
        "iterations": 3,
        "shared": False,
    },
    "levels": lambda: {"count": 1000, "ratio": 4, "widest": 10},
    # data
    "ImageFolder": lambda: {"root": folder(), "recursive": True, "layout": None, "category": None, "split": None},
    "load_images": lambda: {"source": folder(), "size": 16},
    "Views": lambda: {
        "size": 16,
        "scale": (0.2, 1.0),
        "ratio": (0.75, 1.25),
        "strength": 1.0,
        "mirror": 0.5,
        "blurred": 0.5,
        "solarised": 0.0,
    },
    "blur": lambda: {"x": pictures(), "sigma": (0.1, 2.0), "share": 0.5, "generator": generator()},
    "colour_jitter": lambda: {
        "x": pictures(),
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.1,
        "share": 0.8,
        "generator": generator(),
    },
    "crop": lambda: {
        "images": images(),
        "size": 8,
        "scale": (0.2, 1.0),
        "ratio": (0.75, 1.25),
        "generator": generator(),
    },
    "denormalise": lambda: {"x": pictures()},
    "greyscale": lambda: {"x": pictures(), "share": 0.5, "generator": generator()},
    "normalise": lambda: {"x": pictures()},
    "resize": lambda: {"images": images(), "size": 8},
    "photographs.resize": lambda: {"image": images()[0], "size": 8},
    "solarise": lambda: {"x": pictures(), "share": 0.5, "threshold": 0.5, "generator": generator()},
    # evaluation
    "features.encode": lambda: {
        "backbone": encoder(),
        "images": images(),
        "blocks": True,
        "patches": True,
        "chunk": 2,
    },
    "fit_linear": lambda: {
        "x": torch.randn(6, 2),
        "targets": torch.arange(6) % 3,
        "classes": 3,
        "strength": 1.0,
        "tolerance": 1e-3,
    },
    "knn_accuracy": lambda: {**two_sets(), "k": 3, "temperature": 0.07},
    "linear_probe": lambda: {**two_sets(), "strength": 1.0},
    "protocol.evaluate": lambda: {"backbone": encoder(), "seeds": (0,), "only": ("digits",)},
    "alignment": lambda: {"x": torch.randn(6, 3), "y": torch.randn(6, 3)},
    "attention_maps": lambda: {"backbone": encoder(), "images": images()},
    "effective_rank": lambda: {"x": torch.randn(6, 3)},
    "kernels": lambda: {"network": nn.Sequential(nn.Conv2d(3, 4, 3))},
    "pca_colours": lambda: {"patches": torch.randn(2, 6, 5), "grid": (2, 3)},
    "uniformity": lambda: {"x": torch.randn(6, 3), "t": 2.0},
    "find_results": lambda: {"name": "scores.json"},
    "results.read": lambda: {"path": Path("nowhere")},
    "results.summary": lambda: {"values": [0.5, 0.6, 0.7]},
    "results.markdown": lambda: {"columns": ["who", "AUROC"], "rows": [["dino", "0.5"], ["mae", "0.6"]]},
    "sets.seeds": lambda: {"what": "gallery/nut", "count": 3},
    "sets.defects": lambda: {"seed": 0, "split": "train", "per_category": 1, "size": 16},
    "sets.parts": lambda: {"seed": 0, "products": 1, "size": 16},
    # factory
    "caption": lambda: {
        "category": "gear",
        "defect": "scratch",
        "rng": random.Random(0),
        "generic": 0.2,
        "invented": 0.2,
        "vague": 0.5,
    },
    "descriptions.render": lambda: {
        "count": 2,
        "seed": 1,
        "size": 32,
        "split": "seen",
        "defective": 0.5,
        "purpose": "test",
    },
    "words.caption": lambda: {
        "fact": Fact("gear", "gear", "object", "red", "white", "scratch", 0.6),
        "rng": random.Random(0),
        "plain": 0.75,
        "accented": 0.5,
        "vague": 0.2,
    },
    "clip_loss": lambda: {"images": torch.randn(4, 3), "texts": torch.randn(4, 3), "scale": 10.0},
    "siglip_loss": lambda: {"images": torch.randn(4, 3), "texts": torch.randn(4, 3), "scale": 10.0, "bias": -10.0},
    "Captioned": lambda: {"images": images(2, 8), "captions": (("a red gear",), ("a bolt",))},
    "captioned.captioned": lambda: {"counts": {"seen": 2}, "pairs": 0, "seed": 0, "wordings": 1, "size": 32},
    "retrieval.modality_gap": lambda: {"images": torch.randn(4, 3), "texts": torch.randn(5, 3)},
    "wording.choices": lambda: {
        "kind": "noun",
        "count": 2,
        "split": "seen",
        "seed": 0,
        "size": 32,
        "purpose": "test",
    },
    "catalogue.split": lambda: {"name": "seen"},
    "Draw": lambda: {"seeds": torch.arange(3)},
    "motion.clips": lambda: {
        "count": 2,
        "seed": 0,
        "split": "train",
        "actions": ("roll", "fall"),
        "parts": ("washer",),
        "frames": 3,
        "size": 16,
        "drift": 0.1,
        "noise": 0.01,
    },
    "flow_colours": lambda: {"flow": torch.randn(2, 2, 4, 4), "fastest": 1.0},
    "sound.spectrograms": lambda: {"clips": films(), "leak": 1.0},
    "sound.tone_of": lambda: {"clips": films()},
    "video.read_gain": lambda: {"frames": torch.randn(2, 3, 3, 8, 8), "sounds": torch.rand(2, 1, 4, 5)},
    "weighted_cross_entropy": lambda: {
        "logits": torch.randn(4, 3),
        "labels": torch.tensor([0, 1, 2, 0]),
        "weight": torch.ones(3),
    },
    "geometry.edges": lambda: {"height": torch.rand(2, 16, 16), "materials": torch.zeros(2, 16, 16).to(torch.uint8)},
    "geometry.normals": lambda: {"height": torch.rand(2, 16, 16)},
    "geometry.unlabelled": lambda: {"count": 2, "seed": 0, "size": 16, "defective": 0.5},
    "pool.unlabelled": lambda: {"count": 3, "seed": 0, "size": 16},
    "factory.render.render": lambda: {
        "category": "gear",
        "seeds": torch.arange(2),
        "variants": torch.arange(2),
        "defect": "scratch",
        "severity": torch.tensor([0.2, 0.9]),
        "size": 16,
        "nuisance": 0.5,
        "noise": 0.01,
    },
    "Scene": lambda: {"seeds": torch.arange(2), "variants": torch.arange(2), "size": 16, "nuisance": 1.0},
    "light": lambda: {"scene": scene(), "canvas": scene()},
    "mvtec.export": lambda: {
        "root": Path("exported"),
        "categories": ("felt",),
        "regime": "loose",
        "seed": 0,
        "per_class": 1,
        "size": 16,
    },
    "planted_set": lambda: {"surface": "brick", "tiles": 5},
    "plant": lambda: {"tile": images(1)[0, 0], "kind": "hole", "seed": 0},
    "test_set": lambda: {
        "category": "felt",
        "variant": 0,
        "seed": 0,
        "regime": "fixture",
        "normal": 1,
        "per_defect": 1,
        "references": 1,
        "size": 16,
    },
    # losses
    "dino_loss": lambda: {
        "teacher": [torch.randn(4, 5)] * 2,
        "student": [torch.randn(4, 5)] * 3,
        "centre": torch.zeros(5),
        "teacher_temperature": 0.04,
        "student_temperature": 0.1,
    },
    "koleo": lambda: {"z": torch.randn(4, 5)},
    "next_centre": lambda: {"centre": torch.zeros(5), "teacher": [torch.randn(4, 5)] * 2, "momentum": 0.9},
    "sinkhorn": lambda: {"scores": torch.randn(4, 5), "epsilon": 0.05, "iterations": 3},
    "swav_loss": lambda: {
        "scores": [torch.randn(4, 5)] * 3,
        "temperature": 0.1,
        "epsilon": 0.05,
        "iterations": 3,
    },
    "info_nce": lambda: {"q": torch.randn(4, 5), "k": torch.randn(4, 5), "temperature": 0.2},
    "nt_xent": lambda: {"z0": torch.randn(4, 5), "z1": torch.randn(4, 5), "temperature": 0.2},
    "byol_loss": lambda: {"p": torch.randn(4, 5), "z": torch.randn(4, 5)},
    "mae_loss": lambda: {
        "prediction": torch.randn(2, 3, 4),
        "target": torch.randn(2, 3, 4),
        "mask": torch.ones(2, 3),
        "norm_pix": True,
    },
    # methods and networks
    "methods.build": lambda: {"name": "simclr"},
    "zoo.facts": lambda: {"name": "simclr"},
    "zoo.find": lambda: {"name": "dino", "under": "tiny", "what": "NAME"},
    "zoo.list": lambda: {"gives": "method", "preset": "tiny"},
    "cosine_momentum": lambda: {"progress": 0.5, "base": 0.99},
    "ema_update": lambda: {"teacher": nn.Linear(2, 3), "student": nn.Linear(2, 3), "momentum": 0.9},
    "teacher_of": lambda: {"student": nn.Linear(2, 3)},
    "mlp": lambda: {"sizes": (4, 5, 6), "norm": True, "last_norm": False},
    "nn.patches.patchify": lambda: {"images": pictures(), "patch": 8},
    "unpatchify": lambda: {"patches": torch.rand(2, 4, 192), "patch": 8, "grid": (2, 2)},
    "ViT": lambda: {
        "image_size": 16,
        "patch_size": 8,
        "width": 8,
        "depth": 1,
        "heads": 2,
        "positions": "sincos",
        "registers": 1,
    },
    "sincos_positions": lambda: {"rows": 2, "columns": 3, "width": 8, "scale": 1.0},
    "BYOL": method(width=8, out=4, momentum=0.9, predictor=True),
    "DINO": method(prototypes=8, small=1, momentum=0.9, balance="centre", ibot=0.0, masked=(0.1, 0.5), koleo=0.0),
    "MAE": method(ratio=0.75, norm_pix=True, width=8, depth=1, heads=2),
    "MoCoV3": method(temperature=0.2, width=8, out=4, momentum=0.9, fixed_patches=True),
    "SimCLR": method(temperature=0.2, width=8, out=4, strength=1.0),
    "SwAV": method(prototypes=8, temperature=0.1, epsilon=0.05, small=1, width=8, out=4, frozen=0.05),
    "DeepCluster": method(clusters=4, bank=16, components=4, colour="grey", balance=True, size=16),
    "RGBAndFlow": method(shown=2, out=4, temperature=0.2, size=16, apart=True),
    "SightAndSound": method(shown=2, negatives="both", hidden=8, size=16, level=True),
    "Colourisation": method(answer="classes", source="lightness", cell=4, size=16),
    "NextFrame": method(shown=2, target="change", size=16),
    "FreeLabels": method(labels=("depth",), size=16, scale=(0.2, 0.6)),
    "Jigsaw": method(permutations=4, hidden=8),
    "RelativePosition": method(hidden=8, colour="project"),
    "Rotation": method(turns=4, by="rot90", size=16),
    "FrameOrder": method(question="order", tuples=2, hidden=8, size=16, even=True),
    "Supervised": lambda: {"architecture": "convnext", "classes": 3, "smoothing": 0.1},
    "random_masking": lambda: {"n": 2, "patches": 9, "ratio": 0.5, "noise": torch.rand(2, 9)},
    "Plan": lambda: {"steps": 3, "lr": 1e-3, "warmup": 1, "betas": (0.9, 0.98), "batch": 2, "save_every": 2},
    "learn": lambda: {
        "method": SimCLR(ViT(16, 8, 8, 1, 2), width=8, out=4),
        "data": {"images": images(4, 16)},
        "plan": Plan(steps=1, batch=2, warmup=0),
        "seed": 0,
    },
    # pictures and words
    "ConSE": lambda: {"eyes": classifier(), "reader": clip(), "classes": ["nut", "cap", "pin"], "best": 2},
    "conse.combine": lambda: {"probabilities": torch.rand(2, 4), "vectors": torch.randn(4, 3), "best": 2},
    "conse.middle": lambda: {"images": images(), "share": 0.5},
    # pretext
    "adversarial": lambda: {
        "discriminator": nn.Sequential(nn.Flatten(), nn.Linear(192, 1)),
        "real": pictures(2, 8),
        "fake": pictures(2, 8),
    },
    "critic": lambda: {"width": 4},
    "unexplained_variance": lambda: {"prediction": torch.rand(4, 5), "target": torch.rand(4, 5), "where": masks(4, 5)},
    "colour.nearest_colour": lambda: {"ab": torch.randn(6, 2), "colours": torch.randn(3, 2)},
    "rgb_to_lab": lambda: {"images": pictures()},
    "holes": lambda: {"count": 2, "size": 16, "kind": "central", "generator": generator()},
    "diffuse": lambda: {"images": pictures(2, 8), "hole": masks(2, 1, 8, 8), "steps": 3},
    "lens": lambda: {"images": pictures(), "strength": 0.04},
    "match_edges": lambda: {"tiles": torch.rand(2, 9, 3, 4, 4), "permutations": torch.stack([torch.randperm(9)] * 3)},
    "mosaic": lambda: {"images": pictures()},
    "read_border": lambda: {"images": pictures(2, 16)},
    "read_lens": lambda: {"tiles": torch.rand(2, 9, 3, 16, 16)},
    "read_mosaic": lambda: {"raw": torch.rand(2, 1, 8, 8)},
    "permutation_set": lambda: {"n": 4, "count": 3, "generator": generator()},
    "spatial.rotate": lambda: {"images": pictures(), "quarters": torch.tensor([0, 3]), "by": "rot90"},
    "read_lamp": lambda: {"frames": torch.rand(2, 3, 3, 8, 8)},
    "read_place": lambda: {"frames": torch.rand(2, 3, 3, 16, 16), "flow": torch.randn(2, 2, 2, 16, 16)},
    "runtime.device": lambda: {"name": "cpu"},
    "has_bf16": lambda: {"where": torch.device("cpu")},
    # search
    "Origin": lambda: {"model": "dino", "preset": "tiny", "weights": "dino", "gadkit": "0.1", "depth": "8"},
    "Index": lambda: {
        "folder": Path("nowhere"),
        "origin": index.Origin("dino", "tiny", "dino", "0.1", "8"),
        "width": 3,
    },
    "index.opened": lambda: {"folder": kept_index()},
    "sets.photographs": lambda: {"size": 16},
    "kmeans": lambda: {"x": torch.randn(9, 3), "k": 3, "generator": generator(), "iterations": 3, "shared": False},
    "topk": lambda: {
        "queries": torch.randn(4, 3),
        "keys": torch.randn(6, 3),
        "k": 2,
        "metric": "l2",
        "chunk": 3,
    },
    # viz
    "plot_points": lambda: {"panels": {"a": torch.randn(5, 2)}, "limit": 3.0, "columns": 2, "size": 2.0},
    "show_tree": lambda: {"branches": [[(3, images(1, 8))]], "sizes": [4], "whole": 5, "columns": 2},
    "as_images": lambda: {"x": pictures()},
    "colour_fields": lambda: {"fields": torch.rand(2, 4, 4), "limits": (0.0, 1.0)},
    "show_fields": lambda: {
        "fields": torch.rand(1, 4, 4),
        "titles": ["a"],
        "columns": 1,
        "limits": (0.0, 1.0),
        "label": None,
    },
    "show_rows": lambda: {"rows": {"a": images(1, 8)}, "titles": ["b"]},
    "contact_sheet": lambda: {"images": images(2, 8), "columns": 2, "gap": 1},
    "overlay": lambda: {"images": images(2, 8), "maps": torch.rand(2, 8, 8), "scale": scale()},
    "show_comparison": lambda: {
        "images": images(1, 8),
        "maps": {"a": torch.rand(1, 8, 8)},
        "masks": masks(1, 8, 8),
        "scale": scale(),
        "titles": ["b"],
    },
    "show_detections": lambda: {
        "images": images(1, 8),
        "maps": torch.rand(1, 8, 8),
        "masks": masks(1, 8, 8),
        "scale": scale(),
        "titles": ["b"],
        "columns": 1,
    },
    "show_boxes": lambda: {
        "images": images(1, 8),
        "found": [some_boxes(2)],
        "words": ["a", "b"],
        "titles": ["b"],
        "columns": 1,
    },
    "average_precisions": lambda: {
        "found": [some_boxes(2)],
        "truth": [(some_boxes(2).boxes, torch.tensor([0, 1]))],
        "labels": [0, 1],
        "iou": 0.5,
    },
    "blobs": lambda: {"images": images(1, 8), "labels": 2},
    "corners": lambda: {"boxes": torch.rand(3, 4)},
    "centres": lambda: {"boxes": some_boxes(3).boxes},
    "generalized_iou": lambda: {"a": some_boxes(3).boxes, "b": some_boxes(3).boxes},
    "detection.match": lambda: {
        "logits": torch.randn(4, 3),
        "boxes": torch.rand(4, 4),
        "labels": torch.tensor([0, 2]),
        "true": torch.rand(2, 4),
        "costs": Costs(),
    },
    "learn_pieces": lambda: {"corpus": ["a red gear", "a bolt"], "endings": 3},
    "scenes.render": lambda: {
        "count": 1,
        "seed": 1,
        "size": 32,
        "split": "seen",
        "parts": (1, 2),
        "defective": 0.0,
        "purpose": "test",
    },
    "words.texts": lambda: {"categories": ["gear"], "template": "a {}"},
    "words.truth": lambda: {"things": [], "categories": ["gear"], "least": 0.1},
    "show_images": lambda: {"images": images(1, 8), "titles": ["b"], "columns": 1, "masks": masks(1, 8, 8)},
    "show_windows": lambda: {"image": images(1, 8)[0], "grid": (2, 2), "windows": [(0, 0, 1, 1)], "titles": ["b"]},
    "plot_bars": lambda: {"values": {"a": [0.5, 0.6]}, "xlabel": "x", "start": 0.5, "highlight": "a"},
    "plot_curves": lambda: {"curves": {"a": ([0, 1], [0.5, 1])}, "xlabel": "x", "ylabel": "y", "diagonal": True},
    "plot_table": lambda: {
        "values": np.array([[0.5, 0.7], [0.9, 0.1]]),
        "better": np.array([[0.0, 0.0], [1.0, -0.5]]),
        "groups": {"": ["random"], "learnt": ["simclr"]},
        "columns": ["k-NN", "linear"],
    },
    "plot_roofline": lambda: {"points": {"a": ([1.0, 2.0], [3e9, 4e9])}, "bandwidth": 1e9, "peak": 9e9},
    "plot_scatter": lambda: {"points": {"a": (0.5, 0.6)}, "xlabel": "x", "ylabel": "y", "highlight": ("a",)},
    "plot_scores": lambda: {"groups": {"a": [0.1, 0.2]}, "threshold": 0.5, "xlabel": "x"},
    "plot_shots": lambda: {
        "results": {"a": np.ones((2, 3))},
        "shots": (1, 2),
        "ylabel": "y",
        "reference": {"chance": 0.5},
    },
    "Scale": lambda: {"low": 0.0, "high": 1.0, "middle": 0.5},
    "anomaly_scale": lambda: {"normal_maps": torch.rand(2, 4, 4), "quantile": 0.9, "top": 2.0},
    "outlined": lambda: {"images": images(1, 8), "masks": masks(1, 8, 8), "width": 1},
    # objects
    "middle": lambda: {"masks": masks(2, 6, 5)},
    "clicks.curve": lambda: {
        "model": segmenter(),
        "images": images(1, 24),
        "masks": [masks(2, 24, 24)],
        "clicks": 2,
    },
    "mask_loss": lambda: {
        "logits": torch.randn(2, 3, 4, 4),
        "iou": torch.rand(2, 3),
        "truth": torch.rand(2, 1, 4, 4),
    },
    "mask_iou": lambda: {"one": masks(2, 4, 4), "other": ~masks(2, 4, 4)},
    "otsu": lambda: {"image": images(1, 8)[0], "points": torch.rand(2, 2) * 8},
    "box_filled": lambda: {"boxes": torch.tensor([[1.0, 1.0, 3.0, 4.0]]), "height": 5, "width": 6},
    "automatic": lambda: {
        "model": segmenter(),
        "image": images(1, 24)[0],
        "side": 2,
        "least_iou": 0.1,
        "least_stability": 0.1,
    },
    # words
    "quantise": lambda: {"places": torch.rand(2, 4) * 8, "size": (8, 8)},
    "dequantise": lambda: {"bins": torch.randint(1000, (2, 4)), "size": (8, 8)},
    "labelled": lambda: {"found": [Named(torch.tensor([[1.0, 1, 3, 4]]), torch.ones(1), ("gear",))]},
    "spell": lambda: {"bins": [0, 999]},
    "trace": lambda: {"mask": masks(1, 8, 8)[0], "points": 6, "least": 0.1},
    "fill": lambda: {"outlines": [[1.0, 1.0, 6.0, 1.0, 6.0, 6.0]], "size": (8, 8)},
    "weights.header": lambda: {"path": weights.ASSETS / "vit.safetensors"},
    "regions.embed": lambda: {"backbone": encoder(), "image": images(1)[0], "masks": masks(2, 32, 32)},
}

EXCLUDED = {
    "NothingFound": "a warning",
    "protocols.Tokens": "an answer of a backbone, read and never written by a page",
    "heirs.small_sam2": "a network of fixed sizes, drawn by a seed that torch checks",
    "heirs.small_sam3": "as small_sam2",
    "blip2.documents": "takes the texts and the reader that `write` and `load` make",
    "catalogue.category": "decorates a function, and leaves it in the catalogue of all later tests",
    "shapes.bevel": "called hundreds of times a photograph: a check would cost more than the arithmetic",
    "shapes.polygon": "as bevel",
    "shapes.box": "as bevel",
    "shapes.ring": "as bevel",
    "shapes.radius": "as bevel",
    "anomaly.benchmark.Result": "a record that `run` writes and a file keeps; pages only read it",
    "runtime.computed_on": "takes no argument",
    "build_tiny_clip": "sizes of a network: a wrong one is an error of the library's own layers",
    "Pairs": "takes a network, which the recipe makes; `training.train` checks what it is given",
    "pairs.prepare": "as Pairs",
    "pairs.standardise": "as Pairs",
    "embed": "a step inside the tower, open to gradients; `encode_image` checks what it is given",
    "owl_vit.predict": "a step inside, open to gradients; `detect` checks what it is given",
    "grounding_dino.build": "sizes of a network: a wrong one is an error of the library's own layers",
    "grounding_dino.processor_for": "as build",
    "DinoConfig": "as build",
    "GroundingDino": "takes a network and its processor, which `load` makes",
    "corpus": "takes no argument",
}

METHODS: list[tuple[str, Callable[..., Any], Arguments]] = [
    ("Encoder.encode_image", lambda **a: encoder().encode_image(**a), lambda: {"images": pictures(), "layers": (0,)}),
    ("Encoder.preprocess", lambda **a: encoder().preprocess(**a), lambda: {"images": images()}),
    ("KNN.fit", lambda **a: KNN(encoder()).fit(**a), lambda: {"normal": images()}),
    ("KNN.score", lambda **a: KNN(encoder()).fit(images()).score(**a), lambda: {"images": images()}),
    ("PatchKNN.score", lambda **a: PatchKNN(encoder()).fit(images()).score(**a), lambda: {"images": images()}),
    ("WinCLIP.fit", lambda **a: WinCLIP(clip(), "nut").fit(**a), lambda: {"normal": images(2)}),
    ("WinCLIP.score", lambda **a: fitted().score(**a), lambda: {"images": images(1)}),
]
