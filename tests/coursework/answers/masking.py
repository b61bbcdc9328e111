"""Answers to the third assignment: wrong ones with the lines of the rubric that they lose, and right ones."""

WRONG = {
    "patches column by column": (
        {"patchify": [("permute(0, 2, 4, 3, 5, 1)", "permute(0, 4, 2, 3, 5, 1)")]},
        {"patch-numbers"},
    ),
    "colours first": ({"patchify": [("permute(0, 2, 4, 3, 5, 1)", "permute(0, 2, 4, 1, 3, 5)")]}, {"patch-pixels"}),
    "the share that stays is taken for the share to hide": (
        {"hide": [("int(n * (1 - ratio))", "int(n * ratio)")]},
        {"hide-count"},
    ),
    "the smallest noise is hidden": (
        {"hide": [("place >= int(n * (1 - ratio))", "place < n - int(n * (1 - ratio))")]},
        {"hide-which"},
    ),
    "tokens are put back in reading order": (
        {"restore": [("noise.argsort(1)[:, :k]", "noise.argsort(1)[:, :k].sort(1).values")]},
        {"restore-places"},
    ),
    "mask tokens are appended": (
        {
            "restore": """
def restore(seen, token, noise):
    hidden = token.expand(len(seen), noise.shape[1] - seen.shape[1], -1)
    return torch.cat([seen, hidden], 1)
"""
        },
        {"restore-hidden", "restore-places"},
    ),
    "all patches count": ({"loss": [("errors[mask].mean()", "errors.mean()")]}, {"loss-hidden", "loss-mean"}),
    "each image counts alike": (
        {"loss": [("errors[mask].mean()", "((errors * mask).sum(1) / mask.sum(1)).mean()")]},
        {"loss-mean"},
    ),
    "one mean for all patches": (
        {"normalised": [("target.mean(2, keepdim=True)", "target.mean()")]},
        {"normalised"},
    ),
    "the variance is taken for biased": ({"learnt_nothing": [("(e - 1) / e", "1.0")]}, {"learnt-nothing"}),
}

RIGHT = {
    "loops": {
        "patchify": """
def patchify(images, patch):
    b, _, h, w = images.shape
    found = []
    for top in range(0, h, patch):
        for left in range(0, w, patch):
            piece = images[:, :, top : top + patch, left : left + patch]
            found.append(piece.permute(0, 2, 3, 1).flatten(1))
    return torch.stack(found, 1)
""",
        "restore": """
def restore(seen, token, noise):
    made = []
    for tokens, lots in zip(seen, noise):
        rows = [token] * len(lots)
        for which, place in enumerate(sorted(range(len(lots)), key=lambda i: lots[i])[: len(tokens)]):
            rows[place] = tokens[which]
        made.append(torch.stack(rows))
    return torch.stack(made)
""",
    },
    "other functions of torch": {
        "patchify": """
def patchify(images, patch):
    cut = torch.nn.functional.unfold(images, patch, stride=patch)
    return cut.unflatten(1, (3, patch * patch)).permute(0, 3, 2, 1).flatten(2)
""",
        "hide": """
def hide(noise, ratio):
    keep = noise.topk(int(noise.shape[1] * (1 - ratio)), dim=1, largest=False).indices
    mask = torch.ones_like(noise, dtype=torch.bool)
    mask.scatter_(1, keep, False)
    return mask
""",
        "normalised": """
def normalised(target):
    variance, mean = torch.var_mean(target, 2, keepdim=True)
    return (target - mean) * (variance + 1e-6).rsqrt()
""",
        "loss": """
def loss(prediction, target, mask):
    weight = mask[..., None].float().expand_as(target)
    return (weight * (prediction - target) ** 2).sum() / weight.sum()
""",
    },
}
