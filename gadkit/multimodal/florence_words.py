"""The words of a small Florence-2: byte pairs learnt from what is said in the factory, and a token for every bin.

Book: multimodal/florence2
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gadkit.checks import check_texts
from gadkit.factory import descriptions
from gadkit.factory.catalogue import CATEGORIES
from gadkit.multimodal.location import BINS

if TYPE_CHECKING:
    from transformers import BartTokenizer

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # ids 0 to 4, as BART has them
ADDED = (*(f"<loc_{i}>" for i in range(BINS)), "<sep>", "<poly>", "</poly>")
IMAGE = "<image>"
SWAPPED = ({"leftmost": "rightmost", "left of": "right of"}, {"topmost": "bottommost", "above": "below"})
PROMPTS = (  # of transformers' processor, for the tasks that are learnt
    "What does the image describe?",
    "Locate the objects with category name in the image.",
    "Locate the nut in the image with mask",
    "What does the region describe?",
    "Locate the nut in the image.",
)


def sentences() -> list[str]:
    """What the words are learnt from: all that is said of parts and scenes, and the tasks' sentences."""
    nouns = [noun for one in CATEGORIES.values() for noun in one.nouns]
    sides = [word for pairs in SWAPPED for pair in pairs.items() for word in pair]
    said = [f"the {side} the {noun}" for side in (*sides, "largest", "smallest", "on") for noun in nouns]
    return [*descriptions.vocabulary(), *nouns, *said, *PROMPTS * 20]


def learn_words(corpus: Sequence[str], size: int = 1200) -> str:
    """Byte pairs learnt from a corpus, as JSON: the words in the order of their ids, and the merges.

    Raises ValueError for no text.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    check_texts(corpus, "corpus")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[*SPECIAL], initial_alphabet=sorted(letters), show_progress=False
    )
    learner.train_from_iterator(corpus, trainer)
    learnt = json.loads(learner.to_str())["model"]
    words = sorted(learnt["vocab"], key=learnt["vocab"].get)
    return json.dumps([words, [pair if isinstance(pair, str) else " ".join(pair) for pair in learnt["merges"]]])


def tokenizer(words: str) -> "BartTokenizer":
    """BART's tokenizer of such words, with a token for each bin of a coordinate and one for the image."""
    from transformers import BartTokenizer

    vocabulary, merges = json.loads(words)
    found = BartTokenizer(
        vocab={word: i for i, word in enumerate(vocabulary)},
        merges=[tuple(pair.split(" ")) for pair in merges],
        extra_special_tokens={"image_token": IMAGE},
    )
    found.add_tokens([*ADDED])
    return found
