"""The network of the small SEEM: one decoder in which object queries meet prompts of every kind.

Three kinds of prompt tokens share one space with the queries: visual ones (features of the image, sampled where one
clicked, boxed, scribbled, or from another image's region), words, and a memory of the turn before.  A query's mask
embedding is compared with the visual prompts, its concept embedding with the text; the best match answers.

Source: Zou et al. 2023, Segment Everything Everywhere All at Once, sections 3.1 and 3.2.
Book: objects/seem
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gadkit.objects import eyes

OFF, ON, BOX, SCRIBBLE, REGION, NONE = range(6)  # kinds of sampled points; NONE fills up
END = 891  # the id of the text's last token


@dataclass(frozen=True)
class Config:
    """The architecture; the shipped weights carry theirs in their header."""

    width: int = 96
    mask_width: int = 32  # of the features that masks are read from
    queries: int = 12
    memories: int = 4
    layers: int = 3
    heads: int = 4
    text_layers: int = 2
    words: int = 24  # tokens of a text
    vocabulary: int = 892
    size: int = 192  # side of the square that the eyes see


@dataclass(frozen=True)
class Encoded:
    """b encoded images: the finest map, that masks are read from, and the maps that the decoder reads, finest last."""

    fine: Float[Tensor, "b c h w"]
    levels: tuple[Float[Tensor, "b c _ _"], ...]


@dataclass(frozen=True)
class Prompts:
    """r prompts, each on the image `at`.

    `points` are shares of the image's width and height; a REGION's point lies in the image `source`.  `kinds` say what
    each point is.  `texts` are token ids, 0 throughout where there is none.  `before` are the logits of the turn
    before, NaN throughout where there was none.
    """

    at: Int[Tensor, "r"]
    points: Float[Tensor, "r n 2"]
    kinds: Int[Tensor, "r n"]
    source: Int[Tensor, "r"]
    texts: Int[Tensor, "r t"]
    before: Float[Tensor, "r l l"]


@dataclass(frozen=True)
class Answer:
    """What each of q queries answers: mask logits, its match with the prompt, the IoU it expects, and its concept."""

    masks: Float[Tensor, "r q h w"]
    match: Float[Tensor, "r q"]
    iou: Float[Tensor, "r q"]
    concept: Float[Tensor, "r q c"]
    earlier: tuple[Float[Tensor, "r q h w"], ...]  # the masks of the layers before the last


class Attention(nn.Module):
    """Multi-head attention, whose keys and values may belong to images that several prompts share."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.pair, self.out = (nn.Linear(width, n * width) for n in (1, 2, 1))

    def remember(
        self, x: Float[Tensor, "b n c"], place: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, "2 b _ n _"]:
        """Keys and values; the place is added to what keys are made of."""
        keys, values = self.pair.weight.chunk(2)
        low, high = self.pair.bias.chunk(2)
        both = torch.stack([F.linear(x if place is None else x + place, keys, low), F.linear(x, values, high)])
        return both.unflatten(-1, (self.heads, -1)).transpose(2, 3)  # (2, b, heads, n, d)

    def forward(
        self, x: Float[Tensor, "r m c"], both: Float[Tensor, "2 r _ n _"], allowed: Bool[Tensor, "r #m n"]
    ) -> Float[Tensor, "r m c"]:
        """What each of x gathers from where it may look."""
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, both[0], both[1], allowed[:, None])
        return self.out(mixed.transpose(1, 2).flatten(2))


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with GELUs between them."""
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.GELU())]
    return nn.Sequential(*layers[:-1])


class Layer(nn.Module):
    """Attention among queries and prompts, masked cross-attention to the image, and a perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cross, self.own = Attention(width, heads), Attention(width, heads)
        self.mlp = mlp(width, 4 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(
        self,
        x: Float[Tensor, "r m c"],
        image: Float[Tensor, "2 r _ n _"],
        where: Bool[Tensor, "r k n"],
        allowed: Bool[Tensor, "r m m"],
    ) -> Float[Tensor, "r m c"]:
        """The first k of the m tokens, queries and memories, look at the image where their masks are."""
        k = where.shape[1]
        x = self.norms[0](x + self.own(x, self.own.remember(x), allowed))
        first = self.norms[1](x[:, :k] + self.cross(x[:, :k], image, where))
        x = torch.cat([first, x[:, k:]], 1)
        return self.norms[2](x + self.mlp(x))


class Words(nn.Module):
    """A small text encoder of its own: embeddings and transformer layers over them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.place = nn.Parameter(0.02 * torch.randn(config.words, config.width))
        layer = nn.TransformerEncoderLayer(config.width, config.heads, 2 * config.width, 0.0, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, config.text_layers, enable_nested_tensor=False)

    def forward(self, ids: Int[Tensor, "r t"]) -> Float[Tensor, "r t c"]:
        """A vector a token; those of padding mean nothing."""
        blank = ids == 0
        blank = blank & ~blank.all(1, keepdim=True)  # a row without any word has to attend to something
        return self.layers(self.embed(ids) + self.place[: ids.shape[1]], src_key_padding_mask=blank)


class Network(nn.Module):
    """Eyes apart, the whole model; see the module's docstring."""

    def __init__(self, config: Config = Config()) -> None:
        super().__init__()
        self.config, c = config, config.width
        self.lateral = nn.ModuleList(nn.Conv2d(n, c, 1) for n in eyes.CHANNELS)
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 3, padding=1, groups=c), nn.Conv2d(c, c, 1), nn.GroupNorm(8, c), nn.GELU())
            for _ in eyes.CHANNELS
        )
        self.sampled = nn.Linear(2 * c, c)
        self.kind, self.words = nn.Embedding(NONE, c), Words(config)
        self.query = nn.Parameter(torch.randn(config.queries, c))
        self.memory = nn.Parameter(torch.randn(config.memories, c))
        self.waves = nn.Parameter(2 * torch.randn(2, c // 2))  # random frequencies of positions, then learnt
        self.layers = nn.ModuleList(Layer(c, config.heads) for _ in range(config.layers))
        self.to_mask, self.to_iou = mlp(c, c, config.mask_width), mlp(c, c, 1)
        self.fine = nn.Conv2d(c, config.mask_width, 1)
        self.mask_match, self.concept = nn.Linear(c, c), nn.Linear(c, c)
        self.visual_match, self.text_match = nn.Linear(c, c), nn.Linear(c, c)
        self.sharpness = nn.Parameter(torch.tensor(2.3))

    def encode(self, maps: list[Float[Tensor, "b _ _ _"]]) -> Encoded:
        """From the eyes' maps, coarse to fine: each level takes up what the coarser ones know."""
        above, levels = None, []
        for lateral, smooth, x in reversed([*zip(self.lateral, self.smooth, maps, strict=True)]):
            x = lateral(x)
            if above is not None:
                x = x + F.interpolate(above, x.shape[2:], mode="bilinear")
            levels.append(above := x + smooth(x))
        return Encoded(levels[-1], tuple(levels[1:3]))

    def place(self, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n c"]:
        """Sines and cosines of places, which are shares of width and height."""
        turns = 3.14159 * (2 * points - 1) @ self.waves
        return torch.cat([turns.sin(), turns.cos()], -1)

    def sample(self, image: Encoded, prompts: Prompts) -> Float[Tensor, "r n c"]:
        """The visual sampler: features at the points, fine and coarse, with their kind and, in this image, place."""
        region = prompts.kinds == REGION
        found = []
        for row in (prompts.at, prompts.source) if region.any() else (prompts.at,):
            grid = 2 * prompts.points[:, :, None] - 1  # (r, n, 1, 2)
            maps = (image.fine[row], image.levels[-1][row])
            some = [F.grid_sample(m, grid, padding_mode="border", align_corners=False)[..., 0] for m in maps]
            found.append(torch.cat(some, 1).transpose(1, 2))  # (r, n, 2c)
        features = torch.where(region[..., None], found[-1], found[0])
        placed = torch.where(region[..., None], 0.0, self.place(prompts.points))
        return self.sampled(features) + self.kind(prompts.kinds.clamp(max=NONE - 1)) + placed

    def forward(self, image: Encoded, prompts: Prompts) -> Answer:
        """Decode r prompts on encoded images; a prompt without anything asks for every object there is."""
        seen, text = self.sample(image, prompts), self.words(prompts.texts)
        r, (q, m) = len(prompts.at), (len(self.query), len(self.memory))
        past = ~prompts.before.flatten(1).isnan().any(1)
        valid = torch.cat([past[:, None].expand(r, m), prompts.kinds != NONE, prompts.texts != 0], 1)
        allowed = self._allowed(valid, q)
        x = torch.cat([self.query.expand(r, -1, -1), self.memory.expand(r, -1, -1), seen, text], 1)
        fine = self.fine(image.fine)[prompts.at]
        masks, turn = [x.new_ones(r, q, 1, 1)], prompts.before[:, None].nan_to_num(1.0)
        for number, layer in enumerate(self.layers):
            level = image.levels[number % len(image.levels)]
            pair = layer.cross.remember(level.flatten(2).transpose(1, 2), self.place(_centres(level)))
            where = torch.cat([_inside(masks[-1], level.shape[2:]), _inside(turn, level.shape[2:]).expand(r, m, -1)], 1)
            x = layer(x, pair[:, prompts.at], where, allowed)
            masks.append(self._masks(x[:, :q], fine))
        queries, told = x[:, :q], x[:, q + m :]
        match = self._match(queries, told, prompts)
        return Answer(masks[-1], match, self.to_iou(queries)[..., 0], self.concept(queries), tuple(masks[1:-1]))

    def name(self, ids: Int[Tensor, "n t"]) -> Float[Tensor, "n c"]:
        """Unit vectors of texts in the space of concepts."""
        return F.normalize(self.text_match(_mean(self.words(ids), ids != 0)), dim=-1)

    def _allowed(self, valid: Bool[Tensor, "r n"], q: int) -> Bool[Tensor, "r m m"]:
        """Queries attend to one another and to prompts; prompts to prompts only, so that no query alters them."""
        r, n = valid.shape
        columns = torch.cat([torch.ones(r, q, dtype=torch.bool, device=valid.device), valid], 1)
        allowed = columns[:, None].repeat(1, q + n, 1)
        allowed[:, q:, :q] = False
        return allowed | torch.eye(q + n, dtype=torch.bool, device=valid.device)

    def _masks(self, queries: Float[Tensor, "r q c"], fine: Float[Tensor, "r e h w"]) -> Float[Tensor, "r q h w"]:
        return (self.to_mask(queries) @ fine.flatten(2)).unflatten(2, fine.shape[2:]) / fine.shape[1] ** 0.5

    def _match(self, queries, told: Float[Tensor, "r n c"], prompts: Prompts) -> Float[Tensor, "r q"]:
        """Mask embeddings against what was shown, concept embeddings against what was said; the sum is the match."""
        n = prompts.kinds.shape[1]
        shown = (prompts.kinds != NONE) & (prompts.kinds != OFF)
        pairs = (
            (self.mask_match(queries), self.visual_match(_mean(told[:, :n], shown)), shown),
            (self.concept(queries), self.text_match(_mean(told[:, n:], prompts.texts != 0)), prompts.texts != 0),
        )
        total = queries.new_zeros(queries.shape[:2])
        for mine, theirs, there in pairs:
            cosine = torch.einsum("rqc,rc->rq", F.normalize(mine, dim=-1), F.normalize(theirs, dim=-1))
            total = total + cosine * there.any(1)[:, None]
        return self.sharpness.exp() * total


def _mean(x: Float[Tensor, "r n c"], some: Bool[Tensor, "r n"]) -> Float[Tensor, "r c"]:
    return (x * some[..., None]).sum(1) / some.sum(1, keepdim=True).clamp(min=1)


def _centres(level: Float[Tensor, "b c h w"]) -> Float[Tensor, "n 2"]:
    """The middles of a map's cells, row by row, as shares."""
    h, w = level.shape[2:]
    y, x = ((torch.arange(n, device=level.device) + 0.5) / n for n in (h, w))
    return torch.stack([x.repeat(h), y.repeat_interleave(w)], 1)


def _inside(masks: Float[Tensor, "r k h w"], shape: torch.Size) -> Bool[Tensor, "r k n"]:
    """The cells of a coarser map that masks cover; an empty mask may look everywhere."""
    cells = (F.interpolate(masks.detach(), shape, mode="bilinear") > 0).flatten(2)
    return cells | ~cells.any(2, keepdim=True)
