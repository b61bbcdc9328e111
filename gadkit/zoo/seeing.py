"""The rows of models that see objects, and of those that answer in words.

Book: intro/run-it
"""

from typing import Any

from gadkit.weights import Weights
from gadkit.zoo.row import HUB, OPEN_VOCABULARY, PROMPTABLE, READER, REAL, UNIVERSAL, Row, random_row


def _detector(name: str, size: float | None, id: str, trained_on: str) -> Row:
    """A detector of words, as `gadkit train NAME` made it, and the one that its authors published."""
    theirs = Weights("transformers", id, "Apache-2.0", None, HUB + id, "image-text pairs and boxes", name)
    ours = Weights("gadkit", name, "MIT", size, f"{name}.md", trained_on, name)
    made = f"none are shipped yet; `gadkit train {name}` makes them"
    return Row(name, (OPEN_VOCABULARY,), made if size is None else ours, theirs, True)


def _object(name: str, size: float, adapter: str, **options: Any) -> Weights:
    """A tiny model that sees objects, as `gadkit train NAME` made it, through the eyes that the package ships."""
    trained_on = "ImageNet-1k, then the factory's scenes"
    return Weights("gadkit", name, "MIT", size, f"{name}.md", trained_on, adapter, options)


def _reader(name: str, size: float | None, published: Weights) -> Row:
    """A model that answers in words, as `gadkit train NAME` made it, and what its authors published."""
    trained_on = "ImageNet-1k, then the factory, its captions and answers"
    ours = Weights("gadkit", name, "MIT", size, f"{name}.md", trained_on, name)
    made = f"none are shipped yet; `gadkit train {name}` makes them"
    return Row(name, (READER,), made if size is None else ours, published, True)


def _sam(kind: str, file: str, size: float) -> Weights:
    """A published SAM, which segment_anything's registry builds."""
    id, home = f"https://dl.fbaipublicfiles.com/segment_anything/{file}", "https://github.com/facebookresearch/"
    card = f"{home}segment-anything"
    return Weights("segment_anything", id, "Apache-2.0", size, card, "SA-1B: 11 M images", "sam", {"kind": kind})


SEEING = (
    Row(  # SAA's: an OWL-ViT that was taught what defects are called; the published one has read enough
        "defect-finder",
        (OPEN_VOCABULARY,),
        Weights(
            *("gadkit", "defect-finder", "MIT", 2.9, "defect-finder.md"),
            *("ImageNet-1k, then the factory, its captions and its defects", "owl-vit"),
        ),
        Weights(
            *("transformers", "IDEA-Research/grounding-dino-tiny", "Apache-2.0", None),
            *(f"{HUB}IDEA-Research/grounding-dino-tiny", "image-text pairs and boxes", "grounding-dino"),
        ),
        True,
    ),
    Row(
        "sam",
        (PROMPTABLE,),
        Weights("gadkit", "sam", "MIT", 2.4, "sam.md", "the factory's scenes", "sam"),
        _sam("vit_h", "sam_vit_h_4b8939.pth", 2564.6),
        True,
    ),
    Row("sam-large", (PROMPTABLE,), "1.2 GB do not fit into a package", _sam("vit_l", "sam_vit_l_0b3195.pth", 1249.5)),
    Row("sam-base", (PROMPTABLE,), "375 MB do not fit into a package", _sam("vit_b", "sam_vit_b_01ec64.pth", 375.0)),
    random_row("sam-random", (PROMPTABLE,), "sam.md", "sam", config={"eyes": REAL}),
    Row(
        "sam-2",
        (PROMPTABLE,),
        "no small one was trained; sam is the one that is",
        Weights(
            *("transformers", "facebook/sam2.1-hiera-tiny", "Apache-2.0", None),
            *(f"{HUB}facebook/sam2.1-hiera-tiny", "SA-V: videos, and SA-1B", "sam-heirs"),
            {"kind": "sam2"},
        ),
    ),
    Row(
        "sam-3",
        (OPEN_VOCABULARY,),
        "no small one was trained; owl-vit and sam together come nearest",
        Weights(
            *("transformers", "facebook/sam3", "other (its page says)", None),
            *(f"{HUB}facebook/sam3", "SA-Co: images and videos with noun phrases", "sam-heirs"),
            {"kind": "sam3"},
        ),
    ),
    _detector("owl-vit", 2.9, "google/owlvit-base-patch32", "ImageNet-1k, then the factory, its captions and scenes"),
    _detector("grounding-dino", None, "IDEA-Research/grounding-dino-tiny", "ImageNet-1k, then the factory's scenes"),
    Row(
        "oneformer",
        (UNIVERSAL,),
        _object("oneformer", 0.95, "universal", kind="oneformer"),
        Weights(
            *("transformers", "shi-labs/oneformer_ade20k_swin_tiny", "MIT", None),
            *(f"{HUB}shi-labs/oneformer_ade20k_swin_tiny", "ADE20K", "published-universal"),
            {"kind": "oneformer"},
        ),
        True,
    ),
    Row(
        "mask2former",
        (UNIVERSAL,),
        _object("mask2former", 1.99, "universal", kind="mask2former"),
        Weights(
            *("transformers", "facebook/mask2former-swin-tiny-coco-panoptic", "other (its page says)", None),
            *(f"{HUB}facebook/mask2former-swin-tiny-coco-panoptic", "COCO", "published-universal"),
            {"kind": "mask2former", "task": "panoptic"},
        ),
        True,
    ),
    random_row("oneformer-random", (UNIVERSAL,), "oneformer.md", "universal", kind="oneformer"),
    Row(
        "seem",
        (PROMPTABLE,),
        _object("seem", 1.73, "seem"),
        "its authors' checkpoints need their own code, which is no package",
        True,
    ),
    random_row("seem-random", (PROMPTABLE,), "seem.md", "seem"),
    _reader(
        "blip",
        4.6,
        Weights(
            *("transformers", "Salesforce/blip-image-captioning-base", "BSD-3-Clause", None),
            *(f"{HUB}Salesforce/blip-image-captioning-base", "image-text pairs from the web, then COCO", "blip"),
            {"answering": "Salesforce/blip-vqa-base", "matching": "Salesforce/blip-itm-base-coco"},
        ),
    ),
    random_row("blip-random", (READER,), "blip.md", "blip"),
    _reader(
        "blip2",
        4.6,
        Weights(
            *("transformers", "Salesforce/blip2-opt-2.7b", "MIT", None),
            *(f"{HUB}Salesforce/blip2-opt-2.7b", "image-text pairs from the web", "blip2"),
        ),
    ),
    random_row("blip2-random", (READER,), "blip2.md", "blip2"),
    Row(
        "florence2",
        (READER,),
        Weights(
            *("gadkit", "florence2", "MIT", 4.6, "florence2.md"),
            *("ImageNet-1k, then the factory's scenes, photographs and captions", "florence2"),
        ),
        Weights(
            *("transformers", "florence-community/Florence-2-base", "MIT", None),
            *(f"{HUB}florence-community/Florence-2-base", "FLD-5B", "florence2"),
        ),
        True,
    ),
    random_row("florence2-random", (READER,), "florence2.md", "florence2"),
)
