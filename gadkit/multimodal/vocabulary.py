"""The tokenizers of the small BLIP and BLIP-2, in transformers' classes: word pieces and byte pairs.

Both learn from every sentence pattern of the factory and are kept in the header of the weights.

Book: multimodal/blip
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from gadkit.checks import check_texts, checked, whole
from gadkit.objects.vocabulary import learn_pieces

if TYPE_CHECKING:
    from transformers import BertTokenizer, GPT2Tokenizer, PreTrainedTokenizerBase

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", ".", "?", ":")
PAD, IGNORED = 0, -100  # the id of padding in a text, and what a loss passes over
BYTES = 1000  # byte pairs
PROMPT = "Question: {} Answer:"  # of BLIP-2's authors


@checked
def pieces(corpus: Sequence[str]) -> list[str]:
    """Word pieces, those that mean something to a BLIP first.  Raises ValueError for no text."""
    return [*dict.fromkeys((*SPECIAL, *learn_pieces(corpus)))]


def word_pieces(vocabulary: Sequence[str]) -> "BertTokenizer":
    """BLIP's tokenizer: BERT's, and a token [DEC] with which a decoder begins."""
    from transformers import BertTokenizer

    found = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})
    found.add_special_tokens({"bos_token": "[DEC]"})
    return found


@checked
def learn_pairs(corpus: Sequence[str], size: int = BYTES) -> str:
    """A byte-level vocabulary of at most `size` tokens, as JSON.  Raises ValueError for no text, or below 260."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    check_texts(corpus, "corpus"), whole("size", size, 260)
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=["<pad>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    held = json.loads(learner.to_str())["model"]
    return json.dumps({"vocab": held["vocab"], "merges": held["merges"]})


def byte_pairs(learnt: str) -> "GPT2Tokenizer":
    """The tokenizer of the OPT in BLIP-2, which begins a text with </s>, as that of the published ones does."""
    from tokenizers.processors import TemplateProcessing
    from transformers import GPT2Tokenizer

    held = json.loads(learnt)
    end = "</s>"
    merges = [tuple(merge) for merge in held["merges"]]
    found = GPT2Tokenizer(
        vocab=held["vocab"], merges=merges, bos_token=end, eos_token=end, unk_token=end, pad_token="<pad>"
    )
    begun = TemplateProcessing(single=f"{end} $A", special_tokens=[(end, held["vocab"][end])])
    found.backend_tokenizer.post_processor = begun
    return found


@checked
def ids_of(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", most: int) -> Int[Tensor, "n l"]:
    """The ids of texts, each as the tokenizer begins and ends it, padded to the longest with 0.

    Raises ValueError for a text of more than `most` tokens.
    """
    found = [torch.tensor(row) for row in tokenizer([*texts])["input_ids"]]
    if (longest := max(map(len, found))) > most:
        raise ValueError(f"texts: expected at most {most} tokens, got one of {longest}")
    return torch.nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=PAD)
