"""Answers to the fourth assignment: wrong ones with the lines of the rubric that they lose, and right ones."""

WRONG = {
    "pictures search, captions do not": ({"clip_loss": [("(there + back) / 2", "there")]}, {"loss-both"}),
    "no unit length in the loss": (
        {
            "clip_loss": [
                ("F.normalize(pictures, dim=1) @ F.normalize(captions, dim=1).T", "pictures @ captions.T"),
            ]
        },
        {"loss-length"},
    ),
    "raw sentences are averaged": (
        {"class_vectors": [("F.normalize(sentences, dim=1).mean(0)", "sentences.mean(0)")]},
        {"class-each"},
    ),
    "the mean keeps its length": (
        {
            "class_vectors": [
                ("F.normalize(F.normalize(sentences, dim=1).mean(0), dim=0)", "F.normalize(sentences, dim=1).mean(0)")
            ]
        },
        {"class-unit"},
    ),
    "the softmax runs over pictures": ({"zero_shot": [("softmax(1)", "softmax(0)")]}, {"zero-shot"}),
    "the share of right answers that are found": (
        {"recall": [(".any(1).double().mean())", ".sum() / right.sum())")]},
        {"recall-several"},
    ),
    "the least similar come first": (
        {"recall": [("topk(k, dim=1)", "topk(k, dim=1, largest=False)")]},
        {"recall-one", "recall-several"},
    ),
    "chance is one of two": ({"chance": [("min(k, gallery) / gallery", "0.5")]}, {"chance"}),
}

RIGHT = {
    "log-probabilities and ranks": {
        "clip_loss": """
def clip_loss(pictures, captions, scale):
    table = scale * F.cosine_similarity(pictures[:, None], captions[None], dim=2)
    rows, columns = table.log_softmax(1).diag(), table.log_softmax(0).diag()
    return -(rows + columns).mean() / 2
""",
        "recall": """
def recall(similarities, right, k):
    places = similarities.argsort(1, descending=True).argsort(1)
    best = places.masked_fill(~right, similarities.shape[1]).amin(1)
    return (best < k).float().mean().item()
""",
    },
    "all sentences at once, and loops": {
        "class_vectors": """
def class_vectors(encode, names, templates):
    texts = [template.format(name) for name in names for template in templates]
    z = encode(texts)
    z = (z / z.norm(dim=1, keepdim=True)).view(len(names), len(templates), -1).sum(1)
    return z / z.norm(dim=1, keepdim=True)
""",
        "zero_shot": """
def zero_shot(pictures, classes, temperature=0.07):
    rows = []
    for picture in pictures:
        powers = torch.exp(classes @ picture / picture.norm() / temperature)
        rows.append(powers / powers.sum())
    return torch.stack(rows)
""",
        "recall": """
def recall(similarities, right, k):
    found = 0
    for row, answers in zip(similarities.tolist(), right.tolist()):
        order = sorted(range(len(row)), key=lambda j: -row[j])[:k]
        found += any(answers[j] for j in order)
    return found / len(similarities)
""",
        "chance": "def chance(k, gallery):\n    return sum(1 / gallery for _ in range(k))\n",
    },
}
