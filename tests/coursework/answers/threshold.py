"""Answers to the eighth assignment: wrong ones with the lines of the rubric that they lose, and right ones."""

WRONG = {
    "a part remembers itself": ({"held_out": [("    apart.fill_diagonal_(math.inf)\n", "")]}, {"held-out"}),
    "a plain quantile": (
        {"line": [("round((1 - alarms) * (k + 1), 9)", "round((1 - alarms) * k, 9)")]},
        {"line-rank", "line-refuse"},
    ),
    "one rank too high": (
        {"line": [("values[rank - 1]", "values[min(rank, k - 1)]")]},
        {"line-rank"},
    ),
    "the highest score for want of a better": (
        {
            "line": [
                ("""        raise ValueError(f"{k} good parts can't promise a rate of {alarms}")""", "        rank = k")
            ]
        },
        {"line-refuse"},
    ),
    "one part too many": ({"parts_needed": [("9)) - 1", "9))")]}, {"parts-needed"}),
    "p-values of 0": (
        {"p_values": [("(1 + higher) / (1 + len(good))", "higher / len(good)")]},
        {"p-values"},
    ),
    "a one-sided quantile": ({"at_most": [("(1 + confidence) / 2", "confidence")]}, {"at-most"}),
    "as if defects were as frequent as good parts": (
        {"precision": [("caught * defective, alarms * (1 - defective)", "caught, alarms")]},
        {"precision"},
    ),
    "the share of the test set": (
        {
            "cheapest": [
                ("    costs = {}\n", "    costs, defective = {}, 0.5\n"),
            ]
        },
        {"cheapest-share"},
    ),
    "mistakes cost the same": (
        {"cheapest": [("missed * miss + (1 - defective) * raised * alarm", "missed + (1 - defective) * raised")]},
        {"cheapest-cost"},
    ),
}

RIGHT = {
    "loops and other quantiles": {
        "held_out": """
def held_out(good):
    found = []
    for i, part in enumerate(good):
        others = torch.cat([good[:i], good[i + 1 :]])
        found.append((others - part).norm(dim=1).min())
    return torch.stack(found)
""",
        "line": """
def line(scores, alarms):
    if alarms < 1 / (len(scores) + 1) - 1e-12:
        raise ValueError("give more good parts")
    for score in sorted(scores.tolist()):
        above = sum(s > score for s in scores.tolist())
        if (1 + above) / (len(scores) + 1) <= alarms + 1e-12:
            return score
""",
        "at_most": """
from scipy.optimize import brentq
from scipy.stats import binom


def at_most(alarms, parts, confidence=0.95):
    if alarms == parts:
        return 1.0
    return brentq(lambda rate: binom.cdf(alarms, parts, rate) - (1 - confidence) / 2, 0, 1)
""",
    },
    "sorting, and one table of costs": {
        "p_values": """
def p_values(new, good):
    below = torch.searchsorted(good.sort().values, new, right=False)
    return 1 - below / (len(good) + 1)
""",
        "parts_needed": """
def parts_needed(alarms):
    k = 1
    while 1 / (k + 1) > alarms + 1e-12:
        k += 1
    return k
""",
        "precision": """
def precision(caught, alarms, defective):
    return 1 / (1 + alarms / caught * (1 - defective) / defective)
""",
        "cheapest": """
def cheapest(good, bad, defective, miss, alarm):
    lines = torch.cat([good, bad]).unique()
    missed = (bad <= lines[:, None]).double().mean(1)
    raised = (good > lines[:, None]).double().mean(1)
    cost = defective * missed * miss + (1 - defective) * raised * alarm
    return float(lines[cost <= cost.min() + 1e-9][0])
""",
    },
}
