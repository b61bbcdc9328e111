"""Answers to the first assignment: wrong ones with the lines of the rubric that they lose, and right ones."""

WRONG = {
    "a tie is a win": ({"auroc": [("draws / 2", "draws")]}, {"auroc-ties"}),
    "good parts should score higher": (
        {"auroc": [("high[:, None] > low", "high[:, None] < low")]},
        {"auroc-order"},
    ),
    "four neighbours": (
        {"overlap": [("ndimage.label(mask.numpy(), [[1, 1, 1]] * 3)", "ndimage.label(mask.numpy())")]},
        {"overlap-corners"},
    ),
    "pixels have the votes": (
        {
            "overlap": """
def overlap(maps, masks, threshold):
    return float((maps[masks] >= threshold).double().mean())
"""
        },
        {"overlap-regions", "overlap-corners", "aupro-area", "aupro-limit"},
    ),
    "the area is not divided by the limit": (
        {"aupro": [("rates[: past + 1]) / limit", "rates[: past + 1])")]},
        {"aupro-limit"},
    ),
    "a map that finds everything": ({"disagree": "def disagree(mask):\n    return mask.double()\n"}, {"disagree"}),
}

RIGHT = {
    "ranks instead of pairs, one labelling for all images": {
        "auroc": """
from scipy.stats import rankdata


def auroc(scores, labels):
    ranks = rankdata(scores.double().numpy())
    n = int(labels.sum())
    return float((ranks[labels.numpy()].sum() - n * (n + 1) / 2) / (n * (len(labels) - n)))
""",
        "overlap": """
import numpy as np


def overlap(maps, masks, threshold):
    near = np.zeros((3, 3, 3), dtype=bool)
    near[1] = True
    numbers, count = ndimage.label(masks.numpy(), near)
    found = (maps >= threshold).numpy().astype(float)
    return float(np.mean(ndimage.mean(found, numbers, np.arange(1, count + 1))))
""",
    },
    "a loop over pairs, and an area by hand": {
        "auroc": """
def auroc(scores, labels):
    total, pairs = 0.0, 0
    for high in scores[labels].tolist():
        for low in scores[~labels].tolist():
            total += 1.0 if high > low else 0.5 if high == low else 0.0
            pairs += 1
    return total / pairs
""",
        "aupro": """
def aupro(maps, masks, limit=0.3):
    good = maps[~masks]
    x0 = y0 = area = 0.0
    for step in sorted(set(maps.flatten().tolist()), reverse=True):
        x1 = (good >= step).sum().item() / len(good)
        y1 = overlap(maps, masks, step)
        if x1 >= limit:
            if x1 > x0:
                y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            return (area + (limit - x0) * (y0 + y1) / 2) / limit
        area += (x1 - x0) * (y0 + y1) / 2
        x0, y0 = x1, y1
""",
        "disagree": """
def disagree(mask):
    numbers, count = ndimage.label(mask[0].numpy())
    sizes = [(numbers == k).sum() for k in range(1, count + 1)]
    small = 1 + sizes.index(min(sizes))
    seen = torch.from_numpy((numbers > 0) & (numbers != small))
    return torch.where(torch.from_numpy(numbers == small), -1.0, seen.double())[None]
""",
    },
}
