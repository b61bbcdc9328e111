"""The words of the cards of BLIP and BLIP-2, around the numbers that `cards.readers` measures.

Book: multimodal/blip
"""

_BLIP = """# Model card: blip

A small BLIP for visual inspection: it writes captions, answers questions, and says how well texts fit. It is a teaching
model.

## What it is

transformers' `BlipForConditionalGeneration`, `BlipForQuestionAnswering` and `BlipForImageTextRetrieval` over one set of
weights. As in the paper, text encoder and text decoder share their word embeddings, cross-attention and feed-forward
layers, and differ in self-attention. Beyond the paper, captions and answers are written by one decoder: published
checkpoints are finetuned apart. The image tower begins with the stem and two blocks of [clip](clip.md), frozen and read
from its file, on the frozen [EfficientNet-Lite0](efficientnet-lite0.md); two more blocks began as the clip's and learnt
on. {parameters:,} weights of its own, {megabytes:.1f} MB in half precision. Images of 224 pixels. Licence: MIT.

## What it learnt from

{photographs:,} photographs of the factory, two thirds of seen categories, the others of parts that do not exist, and
their mirror images; six true captions, four that are false of one thing, and eight questions with answers for each."""

_BLIP2 = """# Model card: blip2

A small BLIP-2 for visual inspection: a frozen image tower, a frozen small language model, and a Q-Former between them.
It is a teaching model.

## What it is

transformers' `Blip2ForConditionalGeneration` (with an OPT) and `Blip2ForImageTextRetrieval` over one Q-Former of 4
layers, 128 wide, with 12 queries. The image tower is the stem and the first three of four blocks of [clip](clip.md),
read from its file. The OPT has 3 layers, 128 wide, and byte pairs of its own. {parameters:,} weights of its own,
{megabytes:.1f} MB in half precision. Images of 224 pixels. Licence: MIT.

## What it learnt from

The language model read of 6,000 parts that nobody photographed, of every category, in captions, questions and
answers. The Q-Former saw {photographs:,} photographs, two thirds of seen categories, the others of parts that do not
exist, and their mirror images."""

_UNSEEN = """The development categories (connector, fuse, toothbrush, cookie, mesh, cardboard) and the held-out ones
(nut, cable, transistor, zipper, capsule, hazelnut, wood, leather, grid, weave) were never photographed for training.
Their nouns are words that the tokenizer has, and no image taught them: a model cannot learn to name them from pictures,
and may still see what is wrong with them."""

_RECIPE = """## Recipe

`gadkit train blip`: image-text contrast, image-text matching with hard negatives and with false captions, captions, and
answers, all in every step, their sum; AdamW, learning rate 1e-3 with a warm-up and a cosine, weight decay 0.05,
dropout 0.1, label smoothing 0.1, {steps:,} steps of {batch} photographs. One run, seed {seed}, {seconds:,.0f}
seconds of steps on {device}. The paper's filter for captions from the web is left out: the factory's are true."""

_STAGES = """## Recipe

`gadkit train blip2`, {steps:,} steps each: the language model on texts alone, then frozen; stage 1 by contrast,
matching and writing; stage 2 by the language model's loss, in which every fourth step is one of stage 1, so that one
Q-Former serves both classes: the authors publish one checkpoint for each. AdamW, learning rate 1e-3 with a warm-up
and a cosine, weight decay 0.05, {batch} photographs a step. One run, seed {seed}, {seconds:,.0f} seconds of steps on
{device}.

The weights are older than one mend of the recipe. In their training, gradients that the language model had kept from
its own stage counted in the length by which those of stage 2 were clipped. Weights by today's recipe were not made."""

_MEASURED = """## Measured

{count} photographs a split at 96 pixels, none of them in training, every question that the factory can answer about
each; {measured_on}. CIDEr-D with five references, times 10. "Exact state" asks for the kind of defect, "damaged or
sound" only for that. "Match" is how often a true caption fits better than one that is false of its state, colour or
noun; chance is .5. "Question only" is a reader that sees no image and gives the answer that was most frequent for the
very question; "most frequent" gives that of the kind of question, and one caption for all. Networks with random
weights were measured on {few} photographs.

Seen categories, other products:

{seen}

Development:

{development}

Held-out, measured first on 40 photographs and then once on these {count}:

{held_out}

Targets on held-out: {targets}.

The small sample that the tests repeat (12 development photographs): {sample}.

`python -m cards.readers` measures all of this again."""

_LIMITS = """## Limits

It knows the factory's words and a few dozen things. Of a photograph of anything else it speaks as if it were one of
them. An answer says nothing of how sure it is. Do not put it on a line that matters without measuring it there.
"""

TEXTS = {
    "blip": "\n\n".join([f"{_BLIP} {_UNSEEN}", _RECIPE, _MEASURED, _LIMITS]),
    "blip2": "\n\n".join([f"{_BLIP2} {_UNSEEN}", _STAGES, _MEASURED, _LIMITS]),
}
