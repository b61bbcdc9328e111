"""The table of names: what stands behind each, one row a name.

Book: intro/run-it
"""

from dataclasses import dataclass
from typing import Any

from gadkit.weights import Weights

PRESETS = ("tiny", "paper")
IMAGE, TEXT, METHOD, HEADS = "image encoder", "text encoder", "method", "heads"  # what a name can give
OBJECTS = ("promptable segmenter", "open-vocabulary detector", "universal segmenter")  # and what object models give
PROMPTABLE, OPEN_VOCABULARY, UNIVERSAL = OBJECTS
READER = "reader"  # a model that answers in words: captions, answers, matches
HUB = "https://huggingface.co/"


@dataclass(frozen=True)
class Row:
    """A name and what stands behind it.

    `gives` lists what `load` makes of it, first what it makes unless asked.  `tiny` and `paper` are its weights under
    the two presets, or the reason why there are none.  `trains`: whether `gadkit train NAME` makes the weights.
    """

    name: str
    gives: tuple[str, ...]
    tiny: Weights | str
    paper: Weights | str
    trains: bool = False

    def under(self, preset: str) -> Weights | str:
        """The weights under a preset, or the reason why there are none."""
        return {"tiny": self.tiny, "paper": self.paper}[preset]


def _random(name: str, gives: tuple[str, ...], card: str, adapter: str, **options: Any) -> Row:
    """A network as it is before training: the control of every table, the same under every preset."""
    options |= {"random": True}
    blank = Weights("gadkit", "random weights, seed 0", "MIT", 0.0, card, "nothing", adapter, options)
    return Row(name, gives, blank, blank)


def _own(
    name: str, size: float, paper: Weights | str, pool: str | None = None, adapter: str = "vit", **options: Any
) -> Row:
    """A method of Parts I and II: its encoder, and the whole with its heads, as `gadkit train NAME` made them."""
    options |= {"pool": pool} if pool else {}
    tiny = Weights("gadkit", name, "MIT", size, "representations.md", "the factory", adapter, options)
    return Row(name, (IMAGE, METHOD), tiny, paper, True)


def _clip(name: str, size: float, trained_on: str) -> Weights:
    """A small CLIP, as `gadkit train NAME` made it."""
    return Weights("gadkit", name, "MIT", size, f"{name}.md", trained_on, "tiny-clip")


def _heads(name: str, size: float, paper: str) -> Row:
    """The trained part of a detector, as `gadkit train NAME` made it."""
    return Row(name, (HEADS,), Weights("gadkit", name, "MIT", size, f"{name}.md", "the factory", "heads"), paper, True)


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


def _timm(
    id: str, licence: str, size: float | None, card: str = "", trained_on: str = "ImageNet-1k", **options: Any
) -> Weights:
    """Published weights that timm reads; `options` say what timm's own registry does not know of them."""
    return Weights("timm", id, licence, size, card or HUB + id, trained_on, "timm", options)


def _sam(kind: str, file: str, size: float) -> Weights:
    """A published SAM, which segment_anything's registry builds."""
    id, home = f"https://dl.fbaipublicfiles.com/segment_anything/{file}", "https://github.com/facebookresearch/"
    card = f"{home}segment-anything"
    return Weights("segment_anything", id, "Apache-2.0", size, card, "SA-1B: 11 M images", "sam", {"kind": kind})


def _siglip(id: str, size: float | None) -> Weights:
    """A published SigLIP of one image size."""
    return Weights(
        "transformers", id, "Apache-2.0", size, HUB + id, "WebLI: pictures with texts from the web", "siglip"
    )


OLD = "what its authors published, if anything, is for networks and libraries of their day"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels
RESNET50 = {"architecture": "resnet50"}
LITE = {"architecture": "tf_efficientnet_lite0", "patch_layers": (1, 2, 3, 4), "classifier": True}  # strides 4 to 32
REAL = "efficientnet-lite0"
MINILM = Weights(
    *("transformers", "sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0", 90.9),
    *(f"{HUB}sentence-transformers/all-MiniLM-L6-v2", "1.17 billion pairs of sentences", "sentences"),
)

PUBLISHED = Weights(  # trained from scratch, as published CLIPs are
    "open_clip",
    "ViT-B-16-plus-240/laion400m_e31",
    "MIT (open_clip)",
    833.0,
    "https://github.com/mlfoundations/open_clip",
    "LAION-400M",
    "open_clip",
)

PAIRED = "ImageNet-1k, then the factory and its captions"
OPENAI = Weights(  # the first CLIP
    *("open_clip", "ViT-B-16-quickgelu/openai", "MIT (OpenAI)", None),
    *("https://github.com/openai/CLIP", "400 million pictures with texts from the web", "open_clip"),
)

ROWS: tuple[Row, ...] = (
    _random("random", (IMAGE,), "representations.md", "vit"),
    _random("clip-random", (IMAGE, TEXT), "clip.md", "tiny-clip"),
    Row(  # the one published network that fits into the package
        REAL,
        (IMAGE,),
        Weights(
            *("timm", REAL, "Apache-2.0", 9.4, f"{REAL}.md", "ImageNet-1k", "timm"),
            {**LITE, "shipped": f"{REAL}.safetensors"},
        ),
        _timm("timm/tf_efficientnet_lite0.in1k", "Apache-2.0", 18.8, **LITE),
    ),
    _random("efficientnet-random", (IMAGE,), f"{REAL}.md", "timm", **LITE),
    Row("clip", (IMAGE, TEXT), _clip("clip", 4.3, PAIRED), PUBLISHED, True),
    Row("clip-scratch", (IMAGE, TEXT), _clip("clip-scratch", 5.1, "the factory and its captions"), PUBLISHED, True),
    Row("clip-pairs", (IMAGE, TEXT), _clip("clip-pairs", 4.3, PAIRED), OPENAI, True),
    Row(
        "siglip",
        (IMAGE, TEXT),
        _clip("siglip", 4.3, PAIRED),
        _siglip("google/siglip-base-patch16-224", 813.0),
        True,
    ),
    Row(
        "siglip2",
        (IMAGE, TEXT),
        "its recipe adds captions, masked patches and a teacher to siglip's, and was not built small",
        _siglip("google/siglip2-base-patch16-224", None),
    ),
    Row(
        "inctrl",
        (HEADS,),
        Weights("gadkit", "inctrl", "MIT", 0.1, "inctrl.md", "the factory, through clip", "heads"),
        "its authors' checkpoints lie on Google Drive; one that was fetched can be given as the file of heads",
        True,
    ),
    Row(  # AnomalyCLIP's, with images of 518 pixels
        "clip-large",
        (IMAGE, TEXT),
        "1.7 GB do not fit into a package",
        Weights(
            *("open_clip", "ViT-L-14-336-quickgelu/openai", "MIT (OpenAI)", None),
            *("https://github.com/openai/CLIP", "400 million pictures with texts from the web", "open_clip"),
            {"image_size": 518},
        ),
    ),
    # the published ones, but for DINOv2, learnt from ImageNet-1k alone, so that the method is what differs
    _own(
        "simclr",
        2.6,
        _timm(  # its network takes pixels in [0, 1] as they are
            "lightly-ai/simclrv1-imagenet1k-resnet50-1x",
            "Apache-2.0",
            103.0,
            record={
                "mean": (0.0,) * 3,
                "std": (1.0,) * 3,
                "interpolation": "bicubic",
                "hf_hub_filename": "resnet50-1x.pth",
            },
            inside="state_dict",
            **RESNET50,
        ),
        "cls",
    ),
    _own(
        "mocov3",
        2.8,
        _timm(
            "nyu-visionx/moco-v3-vit-b",
            "unknown (this copy), CC BY-NC 4.0 (the authors')",
            346.0,
            architecture="vit_base_patch16_224",
            record={"mean": MEAN, "std": STD, "interpolation": "bilinear"},  # as in the authors' evaluation
        ),
        "cls",
    ),
    _own("byol", 2.7, "its authors' checkpoint is a pickle for JAX", "cls"),
    _own(
        "swav",
        2.6,
        _timm(
            "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
            "CC BY-NC 4.0 (the repository's)",
            None,
            "https://github.com/facebookresearch/swav",
            record={"mean": MEAN, "std": (0.228, 0.224, 0.225), "interpolation": "bilinear", "num_classes": 0},
            strip="module.",
            drop=("projection_head.", "prototypes."),
            **RESNET50,
        ),
        "cls",
    ),
    _own("dino", 2.7, _timm("timm/vit_base_patch16_224.dino", "Apache-2.0", 343.0), "cls"),
    _own(
        "dinov2",
        2.7,
        _timm("timm/vit_base_patch14_reg4_dinov2.lvd142m", "Apache-2.0", 346.0, trained_on="LVD-142M"),
        "cls",
        registers=4,
    ),
    _own("mae", 2.7, _timm("timm/vit_base_patch16_224.mae", "CC BY-NC 4.0", 343.0), "mean"),
    _own("colourisation", 2.5, OLD, "mean"),
    _own("inpainting", 2.6, OLD, "mean"),
    _own("autoencoder", 2.7, OLD, "mean"),
    _own("next-frame", 3.0, OLD, "mean"),
    _own("rotation", 2.4, OLD, "mean"),
    _own("jigsaw", 2.7, OLD, "mean"),
    _own("relative-position", 2.5, OLD, "mean"),
    _own("deepcluster", 2.5, OLD, "mean"),
    _own("frame-order", 2.5, OLD, "mean"),
    _own("free-labels", 2.6, OLD, "mean"),
    _own("sight-and-sound", 2.8, OLD, "mean"),
    _own("rgb-and-flow", 2.9, OLD, "mean"),
    _own("vit", 2.5, _timm("timm/vit_base_patch16_224.augreg_in1k", "Apache-2.0", 346.0), adapter="tiny-timm"),
    _own(
        "convnext",
        2.5,
        _timm("timm/convnext_base.fb_in1k", "Apache-2.0 (this copy), MIT (the authors')", 354.0),
        adapter="tiny-timm",
    ),
    _own("swin", 2.6, _timm("timm/swin_base_patch4_window7_224.ms_in1k", "MIT", 353.0), adapter="tiny-timm"),
    Row("minilm", (TEXT,), MINILM, MINILM),
    Row(
        "made-up",
        (HEADS,),
        Weights("gadkit", "made-up", "MIT", 0.6, "made-up.md", "the factory", ""),
        "AnomalyVFM's weights come with code of their own, which `from_pretrained` of that repository runs; it is no "
        "package, and its adapters lie within other eyes (RADIO, DINOv2, CLIP, SigLIP 2)",
        trains=True,
    ),
    _heads("anomalyclip", 0.003, "https://github.com/zqhang/AnomalyCLIP has files for --heads, for clip-large"),
    _heads("uniadet", 0.005, "its authors have published none"),
    Row(  # SAA's: an OWL-ViT that was taught what defects are called; the published one has read enough
        "defect-finder",
        (OPEN_VOCABULARY,),
        Weights(
            *("gadkit", "defect-finder", "MIT", 4.5, "defect-finder.md"),
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
    _random("sam-random", (PROMPTABLE,), "sam.md", "sam", config={"eyes": REAL}),
    _detector("owl-vit", 4.5, "google/owlvit-base-patch32", "ImageNet-1k, then the factory, its captions and scenes"),
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
        "its three trainings, gadkit train mask2former, were not run for the package; give their file to "
        "gadkit.objects.universal.load",
        Weights(
            *("transformers", "facebook/mask2former-swin-tiny-coco-panoptic", "other (its page says)", None),
            *(f"{HUB}facebook/mask2former-swin-tiny-coco-panoptic", "COCO", "published-universal"),
            {"kind": "mask2former", "task": "panoptic"},
        ),
        True,
    ),
    _random("oneformer-random", (UNIVERSAL,), "oneformer.md", "universal", kind="oneformer"),
    Row(
        "seem",
        (PROMPTABLE,),
        _object("seem", 1.73, "seem"),
        "its authors' checkpoints need their own code, which is no package",
        True,
    ),
    _random("seem-random", (PROMPTABLE,), "seem.md", "seem"),
    _reader(
        "blip",
        4.6,
        Weights(
            *("transformers", "Salesforce/blip-image-captioning-base", "BSD-3-Clause", None),
            *(f"{HUB}Salesforce/blip-image-captioning-base", "image-text pairs from the web, then COCO", "blip"),
            {"answering": "Salesforce/blip-vqa-base", "matching": "Salesforce/blip-itm-base-coco"},
        ),
    ),
    _random("blip-random", (READER,), "blip.md", "blip"),
    _reader(
        "blip2",
        4.6,
        Weights(
            *("transformers", "Salesforce/blip2-opt-2.7b", "MIT", None),
            *(f"{HUB}Salesforce/blip2-opt-2.7b", "image-text pairs from the web", "blip2"),
        ),
    ),
    _random("blip2-random", (READER,), "blip2.md", "blip2"),
    Row(
        "florence2",
        (READER,),
        "none are shipped yet; `gadkit train florence2` makes them",
        Weights(
            *("transformers", "florence-community/Florence-2-base", "MIT", None),
            *(f"{HUB}florence-community/Florence-2-base", "FLD-5B", "florence2"),
        ),
        True,
    ),
    _random("florence2-random", (READER,), "florence2.md", "florence2"),
)
