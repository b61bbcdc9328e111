"""What the cards of the CLIPs that learn from pairs say, beside their numbers.

Book: multimodal/contrastive
"""

_CARD = """# Model card: {name}

A small CLIP that learnt from pairs of photographs and captions by the {loss} loss. A teaching model: measure it before
you rely on it. Licence: MIT; the eyes Apache-2.0.

## What it is

open_clip's `CLIP`: a vision transformer of 4 blocks on the frozen stages of [EfficientNet-Lite0](efficientnet-lite0.md)
and a text tower of 3 blocks with byte pairs of its own. {{parameters:,}} numbers, {{megabytes:.1f}} MB in half
precision, without the eyes. Images of 192 pixels.

## What it was taught

9,216 photographs of the 27 seen categories, 3,072 of parts that do not exist, and those of 2,400 scenes of two parts
whose parts differ in name and colour. Each photograph had six captions: noun, colour, second colour and state, or two
parts and how they lie. {other} learnt from the same pairs in the same order, by the other loss.

## Recipe

`gadkit train {name}`: AdamW, learning rate 1e-3 with a cosine, weight decay 0.2, 3,000 steps of 256 pairs, the running
average of the weights. One run, seed 0. Nothing was searched.

## Measured

300 photographs a column for retrieval and classes, at most 150 choices of each kind. `seen` are new products of the
categories of the training. Of the other two splits neither the categories nor their words were in the training;
held-out was run once. A choice by lot is right half of the time.

Beside the model stand an untrained CLIP on random eyes, `clip-random`, and a sceptic that knows colours and a bag of
words. Chance is an answer by lot; several photographs may fit one caption.

{{tables}}

Target on held-out categories, recall@1 of five times chance or more: {{target}}.

`python -m cards.contrastive` measures all of this again, beside the other CLIPs and a sceptic's baseline.

## Limits

- A noun that no caption had is a name without a meaning.
- It learnt from rendered parts. The chapter shows what it does with photographs.
- Captions that are true of several photographs of a batch count as false for all but one of them.
"""

TEXTS = {
    "clip-pairs": _CARD.format(name="clip-pairs", loss="softmax", other="[siglip](siglip.md)"),
    "siglip": _CARD.format(name="siglip", loss="sigmoid", other="[clip-pairs](clip-pairs.md)"),
}
