"""Tokenizers of our own in transformers' classes: byte pairs for CLIP's family, word pieces for Grounding DINO.

Book: objects/open-vocabulary
"""

import gzip
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
    """The tokenizer of the tiny CLIPs: the ids that open_clip's gives, padded with id 0."""
    with private.without_compiler():
        from open_clip.tokenizer import bytes_to_unicode
    from transformers import CLIPTokenizer

    path = weights.verified(weights.ASSETS / "tiny-bpe.txt.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        merges = [tuple(line.split()) for line in lines.read().split("\n")[1:] if len(line.split()) == 2]
    units = list(bytes_to_unicode().values())
    words = [*units, *(unit + "</w>" for unit in units), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges, pad_token=words[0])


def learn_pieces(corpus: Sequence[str], size: int = 600) -> tuple[str, ...]:
    """At most `size` word pieces that spell the words of a corpus, letters first; their ids begin at `FIRST`.

    The same corpus gives the same pieces.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [*"0123456789-,"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, initial_alphabet=letters, special_tokens=["[UNK]"], show_progress=False
    )
    learner.train_from_iterator([*corpus, " ".join(a + b for a in letters[:26] for b in letters[:26])], trainer)
    found = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    return tuple(word for word, _ in found if word not in PLACES)


def word_pieces(pieces: Sequence[str]) -> "BertTokenizer":
    """A tokenizer of such pieces whose [CLS], [SEP], full stop and question mark stand where transformers wants them.

    Its Grounding DINO parts a text's phrases at the ids 101, 102, 1012 and 1029, whatever the vocabulary.
    """
    from transformers import BertTokenizer

    special = {place: word for word, place in PLACES.items()}
    words = [special.get(place, f"[unused{place}]") for place in range(FIRST)] + [*pieces]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)})
