"""The words of the small Florence-2's card; its figures come from a results file and from the weights.

Book: multimodal/florence2
"""

TEXT = """# florence2

A small Florence-2 (Xiao et al., CVPR 2024) in transformers' own classes: {parameters:,} numbers in half precision,
{megabytes:.1f} MB.  Behind the frozen eyes of `efficientnet-lite0`, which lie in their own file, stand one stage of a
DaViT, an encoder and a decoder as BART has them, and a token for each of 1,000 bins.

- Made by `gadkit train florence2`: {steps} steps, seed {seed}, {seconds:.0f} seconds on {device}, on scenes {scenes},
  each in four mirrors, and {photographs} photographs of single parts, all from the factory.
- Tasks: `<CAPTION>`, `<OD>`, `<REFERRING_EXPRESSION_SEGMENTATION>`, `<REGION_TO_DESCRIPTION>` and
  `<OPEN_VOCABULARY_DETECTION>`.  It answers no questions.
- Licence: MIT; the eyes' is Apache-2.0.

## What it reaches

Written greedily.  AP50 is the mean over categories.  The model gives no scores, so a box's is the probability of its
name.  "Boxes alone" counts a box whatever it is called.  The sceptic takes Otsu's blobs, the mean box of a thing, and
the most frequent words.

{tables}

Target: AP50 of 0.40 on held-out categories, by name: {held_out:.3f}, {verdict}.  On categories of the training it is
{seen:.3f}.  What was tried: parts that do not exist, in endless shapes, which are all called "part".  Boxes alone, with
no name, reach {alone:.3f} on held-out categories.

Over a small sample of new scenes with categories of the training, which a test computes again: {sample}.

## What to keep in mind

It names only what it was taught to name: categories that it never saw get the name of one that looks alike, or "part".
It was never shown a real photograph with its words.  Outlines lose holes, and small pieces of what is partly covered.
"""
