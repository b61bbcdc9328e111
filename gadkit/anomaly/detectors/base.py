"""The base of all detectors: images in groups, results on their device, leave-one-out, and a state that can be saved.

A detector on `Base` says how its features are computed, what it learns from normal images, and how features become
maps and scores: `_encode`, `_fit` and `_score`.

Book: anomaly/winclip
"""

import copy
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.anomaly.detectors.parts import batches, by_part, leaving_out, shares
from gadkit.checks import check_finite, check_images, describe, whole
from gadkit.protocols import AnomalyResult, Backbone, DetectorState, Encoded

D = TypeVar("D")  # the detector's own class
HEADS = "heads/"  # before the names of the trained part's tensors in a state
PROBE = "backbone"  # in a state's tensors: the vector of a fixed picture, by which the backbone is known again
SAME = 0.999  # cosine of that vector on another device or in another precision; other weights are far below


class Base:
    """A detector on a frozen backbone.  Subclasses set `backbone` and one attribute an argument of `__init__`.

    `learnt` names the tensors that `_fit` sets, attributes that end in an underscore.  A detector with a part that was
    trained before takes its tensors by name as `heads`, keeps them in an attribute of that name, and they go into its
    state, so that a fitted detector needs no other file.
    """

    version: ClassVar[int] = 1  # of the state's layout; a change that old files do not fit raises it
    learnt: ClassVar[tuple[str, ...]] = ()
    others: ClassVar[tuple[str, ...]] = ()  # arguments that are networks beside the backbone: no state holds them
    backbone: Backbone
    shots_: int

    @property
    def image_size(self) -> int:
        """The side in pixels of the images that the backbone encodes."""
        return self.backbone.image_size

    @property
    def shots(self) -> int:
        """How many normal images `fit` was given; 0 for none, and before `fit`."""
        return getattr(self, "shots_", 0)

    @torch.no_grad()
    def fit(self: D, normal: UInt8[Tensor, "k 3 h w"] | Iterable[Tensor] | None = None) -> D:
        """Learn from k normal images, a batch or batches of any size each, or from none where that is possible.

        Batches are read once, a few images at a time, and not kept.  Raises ValueError for anything but uint8 RGB
        images, for no images at all, and for None where normal images are needed.
        """
        count = 0

        def groups(given: Tensor | Iterable[Tensor]) -> Iterator[Tensor]:
            nonlocal count
            for batch in batches(given):
                count += len(batch)
                yield from batch.split(self._group())

        self._fit(None if normal is None else groups(normal))
        self.shots_ = count
        return self

    @torch.no_grad()
    def encode(self, images: UInt8[Tensor, "b 3 h w"]) -> Encoded:
        """Encode images once, to be scored many times: after another `fit`, say.  Needs no `fit`.

        Features lie on the images' device.  Raises ValueError for anything but a batch of uint8 RGB images.
        """
        parts = [self._encode(some, full=True) for some in check_images(images).split(self._group())]
        joined = {name: torch.cat([part[name] for part in parts]).to(images.device) for name in parts[0]}
        return Encoded(joined, tuple(images.shape[2:]))

    @torch.no_grad()
    def score(self, images: UInt8[Tensor, "b 3 h w"] | Encoded) -> AnomalyResult:
        """Maps at the images' own size and one score an image, on the device of the images or of their features.

        Of images, only a few are encoded at a time, so memory is bounded.  Raises ValueError for anything but a batch
        of uint8 RGB images or what `encode` gave, RuntimeError before `fit`.
        """
        self._check_fitted()
        if not isinstance(images, Encoded):
            size, where = tuple(check_images(images).shape[2:]), images.device
            parts = (self._encode(some, full=False) for some in images.split(self._group()))
        else:
            size, where = images.size, self._check_encoded(images).device
            starts = range(0, len(images), self._group())
            parts = (self._moved(images[i : i + self._group()]) for i in starts)
        found = [self._score(features, size) for features in parts]
        return AnomalyResult(*(torch.cat([getattr(f, what) for f in found]).to(where) for what in ("maps", "scores")))

    def leave_one_out(
        self, normal: UInt8[Tensor, "k 3 h w"] | Iterable[Tensor], parts: Sequence[int] | None = None
    ) -> Iterator[AnomalyResult]:
        """The normal images of `fit`, each scored as if its part had not been given; see `protocols.Detector`."""
        counts = self._check_left_out(normal, parts)
        others, last, other, at = self._others(normal, counts), -1, self, 0
        for part, images in by_part(normal, counts):
            if part != last:
                other, last = next(others), part
            for some in images.split(self._group()):
                known, at = self._known(at, at + len(some)), at + len(some)
                found = {name: values.to(some.device) for name, values in known.items()}
                yield other.score(Encoded(found, tuple(some.shape[2:])) if found else some)

    def remarks(self) -> Sequence[str]:
        """Remarks for the user, to be read before the scores are trusted."""
        return ()

    def state(self) -> DetectorState:
        """The arguments of `__init__`, and what was learnt.  Raises RuntimeError before `fit`."""
        self._check_fitted()
        tensors = self._learnt() | {"shots_": torch.tensor(self.shots_), PROBE: self._probe()}
        tensors |= {HEADS + name: value for name, value in (getattr(self, "heads", None) or {}).items()}
        kept = {name: value.cpu().contiguous() for name, value in tensors.items()}
        return DetectorState(type(self).__name__, self.version, self._parameters(), kept)

    def load_state(self: D, state: DetectorState) -> D:
        """Become the detector that `state` came from, hyper-parameters included, on this one's backbone.

        Raises ValueError for the state of another detector, of another version, with other tensors, or that was made
        with another backbone: the two must encode a fixed picture alike.  The detector is as it was then.
        """
        what = (state.detector, state.version)
        if what != (type(self).__name__, self.version):
            raise ValueError(
                f"state: expected {type(self).__name__}, version {self.version}, got {what[0]}, version {what[1]}"
            )
        tensors = dict(state.tensors)
        probe, shots = tensors.pop(PROBE, None), tensors.pop("shots_", None)
        if probe is None or shots is None or shots.numel() != 1:
            raise ValueError(f"state: expected tensors named {PROBE} and shots_, got {', '.join(state.tensors)}")
        heads = heads_of(state)
        tensors = {name: value for name, value in tensors.items() if not name.startswith(HEADS)}
        was, own = (vector.cpu().flatten().double() for vector in (probe, self._probe()))
        if was.numel() != own.numel() or torch.cosine_similarity(was, own, 0) < SAME:
            raise ValueError("state: expected one that was made with this backbone, got one of other weights")
        other = self._rebuilt(state.parameters, heads)
        other.shots_ = int(shots)
        try:
            other._take({name: value.to(self.backbone.device) for name, value in tensors.items()})
            result = other.score(self._picture())
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"state: expected tensors that fit {what[0]}, got {', '.join(tensors)}: {error}"
            ) from error
        if set(other._learnt()) != set(tensors):
            raise ValueError(f"state: expected the tensors {', '.join(other._learnt())}, got {', '.join(tensors)}")
        check_finite(result.scores, "state: scores of a test picture")
        self.__dict__.update(other.__dict__)
        return self

    def _encode(self, images: UInt8[Tensor, "b 3 h w"], full: bool) -> dict[str, Tensor]:
        """Features of a few images on the backbone's device; without `full` only those that `_score` needs now."""
        raise NotImplementedError

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        """Set everything that `learnt` names, from normal images of which a few come at a time.

        Raises ValueError for None where normal images are needed.
        """
        raise NotImplementedError

    def _others(self: D, normal: Tensor | Iterable[Tensor], counts: Sequence[int]) -> Iterator[D]:
        """For each part the detector as it would be without that part's images: here fitted once more."""
        for first, last in shares(counts):
            yield copy.copy(self).fit(leaving_out(normal, first, last))

    def _known(self, first: int, last: int) -> dict[str, Tensor]:
        """The features of normal images `first` to before `last`, where `fit` has kept them; here it has not."""
        return {}

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        """Maps and scores of a few images."""
        raise NotImplementedError

    def _names(self) -> tuple[str, ...]:
        """The features that `encode` gives."""
        raise NotImplementedError

    def _group(self) -> int:
        """How many images go through the backbone at once."""
        raise NotImplementedError

    def _learnt(self) -> dict[str, Tensor]:
        """The attributes that `_fit` has set, by name."""
        return {name: getattr(self, name) for name in self.learnt}

    def _take(self, tensors: dict[str, Tensor]) -> None:
        """Set what `_learnt` gave.  Raises KeyError where something is missing."""
        for name in self.learnt:
            setattr(self, name, tensors[name])

    def _parameters(self) -> dict[str, Any]:
        """The arguments of `__init__` but the networks, as JSON has them."""
        values = {name: getattr(self, name) for name in self._arguments()}
        plain = {name: asdict(value) if is_dataclass(value) else value for name, value in values.items()}
        return json.loads(json.dumps(plain))

    def _arguments(self) -> list[str]:
        """The names of the arguments of `__init__` but the networks and the trained part."""
        networks = ("backbone", "heads", *self.others)
        return [name for name in inspect.signature(type(self)).parameters if name not in networks]

    def _rebuilt(self: D, parameters: Any, heads: Mapping[str, Tensor]) -> D:
        """A detector of this kind with a state's parameters, not fitted.  Raises ValueError where they do not fit."""
        names = {*self._arguments()}
        if set(parameters) != names:
            raise ValueError(f"state: expected the parameters {', '.join(sorted(names))}, got {', '.join(parameters)}")
        given = {name: self._parsed(name, value) for name, value in parameters.items()}
        given |= {name: getattr(self, name) for name in self.others}
        if hasattr(self, "heads"):
            given["heads"] = {name: value.to(self.backbone.device) for name, value in heads.items()}
        return type(self)(self.backbone, **given)

    def _parsed(self, name: str, value: Any) -> Any:
        """An argument of `__init__` from its JSON: tuples come back as lists."""
        return tuple(value) if isinstance(value, list) else value

    def _with(self: D, **learnt: Any) -> D:
        """The same detector with something else learnt; its rest is shared."""
        other = copy.copy(self)
        other.__dict__.update(learnt)
        return other

    def _moved(self, encoded: Encoded) -> dict[str, Tensor]:
        return {name: values.to(self.backbone.device) for name, values in encoded.features.items()}

    def _picture(self) -> UInt8[Tensor, "1 3 s s"]:
        """A picture that is the same for ever: coloured waves of several lengths."""
        side = torch.linspace(0, 6.28, self.image_size)
        waves = [torch.sin(a * side[:, None] + b * side) for a, b in ((1, 2), (3, 1), (5, 7))]
        return (127.5 * (1 + torch.stack(waves))).round().to(torch.uint8)[None].to(self.backbone.device)

    @torch.no_grad()
    def _probe(self) -> Float[Tensor, "d"]:
        """The picture's vector, by which the backbone is known again."""
        return self.backbone.encode_image(self.backbone.preprocess(self._picture()), ()).pooled[0].float()

    def _check_fitted(self) -> None:
        if not hasattr(self, "shots_"):
            raise RuntimeError(
                f"this {type(self).__name__} is not fitted yet: call fit(normal) with normal images, "
                "or fit() where it can do without"
            )

    def _check_encoded(self, encoded: Encoded) -> Tensor:
        if missing := [name for name in self._names() if name not in encoded.features]:
            wanted, came = ", ".join(self._names()), ", ".join(encoded.features)
            raise ValueError(
                f"encoded: expected the features {wanted}, got {came}, without {missing[0]}: another detector made "
                "them, or one with other parameters"
            )
        if not len(encoded):
            raise ValueError("encoded: expected at least one image, got none")
        return next(iter(encoded.features.values()))

    def _check_left_out(self, normal: Any, parts: Sequence[int] | None) -> list[int]:
        """How many normal images each part has, if they can be those of `fit`."""
        self._check_fitted()
        if isinstance(normal, Iterator):  # a generator would be empty when it is read again
            raise ValueError("normal images: expected batches that can be read more than once, got an iterator")
        given = len(check_images(normal, "normal images")) if isinstance(normal, Tensor) else self.shots
        counts = [1] * given if parts is None else [whole("parts", count) for count in parts]
        if len(counts) < 2:
            raise ValueError(f"normal images: expected at least 2, to compare each with the others, got {len(counts)}")
        if given != self.shots or sum(counts) != self.shots:
            other = given if given != self.shots else sum(counts)
            raise ValueError(f"normal images: expected the {self.shots} that the detector was fitted on, got {other}")
        return counts


def heads_of(state: DetectorState) -> dict[str, Tensor]:
    """The trained part's tensors in a state, by their own names; empty for a detector without one."""
    return {name.removeprefix(HEADS): value for name, value in state.tensors.items() if name.startswith(HEADS)}


def check_backbone(backbone: Any) -> None:
    """Raise ValueError for anything but a backbone."""
    if not isinstance(backbone, Backbone):
        raise ValueError(f"backbone: expected one with preprocess and encode_image, got {describe(backbone)}")
