"""Answers to the seventh assignment: wrong ones with the lines of the rubric that they lose, and right ones."""

WRONG = {
    "the same place of the normal images": (
        {
            "residuals": """
def residuals(query, normal):
    pairs = zip(query, normal)
    return torch.stack([(1 - F.cosine_similarity(x[None], y, dim=2).amax(0)) / 2 for x, y in pairs])
"""
        },
        {"residual-nearest"},
    ),
    "the farthest patch": ({"residuals": [("cosines.max(1)", "cosines.min(1)")]}, {"residual-nearest"}),
    "products instead of cosines": (
        {"residuals": [("F.normalize(known.flatten(0, 1), dim=1)", "known.flatten(0, 1)")]},
        {"residual-length"},
    ),
    "the largest value of any layer": (
        {"patch_score": [("float(merged.max())", "float(layers.max())")]},
        {"patch-score"},
    ),
    "normal vectors are averaged, then adapted": (
        {"image_residual": [("adapt(normal).mean(0)", "adapt(normal.mean(0))")]},
        {"image-residual"},
    ),
    "the largest value after adding": (
        {"together": [("(answer + m.max())", "(answer + (m + image + text).max())")]},
        {"together"},
    ),
    "seeds are counted": (
        {"gains": [("int((gain > 0).sum())", "int(((after - before) > 0).sum())")]},
        {"gains"},
    ),
    "every measurement is drawn": (
        {
            "interval": """
def interval(before, after, lots):
    single = (after - before).flatten()
    draws = torch.randint(50, (2000, 50), generator=torch.Generator().manual_seed(1))
    return single[draws].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
"""
        },
        {"interval"},
    ),
    "an interval of 90 %": ({"interval": [("[0.025, 0.975]", "[0.05, 0.95]")]}, {"interval"}),
    "a mean above 0 helps": (
        {"verdict": [("if low > 0:", "if low + high > 0:")]},
        {"verdict"},
    ),
}

RIGHT = {
    "patch by patch": {
        "residuals": """
def residuals(query, normal):
    found = []
    for x, known in zip(query, normal):
        rows = known.reshape(-1, known.shape[-1])
        found.append([min((1 - F.cosine_similarity(p, r, dim=0)) / 2 for r in rows) for p in x])
    return torch.tensor(found)
""",
        "interval": """
import numpy as np


def interval(before, after, lots):
    difference = (after - before).numpy()
    means = [difference[row].mean() for row in lots.numpy()]
    return tuple(np.percentile(means, [2.5, 97.5]))
""",
    },
    "other orders of the same sums": {
        "image_residual": """
def image_residual(adapt, query, normal):
    return torch.stack([adapt(v) - adapt(query) for v in normal]).mean(0)
""",
        "together": """
def together(m, image, text, head):
    return 0.5 * float(head(m + (image + text))) + 0.5 * max(m.tolist())
""",
        "gains": """
def gains(before, after):
    gain = after.mean(1) - before.mean(1)
    return gain, sum(1 for g in gain.tolist() if g > 1e-9)
""",
        "verdict": """
def verdict(low, high):
    if low <= 0 <= high:
        return "not clear"
    return "helps" if high > 0 else "hurts"
""",
    },
}
