"""The tokenizer of a model that is put together from parts: read, or learnt, and given a word for pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from contralign.models.convert.checkpoint import read_json
from contralign.models.tiny import BOS, EOS, IMAGE_TOKEN, UNK, SpecialTokens, train_tokenizer

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
"""Model type of a language model -> special tokens with the ids that its own tokenizer gives them (Gemma's turns have
others there)."""

ROLES = ("unk_token", "bos_token", "eos_token", "pad_token")


def learn_tokenizer(model_type: str, texts: Iterable[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """A small tokenizer with the special tokens of a LLaMA's or a Gemma's, and `<image>` behind its words."""
    return train_tokenizer(texts, vocab_size, max_length, SPECIAL_TOKENS[model_type])


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a language model, with `<image>` behind its words and padding on the right.

    tokenizer.json is read as it stands: `AutoTokenizer` would rebuild it, and move tokens (spec, section 10.1). Where
    there is no pad token the unknown one pads, as in LLaVA.

    Raises:
        ValueError: there is none, or it lacks a token to begin, end or pad with.
    """
    image_token = {"image_token": IMAGE_TOKEN}
    if (folder / "tokenizer.json").is_file():
        settings = read_json(folder / "tokenizer_config.json")
        roles = {role: _content(settings[role]) for role in ROLES if settings.get(role)}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), extra_special_tokens=image_token, **roles
        )
    else:
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, extra_special_tokens=image_token)
        except (OSError, ValueError, ImportError) as error:
            raise ValueError(
                f"{folder} has no tokenizer.json, and its tokenizer cannot be read otherwise ({error}): give "
                "`tokenizer`, a directory or a name on the hub that has one"
            ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token
    absent = [role for role in ("bos_token", "eos_token", "pad_token") if getattr(tokenizer, role) is None]
    if absent:
        raise ValueError(f"{folder}: the tokenizer has no {', '.join(absent)}: name them in tokenizer_config.json")
    tokenizer.padding_side = "right"
    return tokenizer


def _content(token: str | dict[str, str]) -> str:
    return token if isinstance(token, str) else token["content"]
