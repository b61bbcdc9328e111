"""Answers to the fifth assignment: wrong ones with the lines of the rubric that they lose, and right ones."""

WRONG = {
    "windows side by side": (
        {
            "windows": [
                ("range(rows - side + 1) for", "range(0, rows - side + 1, side) for"),
                ("range(columns - side + 1)]", "range(0, columns - side + 1, side)]"),
            ]
        },
        {"windows-cover", "windows-order"},
    ),
    "patches column by column": (
        {"windows": [("for i in range(side) for j in range(side)", "for j in range(side) for i in range(side)")]},
        {"windows-order"},
    ),
    "the probability of a flawless part": ({"damaged": [("[..., 1]", "[..., 0]")]}, {"damaged"}),
    "the temperature multiplies": ({"damaged": [("texts.T / temperature", "texts.T * temperature")]}, {"damaged"}),
    "a small number in the denominators": (
        {"harmonic": [("1 / one for", "1 / (one + 1e-3) for")]},
        {"harmonic-value", "harmonic-zero"},
    ),
    "zeros are left out": (
        {"harmonic": [("1 / one for", "torch.where(one > 0, 1 / one, 0) for")]},
        {"harmonic-zero"},
    ),
    "every patch has as many windows as the middle": (
        {"spread": [("count / total", "side * side / total")]},
        {"spread-count", "spread-mean"},
    ),
    "an arithmetic mean over windows": (
        {"spread": [("+= 1 / score", "+= score"), ("count / total", "total / count")]},
        {"spread-mean"},
    ),
    "the photograph has no vote": ({"zero_shot_map": [("[everywhere, *scales]", "scales")]}, {"map"}),
    "the veto of an arithmetic mean": (
        {"veto": [("1 / (9 / 0.5 - 8 / 0.9)", "max(0.0, 9 * 0.5 - 8 * 0.9)")]},
        {"veto"},
    ),
}

RIGHT = {
    "torch's own windows": {
        "windows": """
def windows(rows, columns, side):
    numbers = torch.arange(float(rows * columns)).view(1, 1, rows, columns)
    return F.unfold(numbers, side)[0].T.long()
""",
        "spread": """
def spread(scores, rows, columns, side):
    blocks = (1 / scores).expand(1, side * side, -1)
    both = [F.fold(x, (rows, columns), side)[0, 0] for x in (torch.ones_like(blocks), blocks)]
    return both[0] / both[1]
""",
        "harmonic": """
def harmonic(several):
    return 1 / torch.stack(several).reciprocal().mean(0)
""",
    },
    "patch by patch": {
        "damaged": """
def damaged(vectors, texts, temperature=0.07):
    good, bad = (vectors * texts[0]).sum(-1), (vectors * texts[1]).sum(-1)
    return torch.sigmoid((bad - good) / temperature)
""",
        "spread": """
def spread(scores, rows, columns, side):
    cover = windows(rows, columns, side)
    found = []
    for patch in range(rows * columns):
        votes = scores[(cover == patch).any(1)]
        found.append(len(votes) / (1 / votes).sum())
    return torch.stack(found).view(rows, columns)
""",
        "zero_shot_map": """
def zero_shot_map(whole, scales):
    return (1 + len(scales)) / (1 / whole + sum(1 / one for one in scales))
""",
        "veto": "def veto_below():\n    return 0.1098\n",
    },
}
