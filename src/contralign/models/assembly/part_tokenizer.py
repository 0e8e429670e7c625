"""The tokenizer of a model of parts: its language model's own, or one that is learnt for a small shape."""

from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from contralign.models.convert.tokenizers.sentencepiece_tokenizer import read_tokenizer
from contralign.models.decoder.image_token import add_image_token
from contralign.models.small.tiny import BOS, EOS, UNK, SpecialTokens, train_tokenizer

SPECIAL_TOKENS = {
    "llama": SpecialTokens(names=(UNK, BOS, EOS), unk=UNK, bos=BOS, eos=EOS, pad=UNK),
    "gemma": SpecialTokens(
        names=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        unk="<unk>",
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
    ),
}
"""Model type of a language model -> special tokens by the ids that its own tokenizer gives them (in a true Gemma's the
marks of a turn stand further back)."""


def load_part_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that a directory holds, giving the ids of the original, with `<image>` behind its words.

    It pads on the right, with the unknown token where there is no pad token, as LLaVA does.

    Raises:
        ConversionError: there is none, or it cannot be read without a change of ids.
    """
    tokenizer = read_tokenizer(folder)
    add_image_token(tokenizer)
    return tokenizer


def train_part_tokenizer(
    model_type: str, texts: Iterable[str], vocab_size: int, max_length: int
) -> PreTrainedTokenizerFast:
    """A small tokenizer with the special tokens of a LLaMA's or a Gemma's, and `<image>` behind its words."""
    return train_tokenizer(texts, vocab_size, max_length, SPECIAL_TOKENS[model_type])
