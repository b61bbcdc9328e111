"""Questions whose answers come with the data: pretext tasks in the four families of Jing and Tian's survey.

Book: pretext/context, pretext/generation, pretext/semantic
"""

from gadkit.pretext.clusters import DeepCluster
from gadkit.pretext.crossmodal import RGBAndFlow, SightAndSound
from gadkit.pretext.generative import Autoencoder, Colourisation, Inpainting
from gadkit.pretext.prediction import NextFrame
from gadkit.pretext.semantic import FreeLabels
from gadkit.pretext.spatial import Jigsaw, RelativePosition, Rotation
from gadkit.pretext.temporal import FrameOrder

__all__ = [
    "Autoencoder",
    "Colourisation",
    "DeepCluster",
    "FrameOrder",
    "FreeLabels",
    "Inpainting",
    "Jigsaw",
    "NextFrame",
    "RGBAndFlow",
    "RelativePosition",
    "Rotation",
    "SightAndSound",
]
