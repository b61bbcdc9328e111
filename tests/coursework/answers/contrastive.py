"""Answers to the second assignment: wrong ones with the lines of the rubric that they lose, and right ones."""

WRONG = {
    "a vector may find itself": (
        {"nt_xent": [("    cosines = cosines.masked_fill(torch.eye(len(units), dtype=torch.bool), -math.inf)\n", "")]},
        {"loss-value", "loss-temperature"},
    ),
    "candidates of the other view only": (
        {
            "nt_xent": """
def nt_xent(a, b, temperature=0.5):
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    return F.cross_entropy(a @ b.T / temperature, torch.arange(len(a)))
"""
        },
        {"loss-value", "loss-temperature"},
    ),
    "the temperature is forgotten": (
        {"nt_xent": [("units @ units.T / temperature", "units @ units.T / 0.5")]},
        {"loss-temperature"},
    ),
    "vectors keep their length": (
        {"nt_xent": [("F.normalize(torch.cat([a, b]), dim=1)", "torch.cat([a, b])")]},
        {"loss-length"},
    ),
    "a vector is its own candidate when all are alike": ({"stuck": [("2 * n - 1", "2 * n")]}, {"stuck"}),
    "the mean stays in": ({"rank": [("(z - z.mean(0)).double()", "z.double()")]}, {"rank-offset"}),
    "squares of the singular values": (
        {"rank": [("share = spread /", "spread = spread**2\n    share = spread /")]},
        {"rank-value"},
    ),
    "the sum over photographs": ({"attract": [(".sum(1).mean()", ".sum()")]}, {"attract"}),
    "the second view has no gradient": ({"step": [("y @ free)", "(y @ free).detach())")]}, {"step"}),
    "the wrong loss is named": ({"collapses": [('return "attract"', 'return "nt_xent"')]}, {"collapse"}),
}

RIGHT = {
    "two blocks and a logarithm of sums": {
        "nt_xent": """
def nt_xent(a, b, temperature=0.5):
    z = torch.cat([a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)])
    n, total = len(a), 0.0
    for i in range(2 * n):
        others = torch.stack([z[i] @ z[k] for k in range(2 * n) if k != i]) / temperature
        total = total + torch.logsumexp(others, 0) - z[i] @ z[(i + n) % (2 * n)] / temperature
    return total / (2 * n)
""",
        "collapses": """
def collapses():
    ranks = [trained(one) for one in (losses.nt_xent, attract)]
    return ("nt_xent", "attract")[ranks.index(min(ranks))], *ranks
""",
    },
    "eigenvalues, cosines and backward": {
        "rank": """
def rank(z):
    c = (z - z.mean(0, keepdim=True)).double()
    values = torch.linalg.eigvalsh(c.T @ c).clamp(min=0).sqrt()
    if values.max() < 1e-5:
        return 0.0
    p = values / values.sum()
    p = p[p > 0]
    return math.exp(-(p * p.log()).sum())
""",
        "attract": """
def attract(a, b):
    return (2 - 2 * F.cosine_similarity(a, b)).mean()
""",
        "step": """
def step(w, x, y, loss, rate):
    w = torch.tensor(w.tolist(), requires_grad=True)
    optimiser = torch.optim.SGD([w], lr=rate)
    loss(x @ w, y @ w).backward()
    optimiser.step()
    return w.detach()
""",
    },
}
