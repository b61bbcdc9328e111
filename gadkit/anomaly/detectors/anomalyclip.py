"""AnomalyCLIP: defects found by two prompts that were learnt on other products and name no object.

The words "object" and "damaged object" stand behind learnt tokens, and more learnt tokens enter the text tower's deeper
blocks.  The two text vectors are compared with the image, and with every patch of a second stream through the image
tower, in which patches attend to patches like themselves.

Source: Zhou et al., AnomalyCLIP: Object-agnostic Prompt Learning for Zero-shot Anomaly Detection, ICLR 2024.
Book: anomaly/anomalyclip
"""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.anomaly.detectors.base import Base
from gadkit.anomaly.detectors.parts import refused
from gadkit.anomaly.detectors.reading import images_of
from gadkit.anomaly.maps import SIGMA, probability, smooth_upsample
from gadkit.backbones.openclip import CHUNK, OpenCLIP
from gadkit.backbones.preprocess import check_layers
from gadkit.backbones.prompted import encode_prompts
from gadkit.backbones.tower import PRECISIONS
from gadkit.backbones.value_stream import encode_values, project
from gadkit.checks import check_finite, check_images, describe, one_of, positive, share, whole
from gadkit.protocols import AnomalyResult

WORDS = ("object.", "damaged object.")
PUBLISHED = "compound_prompts_text."  # before the numbers of the deep tokens in the authors' checkpoints
UNUSED = ("token_prefix_", "token_suffix_", "tokenized_prompts_", "compound_prompt_projections.")


class AnomalyCLIP(Base):
    """Zero-shot detection by learnt prompts; it learns nothing from normal images, so `fit` takes none.

    `heads`        the learnt tokens: `normal` and `anomalous` (c, width), and `deep` (m, k, width), which overwrite
                   positions 1 to k before the text tower's blocks 2 to m + 1.  The names of the authors' checkpoints
                   (`prompt_learner.ctx_pos`, ...) are understood.
    `words`        the texts behind the learnt tokens, normal and anomalous.
    `temperature`  of the softmax over the two text similarities.
    `blocks`       how many last blocks have a value stream; None: as many in proportion as the paper's 19 of 24.
    `layers`       after which blocks patches are compared, from 0 or from the end; the map is the mean over them.
    `class_norm`   whether the image vector passes the tower's last LayerNorm, which the paper's does not.
    `half`         whether the deep tokens are rounded to half precision, as in the authors' code.
    `sigma`        of the Gaussian that smooths maps, as a share of the image's side; 0 for none.
    `precision`    of the image tower's blocks: "float32" or "bfloat16".
    `chunk`        tokens at once: bounds the memory, changes no result.

    `fit` sets `text_vectors_` (2, d), normal and anomalous.  Encoded are `vectors` (b, d) and `patches` (b, l, n, d), a
    row a layer.  All are unit vectors.  Raises ValueError for arguments outside these and for heads that do not fit.
    """

    learnt = ("text_vectors_",)

    def __init__(
        self,
        backbone: OpenCLIP,
        heads: Mapping[str, Tensor],
        *,
        words: tuple[str, str] = WORDS,
        temperature: float = 0.07,
        blocks: int | None = None,
        layers: tuple[int, ...] = (-1,),
        class_norm: bool = False,
        half: bool = False,
        sigma: float = SIGMA,
        precision: str = "float32",
        chunk: int = CHUNK,
    ) -> None:
        if not isinstance(backbone, OpenCLIP):
            raise ValueError(f"backbone: expected an OpenCLIP, got {describe(backbone)}")
        if not isinstance(words, tuple | list) or len(words) != 2:
            raise ValueError(f"words: expected two texts, normal and anomalous, got {describe(words)}")
        if not isinstance(layers, tuple | list) or not layers:
            raise ValueError(f"layers: expected at least one block number, got {layers!r}")
        check_layers(layers, backbone.depth)
        self.backbone, self.heads = backbone, own_names(heads)
        self.words, self.temperature = tuple(words), positive("temperature", temperature)
        blocks = max(1, round(backbone.depth * 19 / 24)) if blocks is None else blocks
        self.blocks, self.layers = whole("blocks", blocks, 1, backbone.depth), tuple(layers)
        self.class_norm, self.half = bool(class_norm), bool(half)
        self.sigma = share("sigma", sigma, zero=True)
        self.precision, self.chunk = one_of("precision", precision, PRECISIONS), whole("chunk", chunk)
        check_finite(self.text(), "heads: text vectors")  # complains about heads that do not fit here, not in fit

    @property
    def map_range(self) -> tuple[float, float]:
        """The probability of damage, undecided at 0.5."""
        return (0.4, 1.0)

    def explain(self) -> str:
        """How the scores came about."""
        return "Each image, and each spot of it, was compared with learnt descriptions of a good and of a damaged part"

    @torch.no_grad()
    def text(self) -> Float[Tensor, "2 d"]:
        """Unit vectors of the two learnt prompts, normal and anomalous."""
        return F.normalize(learnt_text(self.backbone, self.heads, self.words, self.half), dim=-1)

    @torch.no_grad()
    def intermediates(self, images: UInt8[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """All that a score is made of, by name, of images that are encoded at once.

        `text` (2, d), `vectors` (b, d) and `patches` (b, l, n, d) are unit vectors, `value_stream` (b, l, n, width) the
        tokens before the last LayerNorm, and `grid` (b, rows, columns) the map before it is enlarged.  Needs no `fit`.
        """
        found, text = self._features(check_images(images)), self.text()
        return found | {"text": text, "grid": self._grid(found["patches"], text)}

    def _encode(self, images: Tensor, full: bool) -> dict[str, Tensor]:
        found = self._features(images)
        return {name: found[name] for name in self._names()}

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        clip, how = self.backbone, {"precision": self.precision, "chunk": self.chunk}
        prepared = clip.preprocess(images.to(clip.device))
        tokens = encode_values(clip, prepared, self.blocks, self.layers, self.class_norm, **how)
        stream = torch.stack(tokens.patches, 1)  # (b, l, n, width)
        patches = F.normalize(project(clip, stream.flatten(0, 1)), dim=-1).unflatten(0, stream.shape[:2])
        return {"vectors": F.normalize(tokens.pooled, dim=-1), "patches": patches, "value_stream": stream}

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        refused(normal, self)
        self.text_vectors_ = self.text()

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        scores = probability(features["vectors"], self.text_vectors_, self.temperature)
        return AnomalyResult(
            smooth_upsample(self._grid(features["patches"], self.text_vectors_), size, self.sigma), scores
        )

    def _grid(self, patches: Float[Tensor, "b l n d"], text: Float[Tensor, "2 d"]) -> Float[Tensor, "b r c"]:
        return probability(patches, text, self.temperature).mean(1).unflatten(1, self.backbone.grid)

    def _names(self) -> tuple[str, ...]:
        return ("vectors", "patches")

    def _group(self) -> int:
        """As many images as have their tokens in a chunk, at least one."""
        return images_of(self.backbone, self.chunk)


def learnt_text(
    clip: OpenCLIP, heads: Mapping[str, Tensor], words: tuple[str, str] = WORDS, half: bool = False
) -> Float[Tensor, "2 d"]:
    """Vectors of the normal and the anomalous prompt, not normalised; open to gradients."""
    deep = heads.get("deep")
    if deep is not None and half:
        deep = deep.half().float()
    contexts = torch.stack([heads["normal"], heads["anomalous"]]).to(clip.device)
    return encode_prompts(clip, words, contexts, None if deep is None else deep.to(clip.device))


def untrained(clip: OpenCLIP, context: int = 12, rows: int = 8, tokens: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Heads before training: `context` tokens a prompt, and `rows` of deep tokens as far as the tower has blocks."""
    width, blocks = clip.text.token_embedding.embedding_dim, len(clip.text.transformer.resblocks)
    draw, rows = torch.Generator().manual_seed(seed), min(rows, blocks - 1)
    shapes = {"normal": (context, width), "anomalous": (context, width)} | (
        {"deep": (rows, tokens, width)} if rows else {}
    )
    return {name: 0.02 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def own_names(heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Heads by this module's names, whether they had these or those of the authors' checkpoints.

    Raises ValueError for tensors that are missing, left over or of another shape.
    """
    if not isinstance(heads, Mapping) or not all(isinstance(value, Tensor) for value in heads.values()):
        raise ValueError(f"heads: expected tensors by name, got {describe(heads)}")
    held = {name.removeprefix("prompt_learner."): value for name, value in heads.items()}
    if "ctx_pos" in held:
        held = {name: value for name, value in held.items() if not name.startswith(UNUSED)}
        numbers = sorted(int(name.removeprefix(PUBLISHED)) for name in held if name.startswith(PUBLISHED))
        rows = [held.pop(f"{PUBLISHED}{i}") for i in numbers]
        found = {"normal": held.pop("ctx_pos"), "anomalous": held.pop("ctx_neg", torch.empty(0))}
        for name, value in found.items():  # (1, 1, c, width): one class, one state
            held[name] = value.flatten(0, -2) if value.ndim > 2 else value
        if rows:
            held["deep"] = torch.stack(rows) if len({row.shape for row in rows}) == 1 else torch.empty(0)
    wanted = {"normal": 2, "anomalous": 2, "deep": 3}
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in held.items())
    fits = {"normal", "anomalous"} <= held.keys() <= wanted.keys() and all(v.ndim == wanted[n] for n, v in held.items())
    if not fits or held["normal"].shape != held["anomalous"].shape:
        expected = "normal and anomalous (c, width) and perhaps deep (m, k, width), or the names of a published file"
        raise ValueError(f"heads: expected {expected}, got {shapes or 'none'}")
    return held
