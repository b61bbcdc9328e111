"""The table of names: what stands behind each, one row a name.

Book: intro/run-it
"""

from typing import Any

from gadkit.weights import Weights
from gadkit.zoo.row import HEADS, HUB, IMAGE, METHOD, REAL, TEXT, Row, random_row
from gadkit.zoo.seeing import SEEING


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


def _timm(
    id: str, licence: str, size: float | None, card: str = "", trained_on: str = "ImageNet-1k", **options: Any
) -> Weights:
    """Published weights that timm reads; `options` say what timm's own registry does not know of them."""
    return Weights("timm", id, licence, size, card or HUB + id, trained_on, "timm", options)


def _siglip(id: str, size: float | None = None, **options: bool) -> Weights:
    """A published SigLIP."""
    seen = "WebLI: pictures with texts from the web"
    return Weights("transformers", id, "Apache-2.0", size, HUB + id, seen, "siglip", options)


OLD = "what its authors published, if anything, is for networks and libraries of their day"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels
RESNET50 = {"architecture": "resnet50"}
LITE = {"architecture": "tf_efficientnet_lite0", "patch_layers": (1, 2, 3, 4), "classifier": True}  # strides 4 to 32
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
    random_row("random", (IMAGE,), "representations.md", "vit"),
    random_row("clip-random", (IMAGE, TEXT), "clip.md", "tiny-clip"),
    Row(  # the one published network that fits into the package
        REAL,
        (IMAGE,),
        Weights(
            *("timm", REAL, "Apache-2.0", 9.4, f"{REAL}.md", "ImageNet-1k", "timm"),
            {**LITE, "shipped": f"{REAL}.safetensors"},
        ),
        _timm("timm/tf_efficientnet_lite0.in1k", "Apache-2.0", 18.8, **LITE),
    ),
    random_row("efficientnet-random", (IMAGE,), f"{REAL}.md", "timm", **LITE),
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
        _siglip("google/siglip2-base-patch16-224"),
    ),
    Row(  # sees as well, but on a grid that follows the image: no image encoder of the contract
        "siglip2-naflex",
        (TEXT,),
        "the factory's photographs are square, so there is no aspect ratio to keep",
        _siglip("google/siglip2-base-patch16-naflex", naflex=True),
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
    *SEEING,
)
