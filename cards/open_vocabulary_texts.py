"""The words of the cards of OWL-ViT and Grounding DINO; the numbers come from their files.

Book: objects/open-vocabulary
"""

MEASURED = """## Measured

AP50 over {count} scenes of 128 pixels a column, 2 to 6 parts each: the mean over words and, in brackets, that of boxes
alone, whatever word they answer to. The words withheld are {withheld}: they are in the scenes, no box of theirs was
given, and no text asked for them there; all 19 seen words are asked for together. In the last two columns neither the
categories nor their words were in any training. Held-out was run {runs}.

{table}

Withheld words: {unseen}. Held-out words: {held_out}.

The blobs are connected regions on one side of Otsu's threshold. They cannot read, so every word gets all of them.

A small sample, repeated by the tests: AP50 {sample:.3f} on the words of training, over 24 scenes.

`python -m cards.open_vocabulary {name}` measures all of this again.
"""

OWL = (
    """# Model card: owl-vit

A small OWL-ViT that finds the factory's parts by their names. A teaching model: measure it before you rely on it.
Licence: MIT; the eyes Apache-2.0.

## What it is

transformers' `OwlViTForObjectDetection`. Its two towers are those of [clip](clip.md): a vision transformer of 4 blocks
on the frozen stages of [EfficientNet-Lite0](efficientnet-lite0.md), and a text tower of 3 blocks with byte pairs of its
own. 14 x 14 image tokens give one box each. {parameters:,} numbers, {megabytes:.1f} MB in half precision, without the
eyes and the text tower, which are read from their own files. Images of 224 pixels.

## What it was taught

`clip` had read captions of all 27 seen categories. The detector then learnt from {scenes:,} scenes of 128 pixels, with
boxes of 15 of the 19 categories that are objects. Beside them it named photographs of single sound parts, four on a
square, of all 19: the words that are withheld below came with photographs and without boxes.

## Recipe

AdamW, learning rate 1e-3 with a cosine, {steps} steps of {batch} scenes; focal, L1 and generalized IoU after Hungarian
matching, and focal loss for the photographs' names. The text tower and the eyes stay as they are. One run, seed {seed},
{seconds:,} seconds on {device}. The number of steps was set by time, and nothing was searched. {repeats}

"""
    + MEASURED.replace("{name}", "owl-vit").replace("{runs}", "once with these weights, and once with earlier ones")
    + """
## An image instead of a word

{like_scenes} scenes of the development split. The {asking} most visible things of each category are what is asked by,
each in all other scenes, and boxes of any confidence count. A hit is a scene with the category whose surest box
overlaps such a thing by half. Chance is how often a box drawn exactly around a random thing of the scene would hit.

{like}

## Limits

- A word that no caption had is a name without a meaning: the held-out column says how little is left then.
- Trained for 100 steps (`python -m experiments.object_eyes`), it has an AP50 of .197 for taught words with the real
  eyes and .015 with random ones; on development categories both are near nothing. One run each.
- It learnt from rendered parts. The chapter shows what it does with photographs.
"""
)

DINO = (
    """# Model card: grounding-dino

A small Grounding DINO that finds the factory's parts by nouns, colours and phrases. A teaching model: measure it before
you rely on it. Licence: MIT; the eyes Apache-2.0.

## What it is

transformers' `GroundingDinoForObjectDetection` with two layers of encoder and decoder, 64 wide, and 30 queries, on the
frozen stages of [EfficientNet-Lite0](efficientnet-lite0.md). A BERT of two layers, 96 wide, reads words and word
pieces of our own, from scratch. {parameters:,} numbers, {megabytes:.1f} MB in half precision, without the eyes.
Images of 160 pixels.

## What it was taught

{scenes:,} scenes of 128 pixels with captions: nouns of 15 of the 19 seen categories that are objects, some with a
colour, and phrases that are true of one part only. No word was ever read outside of these captions.

## Recipe

AdamW, learning rate 1e-3 with a cosine, {steps} steps of {batch} scenes; the model's own loss, scaled. One run, seed
{seed}, {seconds:,} seconds on {device}. The number of steps was set by time, and nothing was searched. {repeats}

"""
    + MEASURED.replace("{name}", "grounding-dino").replace("{runs}", "once")
    + """
## Limits

- Its text encoder has read nothing but the captions of its own training, so a new word has no meaning.
- How well it tells "left of" from "right of" was not measured.
- It learnt from rendered parts. The chapter shows what it does with photographs.
"""
)

TEXTS = {"owl-vit": OWL, "grounding-dino": DINO}
