"""Tokenizers of our own in transformers' classes: byte pairs for CLIP's family, word pieces for Grounding DINO.

Book: objects/open-vocabulary
"""

import gzip
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from gadkit import weights
from gadkit.nn import private

if TYPE_CHECKING:
    from transformers import BertTokenizer, CLIPTokenizer

PLACES = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
FIRST = 1030  # id of the first word: below it all is as in the vocabulary of bert-base-uncased, or unused


@cache
def byte_pairs() -> "CLIPTokenizer":
    """The tokenizer of the tiny CLIPs: the ids that open_clip's gives."""
    with private.without_compiler():
        from open_clip.tokenizer import bytes_to_unicode
    from transformers import CLIPTokenizer

    path = weights.verified(weights.ASSETS / "tiny-bpe.txt.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        merges = [tuple(line.split()) for line in lines.read().split("\n")[1:] if len(line.split()) == 2]
    units = list(bytes_to_unicode().values())
    words = [*units, *(unit + "</w>" for unit in units), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges)


def learn_pieces(corpus: Sequence[str], endings: int = 100) -> tuple[str, ...]:
    """Word pieces that spell any word: letters and signs, the words of a corpus, and their most frequent endings.

    The same corpus gives the same pieces, whose ids begin at `FIRST`.
    """
    words = sorted({word for text in corpus for word in re.findall("[a-z0-9]+", text.lower())})
    signs = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    counted = Counter(word[-length:] for word in words for length in (2, 3, 4) if length < len(word))
    common = sorted(counted, key=lambda ending: (-counted[ending], ending))[:endings]
    found = [*signs, *",-'", *("##" + sign for sign in signs), *words, *("##" + ending for ending in common)]
    return tuple(dict.fromkeys(found))


def word_pieces(pieces: Sequence[str]) -> "BertTokenizer":
    """A tokenizer of such pieces whose [CLS], [SEP], full stop and question mark stand where transformers wants them.

    Its Grounding DINO parts a text's phrases at the ids 101, 102, 1012 and 1029, whatever the vocabulary.
    """
    from transformers import BertTokenizer

    special = {place: word for word, place in PLACES.items()}
    words = [special.get(place, f"[unused{place}]") for place in range(FIRST)] + [*pieces]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)})
