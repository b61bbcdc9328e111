"""Every detector, one row each: the command line, the report and the benchmark know this table and the protocol only.

    >>> from gadkit.anomaly.detectors import DETECTORS, build
    >>> DETECTORS["patch-knn"].zero_shot
    False

A new detector is a file beside this one, with a class on `base.Base`, and a row here.

Book: anomaly/winclip, anomaly/settings, anomaly/failures, anomaly/field
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the table is read by `gadkit --help`, which does not wait for torch
    from pathlib import Path

    from torch import Tensor

    from gadkit.protocols import Backbone, Detector


@dataclass(frozen=True)
class DetectorSpec:
    """One detector: the module here and the class in it, how it is called, and what it needs.

    `zero_shot`, `few_shot` and `batched` are its names in a report: without normal images, with some, and fitted on the
    very images to score, of which none is known to be good; empty where it can't do that.
    `about` is a line for `--help`.  `object_name` is for detectors that read: their second argument says what the
    images show.  `backbone` is the name of the default one; a detector that reads needs one with a text tower.
    `heads` is for those with a part that was trained before: its weights are the row of the detector's name in the zoo.
    `bank` is for those whose memory of good parts can be bounded: they take `bank`, in megabytes.
    `pixels` is for those that work on pixels themselves: another backbone would change nothing.
    `objects` is for those that stand on models that see objects: the names in the zoo of their arguments `finder`, an
    open-vocabulary detector, and `segmenter`, a promptable one.  Such a detector reads by its finder.
    `parameters` are those of the class that were settled on development, where they differ from its defaults.
    """

    module: str
    kind: str
    about: str
    zero_shot: str = ""
    few_shot: str = ""
    batched: str = ""
    object_name: bool = False
    backbone: str = "clip"
    bank: bool = False
    heads: bool = False
    pixels: bool = False
    objects: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


OBJECTS = ("defect-finder", "sam")
DETECTORS = {
    "winclip": DetectorSpec(
        *("winclip", "WinCLIP"),
        "compares with words for good and damaged parts, and with good parts where there are some",
        zero_shot="WinCLIP",
        few_shot="WinCLIP+",
        object_name=True,
    ),
    "patch-knn": DetectorSpec(
        *("knn", "PatchKNN"),
        "compares each patch, and the whole, with the most similar of the good parts",
        few_shot="Nearest patches",
        backbone="efficientnet-lite0",
        bank=True,
        parameters={"extent": 1.0},
    ),
    "subspace": DetectorSpec(
        *("subspace", "SubspaceAD"),
        "compares each patch with the plane in which those of the good parts lie",
        few_shot="SubspaceAD",
        backbone="efficientnet-lite0",
        parameters={"explained": 0.9, "turns": 8},
    ),
    "musc": DetectorSpec(
        *("musc", "MuSc"),
        "compares the photographs with each other, patch by patch; none is known to be good",
        batched="MuSc",
        backbone="efficientnet-lite0",
    ),
    "made-up": DetectorSpec(
        *("made_up", "MadeUp"),
        "scores each image by itself, as learnt from made-up defects of other products, without words",
        zero_shot="Made-up defects",
        backbone="efficientnet-lite0",
        heads=True,
    ),
    "knn": DetectorSpec(
        *("knn", "KNN"),
        "compares each image as a whole with the most similar good part",
        few_shot="Nearest images",
        backbone="efficientnet-lite0",
    ),
    "colour": DetectorSpec(
        *("colour", "Colour"),
        "compares the colour of each spot with those of the good parts: a baseline without a network",
        few_shot="Colours",
        backbone="random",
        pixels=True,
    ),
    "inctrl": DetectorSpec(
        *("inctrl", "InCTRL"),
        "compares with good parts and with words, weighed by heads that learnt from other products",
        few_shot="InCTRL",
        object_name=True,
        heads=True,
    ),
    "anomalyclip": DetectorSpec(
        *("anomalyclip", "AnomalyCLIP"),
        "compares with two descriptions that were learnt on other products, and needs no name",
        zero_shot="AnomalyCLIP",
        heads=True,
        parameters={"blocks": 1},  # 3 of 4, in proportion to the paper's, blurred the small CLIP's maps
    ),
    "uniadet": DetectorSpec(
        *("uniadet", "UniADet"),
        "compares with vectors of good and damaged parts that were learnt on other products, without words",
        zero_shot="UniADet",
        backbone="efficientnet-lite0",
        heads=True,
    ),
    "saa": DetectorSpec(
        *("saa", "SAA"),
        "looks for what words for defects name, and outlines it",
        zero_shot="SAA",
        object_name=True,
        backbone="efficientnet-lite0",
        objects=OBJECTS,
        parameters={"use": ()},
    ),
    "saa+": DetectorSpec(
        *("saa", "SAA"),
        "the same, guided by what is known of the part and by what stands out in the image",
        zero_shot="SAA+",
        object_name=True,
        backbone="efficientnet-lite0",
        objects=OBJECTS,
    ),
}


def default(normal: bool, named: bool = True) -> str:
    """The name of the detector to take where nobody chose one, with `normal` images or without.

    `named`: whether an object name is given; without normal images a detector that reads is taken only then.

    `python -m experiments.detectors` measures the candidates on development.  Over all conditions there, a plane has an
    image AUROC of 0.941 and nearest patches 0.872; a tenth of WinCLIP's score beside the plane's adds 0.001, too little
    to ask for a name.
    """
    return "subspace" if normal else "winclip" if named else "anomalyclip"


def build(
    name: str,
    backbone: "Backbone",
    object_name: str | None = None,
    heads: "Mapping[str, Tensor] | Path | None" = None,
    preset: str | None = None,
    **parameters: Any,
) -> "Detector":
    """The detector of that name on a backbone, not fitted; `parameters` go to its class, and over those of its row.

    `object_name` says what the images show; detectors that do not read ignore it.  `heads` is the trained part of a
    detector that has one, as tensors or in a file; by default the zoo's under `preset`.  A detector on models that see
    objects takes its `finder` and `segmenter` as networks, or by their names in the zoo.  Raises ValueError for an
    unknown name, for a missing object name, for heads where there are none, and as the class does;
    `WeightsUnavailable` for a trained part, finder or segmenter that has no weights under the preset.
    """
    from gadkit import zoo
    from gadkit.anomaly.detectors.base import check_backbone
    from gadkit.checks import one_of

    row = DETECTORS[one_of("detector", name, DETECTORS)]
    check_backbone(backbone)
    if row.object_name and object_name is None:
        raise ValueError(f'detector: {name} reads, so it expects an object name such as "metal nut", got none')
    if row.heads:
        known = isinstance(heads, Mapping)
        parameters["heads"] = heads if known else zoo.load(name, preset, str(backbone.device), file=heads)
    elif heads is not None:
        raise ValueError(f"heads: expected none, for {name} has no part that is trained before")
    parameters |= networks(name, str(backbone.device), preset, **parameters)
    kind = getattr(importlib.import_module(f"{__name__}.{row.module}"), row.kind)
    return kind(backbone, *([object_name] if row.object_name else []), **{**row.parameters, **parameters})


def networks(name: str, device: str, preset: str | None = None, **given: Any) -> dict[str, Any]:
    """The finder and the segmenter of a detector of the table, if it has them: as given, or by their names in the zoo.

    Raises ValueError for a name that is none of theirs, and for either where the detector has none;
    `WeightsUnavailable` for one without weights under `preset`.
    """
    from gadkit import zoo
    from gadkit.checks import one_of

    kinds = {"finder": zoo.OPEN_VOCABULARY, "segmenter": zoo.PROMPTABLE}
    if not DETECTORS[name].objects:
        if wrong := [what for what in kinds if given.get(what) is not None]:
            raise ValueError(f"{wrong[0]}: expected none, for {name} stands on no models that see objects")
        return {}
    found = {}
    for (what, gives), usual in zip(kinds.items(), DETECTORS[name].objects, strict=True):
        asked = given.get(what) or usual
        if isinstance(asked, str):
            asked = zoo.load(one_of(what, asked, zoo.list(gives)), preset, device, gives=gives)
        found[what] = asked
    return found


def backbone_of(name: str, asked: str | None = None, preset: str | None = None) -> str:
    """The name of the backbone for a detector of the table: `asked`, by default the one of its row.

    Raises ValueError for an unknown name, for a backbone without a text tower where the detector reads by it, and for
    any where it works on pixels; `WeightsUnavailable` for one that has no weights under `preset`.
    """
    from gadkit import zoo

    row = DETECTORS[name]
    if row.pixels and asked is not None:
        raise ValueError(f"--backbone: {name} works on pixels, so it expects none, got {asked!r}")
    backbone = asked or row.backbone
    zoo.check([backbone], preset, "--backbone")
    if row.object_name and not row.objects and zoo.TEXT not in zoo.row(backbone).gives:
        readers = ", ".join(other for other in zoo.list(zoo.TEXT) if zoo.IMAGE in zoo.row(other).gives)
        raise ValueError(f"--backbone: {name} reads, so it expects one of {readers}, got {backbone!r}")
    return backbone


def __getattr__(name: str) -> Any:
    """The classes of the table, imported when they are asked for."""
    for row in DETECTORS.values():
        if row.kind == name:
            return getattr(importlib.import_module(f"{__name__}.{row.module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
