"""SAA and SAA+ step by step, with loops, in double precision; it shares only the networks with the package."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gadkit.anomaly.detectors import SAA


class Literal:
    """The same arguments, read from a detector."""

    def __init__(self, like: SAA) -> None:
        self.like, self.use, self.prompts = like, like.use, like.prompts
        self.noun = self.prompts.noun or like.object_name
        texts = list(self.prompts.general) + ("language" in self.use) * list(self.prompts.specific)
        self.texts = [text.replace("{}", self.noun) for text in texts]

    def score(self, image: Tensor) -> tuple[np.ndarray, float]:
        """The map and the score of one image."""
        boxes, parts = self.boxes(image)
        part_masks = self.masks(image, parts)
        candidates = []  # (score, mask)
        for box, score in boxes:
            if self.fits(box, parts, part_masks, image):
                candidates.append((score, self.masks(image, [box])[0]))
        candidates = candidates[: self.like.most]
        if "property" in self.use and self.like.area == "mask":
            whole = max((mask.sum() for mask in part_masks), default=image.shape[1] * image.shape[2])
            candidates = [(s, m) for s, m in candidates if m.sum() < self.prompts.area * whole]
        if "saliency" in self.use:
            saliency = self.saliency(image, part_masks)
            candidates = [(s * self.weight(saliency, mask), mask) for s, mask in candidates]
        if "confidence" in self.use:
            candidates = sorted(candidates, key=lambda pair: -pair[0])[: self.prompts.keep]
        total, count = np.zeros(image.shape[1:]), np.full(image.shape[1:], 1.0 if self.like.shrink else 0.0)
        for score, mask in candidates:
            for y, x in zip(*mask.nonzero(), strict=True):
                total[y, x] += score
                count[y, x] += 1
        covered = count > 0
        total[covered] = total[covered] / count[covered]
        return total, total.max()

    def boxes(self, image: Tensor) -> tuple[list[tuple[list[float], float]], list[list[float]]]:
        """Boxes of defects with their scores, the surest first, and boxes of the part."""
        found, parts = [], []
        rival = [self.noun] if self.like.rival and "language" in self.use else []
        looked_for = "property" in self.use or ("saliency" in self.use and self.prompts.count > 1)
        if self.like.asks == "together":
            for box, score, label in self.detect(image, self.texts + rival):
                if label == len(self.texts):
                    parts.append(box)
                else:
                    found.append((box, score))
            if looked_for and not rival:
                parts = [box for box, _, _ in self.detect(image, [self.noun])]
        else:
            for text in self.texts:
                found += [(box, score) for box, score, label in self.detect(image, [text, *rival]) if label == 0]
            if looked_for:
                parts = [box for box, _, _ in self.detect(image, [self.noun])]
        if "property" in self.use:
            parts = [p for p in parts if area(p) < image.shape[1] * image.shape[2] / self.prompts.count]
        return sorted(found, key=lambda pair: -pair[1]), parts[: self.like.most]

    def detect(self, image: Tensor, texts: list[str]) -> list[tuple[list[float], float, int]]:
        """The finder's answer, within the image."""
        height, width = image.shape[1:]
        answer, inside = self.like.finder.detect(image[None], texts, self.like.threshold)[0], []
        for (a, b, c, d), s, label in zip(answer.boxes.tolist(), answer.scores.tolist(), answer.labels.tolist(),
                                          strict=True):  # fmt: skip
            box = [min(max(a, 0), width), min(max(b, 0), height), min(max(c, 0), width), min(max(d, 0), height)]
            if box[2] > box[0] and box[3] > box[1]:
                inside.append((box, s, label))
        return inside

    def fits(self, box: list[float], parts: list, part_masks: list, image: Tensor) -> bool:
        """Whether a box can be that of a defect."""
        if "property" not in self.use:
            return True
        if parts:
            overlaps = [
                max(0, min(box[2], p[2]) - max(box[0], p[0])) * max(0, min(box[3], p[3]) - max(box[1], p[1]))
                for p in parts
            ]
            if max(overlaps) < self.prompts.inside * area(box):
                return False
        whole = max(map(area, parts), default=image.shape[1] * image.shape[2])
        return self.like.area == "mask" or area(box) < self.prompts.area * whole

    def masks(self, image: Tensor, boxes: list[list[float]]) -> list[np.ndarray]:
        """One mask a box."""
        seen = image if self.like.channels == "rgb" else image[[2, 1, 0]]
        self.like.segmenter.set_image(seen)
        return [
            self.like.segmenter.predict(boxes=torch.tensor([box]), several=False).masks[0, 0].numpy() for box in boxes
        ]

    def saliency(self, image: Tensor, part_masks: list[np.ndarray]) -> np.ndarray:
        """How much each pixel stands out."""
        spots = self.spots(image)  # (r, c, e)
        rows, columns, _ = spots.shape
        flat = spots.reshape(rows * columns, -1)
        found = np.zeros(rows * columns)
        if self.prompts.count > 1 and len(part_masks) > 1:
            small = [nearest(mask, rows, columns).reshape(-1) for mask in part_masks]
            for i, own in enumerate(small):
                for spot in own.nonzero()[0]:
                    cosines = []
                    for j, other in enumerate(small):
                        for there in other.nonzero()[0] if j != i else []:
                            if not own[there]:
                                cosines.append(flat[spot] @ flat[there])
                            elif self.like.zeroed:
                                cosines.append(0.0)
                    if cosines:
                        found[spot] = max(found[spot], 0.5 * (1 - max(cosines)))
        else:
            count = min(max(1, round(self.like.top * len(flat))), len(flat) - 1)
            for spot in range(len(flat)):
                far = sorted(0.5 * (1 - flat[spot] @ flat[i]) for i in range(len(flat)) if i != spot)
                chosen = far[-count:] if self.like.neighbours == "farthest" else far[:count]
                found[spot] = sum(chosen) / count
        maps = torch.from_numpy(found.reshape(1, 1, rows, columns))
        return F.interpolate(maps, tuple(image.shape[1:]), mode="bilinear", align_corners=False)[0, 0].numpy()

    def spots(self, image: Tensor) -> np.ndarray:
        """A unit vector for each spot of an image."""
        eyes = self.like.backbone
        seen = image if self.like.channels == "rgb" else image[[2, 1, 0]]
        tokens = eyes.encode_image(eyes.preprocess(seen[None]), self.like.layers)
        rows, columns = tokens.grid
        maps = []
        for layer, patches in zip(self.like.layers, tokens.patches, strict=True):
            side = math.ceil(eyes.patch_size / eyes.strides[layer])
            values = patches[0].double().numpy().reshape(rows, columns, -1, side, side)
            own = np.zeros((rows * side, columns * side, values.shape[2]))
            for y in range(rows * side):
                for x in range(columns * side):
                    own[y, x] = values[y // side, x // side, :, y % side, x % side]
            maps.append(own)
        finest = max(len(m) for m in maps) // rows if self.like.finer == "own" else 1
        spots = np.zeros((rows * finest, columns * finest, sum(m.shape[2] for m in maps)))
        for y in range(rows * finest):
            for x in range(columns * finest):
                vectors = []
                for m in maps:
                    side = len(m) // rows
                    if self.like.finer == "own":
                        vector = m[y * side // finest, x * side // finest]
                    else:
                        vector = m[y * side : (y + 1) * side, x * side : (x + 1) * side].mean((0, 1))
                    vectors.append(vector / np.linalg.norm(vector) if self.like.merge == "unit" else vector)
                spots[y, x] = np.concatenate(vectors) / np.linalg.norm(np.concatenate(vectors))
        return spots

    def weight(self, saliency: np.ndarray, mask: np.ndarray) -> float:
        """By what saliency multiplies a candidate's score."""
        return math.exp(self.like.sharpness * saliency[mask].mean()) if mask.any() else 1.0


def area(box: list[float]) -> float:
    """Of a box, in pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def nearest(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """A mask on a grid: each spot takes the pixel at its upper left."""
    height, width = mask.shape
    return np.array([[mask[y * height // rows, x * width // columns] for x in range(columns)] for y in range(rows)])
