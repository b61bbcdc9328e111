"""InCTRL: residuals in context.  How an image differs from a few normal ones, weighed by heads trained elsewhere.

The eyes are CLIP's and frozen.  Patches of several blocks are compared with those of normal images, image vectors
through a small adapter, and the image with words.  Two heads that learnt from other products say what that amounts to.

Source: Zhu and Pang, Toward Generalist Anomaly Detection via In-context Residual Learning with Few-shot Sample
Prompts, CVPR 2024, section 3.
Book: anomaly/inctrl
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gadkit import weights
from gadkit.anomaly.detectors.parts import good, needed, shares, without
from gadkit.anomaly.detectors.reading import Reading
from gadkit.anomaly.detectors.residual_heads import PARTS, TERMS, ResidualHeads
from gadkit.anomaly.maps import association, upsample
from gadkit.anomaly.prompts import WINCLIP, PromptEnsemble
from gadkit.backbones.openclip import CHUNK, OpenCLIP
from gadkit.backbones.preprocess import by_pillow, check_layers
from gadkit.checks import check_finite, check_images, describe, one_of, positive, whole
from gadkit.protocols import AnomalyResult, Encoded

WHOLE = 1 << 31  # images at once where a result depends on the batch
FAR = (0.1, 0.5)  # of (1 - cos) / 2: good parts stay below; at 0.5 nothing is shared


def paper_layers(depth: int) -> tuple[int, ...]:
    """The paper's blocks, the 7th, 9th and 11th of 12, scaled to another depth and counted from 0; no block twice."""
    whole("depth", depth)
    return tuple(sorted({max(1, int(depth * block / 12 + 0.5)) - 1 for block in (7, 9, 11)}))


def crossed(images: int, layers: int, shots: int) -> tuple[Int[Tensor, "b l"], Int[Tensor, "b l k"]]:
    """What the published code compares for image i and layer l: which of the (layer, image) rows, and which prompts.

    Rows are numbered layer by layer, layer * images + image.  The code reshapes (layers, images) to (images, layers)
    without a transposition, and (shots, images) likewise, so row i * layers + l is taken for layer l of image i.
    """
    rows = torch.arange(images * layers)
    prompts = (rows[:, None] * shots + torch.arange(shots)) // images % shots
    return rows.view(images, layers), prompts.view(images, layers, shots)


class InCTRL(Reading):
    """Few-shot detection by residuals against normal images, weighed by heads that learnt from other products.

    `object_name`  what is in the images, as a noun: "metal nut".
    `heads`        the trained part, tensors by name: `zoo.load("inctrl")`, or a published checkpoint of the authors.
    `layers`       blocks whose patch tokens are compared, from 0 or from the end; None: `paper_layers`.
    `prompts`      states and templates; the published code takes `prompts.PRESENCE` for the classes of CIFAR-10.
    `temperature`  of the softmax over the two text similarities.
    `terms`        what is added to the residual map before the holistic head: "reference", "text", both or neither;
                   the heads must have been trained so.  Without "text" no word is read.
    `pairing`      "correct": each image with the normal images and its own patches.  "reference": as the published
                   code has it.  Where a batch holds several images, that reshapes where it should transpose, so an
                   image gets residuals of other images and layers, and some normal images twice.  A score then
                   depends on the batch that `score` was given; with one image at a time both pairings agree.
    `resize`       "squash": the whole image to a square; "crop", as published: the middle, by Pillow on bytes.  What
                   is cut off has 0 in the map.
    `precision`    of the image tower's blocks: "float32" or "bfloat16".
    `chunk`        tokens, or features compared, at once: bounds the memory, changes no result.

    The names in a published checkpoint, of which the others are CLIP's own: `adapter.fc.{0,2}.weight`, and for both
    heads, `diff_head` (holistic) and `diff_head_ref` (reference), `projection{1,2,3}.{weight,bias}` and
    `bn{1,2,3}.{weight,bias,running_mean,running_var}`; `bn1` is never used.

    Learnt by `fit`: `text_vectors_` (2, d), normal and anomalous, `reference_vectors_` (k, d) as the tower gives them,
    and `reference_patches_` (k, l, n, width), unit vectors.  Encoded are `vectors` (b, d) and, for every block,
    `patches/6` (b, n, width).  The map is the mean of the blocks' residuals, in [0, 1].
    Raises ValueError for arguments outside these, and for heads that do not fit the backbone's grid and vectors.
    """

    learnt = ("text_vectors_", "reference_patches_", "reference_vectors_")

    def __init__(
        self,
        backbone: OpenCLIP,
        object_name: str,
        heads: Mapping[str, Tensor],
        *,
        layers: tuple[int, ...] | None = None,
        prompts: PromptEnsemble = WINCLIP,
        temperature: float = 0.01,
        terms: tuple[str, ...] = TERMS,
        pairing: str = "correct",
        resize: str = "squash",
        precision: str = "float32",
        chunk: int = CHUNK,
    ) -> None:
        super().__init__(backbone, object_name, prompts)
        self.layers = _layers(paper_layers(backbone.depth) if layers is None else layers, backbone.depth)
        self.temperature, self.chunk = positive("temperature", temperature), whole("chunk", chunk)
        if not isinstance(terms, tuple | list) or len(set(terms)) != len(terms):
            raise ValueError(f"terms: expected different ones of {', '.join(TERMS)}, got {terms!r}")
        self.terms = tuple(one_of("terms", term, TERMS) for term in terms)
        self.pairing = one_of("pairing", pairing, ("correct", "reference"))
        self.resize = one_of("resize", resize, ("squash", "crop"))
        self.precision = one_of("precision", precision, ("float32", "bfloat16"))
        self._net, self.heads = _built(heads, backbone)
        self._foreign = _foreign(heads, backbone)

    @property
    def map_range(self) -> tuple[float, float]:
        """Distances, see `FAR`."""
        return FAR

    def explain(self) -> str:
        """How the scores came about."""
        images = good(self.shots)
        words = f", and with descriptions of a good and of a damaged {self.object_name.strip()}" * self._reads()
        name = "" if self._reads() else f" of a {self.object_name.strip()}"
        return (
            f"Each spot and the whole of an image{name} were compared with {images}{words}, by heads that were trained"
        )

    def remarks(self) -> list[str]:
        """Whether the heads learnt on this tower, and whether the prompts fit into its context."""
        foreign = "the heads' file holds an image tower of other weights than the one that is used here"
        return [foreign] * self._foreign + (super().remarks() if self._reads() else [])

    @torch.no_grad()
    def intermediates(self, images: UInt8[Tensor, "b 3 h w"] | Encoded) -> dict[str, Tensor]:
        """Everything on the way to a score, by name, on the device of the backbone.

        `residual_maps` (b, l, r, c), one a block, and `residual` (b, r, c), their mean; `patch` (b,), its maximum;
        `adapter` (b, d), the image residual, and `reference` (b,), what its head makes of it; `text` (b,);
        `holistic_map` (b, r, c), `holistic` (b,) and `score` (b,), the mean of holistic and patch.  Without "text"
        among the terms there is none.  Raises as `score` does.
        """
        self._check_fitted()
        encoded = images if isinstance(images, Encoded) else self.encode(images)
        self._check_encoded(encoded)
        starts = range(0, len(encoded), self._group())
        parts = [self._parts(self._moved(encoded[i : i + self._group()])) for i in starts]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        parts = [self._encode(some, full=True) for some in needed(normal, self)]
        self.reference_vectors_ = torch.cat([part["vectors"] for part in parts])
        self.reference_patches_ = torch.cat([torch.stack(self._patches(part), 1) for part in parts])
        sides = self.prompts.texts(self.object_name) if self._reads() else ()
        vectors = [self._pool(texts, normalised=True) for texts in sides]
        self.text_vectors_ = torch.stack(vectors) if vectors else self.reference_vectors_[:0]  # (2 or 0, d)

    def _others(self, normal: Tensor | Iterable[Tensor], counts: Sequence[int]) -> Iterator["InCTRL"]:
        """As the base class has it, but from what `fit` has encoded."""
        for first, last in shares(counts):
            kept = ("reference_patches_", "reference_vectors_")
            yield self._with(**{name: without(getattr(self, name), first, last, self.shots) for name in kept})

    def _encode(self, images: Tensor, full: bool) -> dict[str, Tensor]:
        clip = self.backbone
        prepared = clip.preprocess(self._resized(images).to(clip.device))
        tokens = clip.encode_image(prepared, self.layers, precision=self.precision, chunk=self.chunk)
        patches = {f"patches/{i}": F.normalize(x, dim=-1) for i, x in zip(self.layers, tokens.patches, strict=True)}
        return {"vectors": tokens.pooled.float()} | patches

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        found = self._parts(features)
        return AnomalyResult(self._maps(found["residual"], size), found["score"])

    def _parts(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        vectors, grid = features["vectors"], self.backbone.grid
        layers = self._residuals(self._patches(features))  # (b, l, n)
        residual = layers.mean(dim=1)  # (b, n)
        prompts = self.reference_vectors_
        if self.pairing == "reference":
            prompts = prompts[crossed(len(vectors), 1, len(prompts))[1][:, 0]]  # (b, k, d)
        adapter = self._net.compare(vectors, prompts)
        text = self._probability(vectors) if self._reads() else None
        found = self._net(residual, adapter, text, "reference" in self.terms)
        if text is not None:
            found["text"] = text
        found["holistic_map"] = found["holistic_map"].unflatten(1, grid)
        maps = {"residual_maps": layers.unflatten(2, grid), "residual": residual.unflatten(1, grid)}
        return maps | {"adapter": adapter} | found

    def _residuals(self, patches: list[Float[Tensor, "b n e"]]) -> Float[Tensor, "b l n"]:
        """Per layer, each patch's distance from the nearest patch of the normal images."""
        known = self.reference_patches_  # (k, l, n, e)
        if self.pairing == "correct":
            near = [association(x, known[:, i].flatten(0, 1), self.chunk) for i, x in enumerate(patches)]
            return torch.stack(near, 1)
        count, stacked = len(patches[0]), torch.cat(patches)  # (l b, n, e), layer by layer
        rows, prompts = crossed(count, len(patches), len(known))
        found = [
            association(stacked[row : row + 1], known[prompt, row // count].flatten(0, 1), self.chunk)
            for row, prompt in zip(rows.flatten().tolist(), prompts.flatten(0, 1), strict=True)
        ]
        return torch.cat(found).unflatten(0, rows.shape)

    def _maps(self, residual: Float[Tensor, "b r c"], size: tuple[int, int]) -> Float[Tensor, "b h w"]:
        if self.resize == "squash":
            return upsample(residual, size)
        side = min(size)
        top, left = ((length - side) // 2 for length in size)
        return F.pad(upsample(residual, (side, side)), (left, size[1] - side - left, top, size[0] - side - top))

    def _resized(self, images: Tensor) -> Tensor:
        """Images as the backbone's preprocessing shall get them: where the middle is cut out, little is left to do."""
        if self.resize == "squash":
            return images
        side, (height, width) = self.backbone.image_size, check_images(images).shape[2:]
        short = min(height, width)
        tall, wide = side * height // short, side * width // short
        left, top = round((wide - side) / 2), round((tall - side) / 2)
        return by_pillow(images, tall, wide)[..., top : top + side, left : left + side]

    def _patches(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        return [features[f"patches/{i}"] for i in self.layers]

    def _probability(self, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
        """Of "anomalous" against "normal"; in double precision, as the temperature makes 100 of an error of 1."""
        cosines = F.normalize(vectors.double(), dim=-1) @ self.text_vectors_.double().T
        return (cosines / self.temperature).softmax(dim=-1)[:, 1].float()

    def _reads(self) -> bool:
        return "text" in self.terms

    def _names(self) -> tuple[str, ...]:
        return ("vectors", *(f"patches/{i}" for i in self.layers))

    def _group(self) -> int:
        """As many images as have their tokens in a chunk, at least one; all where the batch decides the result."""
        return super()._group() if self.pairing == "correct" else WHOLE


def _layers(layers: Any, depth: int) -> tuple[int, ...]:
    """Different blocks, counted from 0."""
    if not isinstance(layers, tuple | list) or not layers or not all(type(i) is int for i in layers):
        raise ValueError(f"layers: expected at least one block number, got {layers!r}")
    found = tuple(check_layers(layers, depth))
    if len(set(found)) != len(found):
        raise ValueError(f"layers: expected different blocks, got {tuple(layers)}")
    return found


def _built(heads: Any, backbone: OpenCLIP) -> tuple[ResidualHeads, dict[str, Tensor]]:
    """The heads, frozen, and their tensors by name; of a published checkpoint only what is used."""
    if not isinstance(heads, Mapping) or not all(isinstance(x, Tensor) for x in heads.values()):
        raise ValueError(f'heads: expected tensors by name, such as zoo.load("inctrl"), got {describe(heads)}')
    rows, columns = backbone.grid
    net = ResidualHeads(rows * columns, backbone.embed_dim)
    own = {str(name).removeprefix("model_state."): value for name, value in heads.items()}
    used = {name: value for name, value in own.items() if name.startswith(PARTS)}
    used = {name: v for name, v in used.items() if ".bn1." not in name and not name.endswith("num_batches_tracked")}
    kept = {name: check_finite(v, f"heads: {name}").to(backbone.device, torch.float32) for name, v in used.items()}
    weights.fill(net, kept, f"InCTRL on {rows} x {columns} patches and vectors of {backbone.embed_dim} numbers")
    return net.eval().requires_grad_(False), kept


def _foreign(heads: Mapping[str, Tensor], backbone: OpenCLIP) -> bool:
    """Whether a checkpoint brought an image tower, and another one than the backbone's."""
    name, own = "visual.proj", backbone.model.visual.proj
    theirs = heads.get(f"model_state.{name}", heads.get(name))
    if theirs is None or own is None:
        return False
    return theirs.shape != own.shape or not torch.allclose(theirs.to(own), own, rtol=0, atol=1e-3)
