"""Answers to what a test checks of the final project: wrong ones with the lines that they lose, and right ones."""

WRONG = {
    "a photograph is known and tested": (
        {
            "measured": [
                ('    scores["defective"] =', '    names["good"][0] = names["known"][0]\n    scores["defective"] =')
            ]
        },
        {"apart"},
    ),
    "the highest known score, whatever was promised": (
        {"stated": [('threshold(known, alarms=found["alarms"])', "threshold(known)")]},
        {"line", "rate", "caught"},
    ),
    "the rate is the promised one": (
        {"stated": [('"counted": rate.expected', '"counted": found["alarms"]')]},
        {"rate"},
    ),
    "no interval": ({"stated": [('"at_most": rate.high', '"at_most": rate.expected')]}, {"rate"}),
    "misses are counted above the line": ({"stated": [("(bad <= line)", "(bad > line)")]}, {"caught"}),
}

RIGHT = {
    "other data": {
        "measured": """
def measured():
    a, b, c = (torch.Generator().manual_seed(i) for i in range(3))
    scores = {"known": torch.rand(40, generator=a).tolist(), "good": torch.rand(25, generator=b).tolist()}
    scores["defective"] = (torch.rand(22, generator=c) + 0.6).tolist()
    names = {g: [f"{g}/{i}" for i in range(len(s))] for g, s in scores.items()}
    return {"names": names, "scores": scores, "alarms": 0.1}


import torch
"""
    },
    "by hand": {
        "stated": """
import math

from scipy.stats import beta


def stated(found):
    known, good, bad = (sorted(found["scores"][g]) for g in ("known", "good", "defective"))
    line = known[math.ceil(round((1 - found["alarms"]) * (len(known) + 1), 9)) - 1]
    alarms, caught = sum(s > line for s in good), sum(s > line for s in bad)
    pairs = [1.0 if b > g else 0.5 if b == g else 0.0 for b in bad for g in good]
    return {
        "line": line,
        "counted": alarms / len(good),
        "at_most": beta.ppf(0.975, alarms + 1, len(good) - alarms),
        "caught": caught / len(bad),
        "missed": len(bad) - caught,
        "auroc": sum(pairs) / len(pairs),
    }
"""
    },
}
