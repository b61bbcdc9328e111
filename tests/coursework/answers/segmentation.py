"""Answers to the sixth assignment: wrong ones with the lines of the rubric that they lose, and right ones."""

WRONG = {
    "one overlap for all masks": (
        {"iou": [("(one & other).flatten(1).sum(1)", "(one & other).sum().expand(len(one))")]},
        {"iou-value"},
    ),
    "two empty masks have nothing in common": (
        {"iou": [("torch.where(union == 0, 1.0, common / union.clamp(min=1))", "common / union.clamp(min=1)")]},
        {"iou-empty"},
    ),
    "Dice of logits": ({"dice": [("torch.sigmoid(logits)", "logits")]}, {"dice"}),
    "both terms weigh the same": ({"ambiguous": [("20 * ", "")]}, {"ambiguous-weights"}),
    "all masks are charged": ({"ambiguous": [("amin(1).mean()", "mean()")]}, {"ambiguous-best"}),
    "one best place for the whole batch": ({"ambiguous": [("amin(1).mean()", "mean(0).min()")]}, {"ambiguous-best"}),
    "the first mask is trusted": ({"trusted": [("expected.argmax(1)", "0")]}, {"trusted"}),
    "labels the other way round": (
        {"wrong": [("(missed, 1)", "(missed, 0)"), ("(added, 0)", "(added, 1)")]},
        {"click-region"},
    ),
    "any pixel of the region": (
        {
            "middle": """
def middle(region):
    row, column = region.nonzero()[0].tolist()
    return column + 0.5, row + 0.5
"""
        },
        {"click-deep", "click-order"},
    ),
    "the frame is no border": ({"middle": [("value=1.0", "value=0.0")]}, {"click-deep"}),
    "row before column": (
        {"middle": [("column + 0.5, row + 0.5", "row + 0.5, column + 0.5")]},
        {"click-order"},
    ),
}

RIGHT = {
    "scipy and loops": {
        "iou": """
def iou(one, other):
    found = []
    for a, b in zip(one, other):
        either = int((a | b).sum())
        found.append(int((a & b).sum()) / either if either else 1.0)
    return torch.tensor(found)
""",
        "middle": """
from scipy import ndimage


def middle(region):
    padded = F.pad(region, (1, 1, 1, 1)).numpy()
    deep = ndimage.distance_transform_cdt(padded, metric="chessboard")[1:-1, 1:-1]
    row, column = divmod(int(deep.argmax()), region.shape[1])
    return column + 0.5, row + 0.5
""",
        "trusted": """
def trusted(masks, expected):
    return torch.stack([several[values.argmax()] for several, values in zip(masks, expected)])
""",
    },
    "the library's own parts": {
        "dice": "dice = library.mask_dice\n",
        "ambiguous": """
def ambiguous(logits, truth):
    best = []
    for several, t in zip(logits, truth):
        costs = [20 * library.mask_focal(x, t) + library.mask_dice(x, t) for x in several]
        best.append(torch.stack(costs).min())
    return sum(best) / len(best)
""",
        "wrong": """
def wrong(found, truth):
    region, label = clicks.wrong(found[None], truth[None])
    return region[0], int(label)
""",
        "middle": """
def middle(region):
    return tuple(clicks.middle(region[None])[0].tolist())
""",
    },
}
