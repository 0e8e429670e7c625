"""The original tokenizers of Llama, Vicuna and Gemma as fast tokenizers that give the original's ids.

`AutoTokenizer` and `LlamaTokenizer` of transformers 5 read the same files and give other ids for runs of spaces and
for text behind a special token (spec, section 10.1). What counts:

- SentencePiece joins the two neighbours whose piece has the highest score, the leftmost of equals. A fast BPE joins the
  pair that stands first in its list of merges: they are listed by score, and of equal scores the longer piece comes
  first, which grows a run of spaces from the left as SentencePiece does.
- Llama puts a space in front of the text. Under `legacy` (LLaMA 1, and where tokenizer_config.json is silent) also in
  front of what follows a special token, so " a" becomes `▁▁a`; without (Vicuna 1.5) at the beginning alone.
- Gemma puts no space in front; runs of newlines and of spaces are words of their own.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from contralign.models.convert.checkpoint import ConversionError, read_json
from contralign.models.convert.tokenizers.sentencepiece_model import (
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
    SentencePieceModel,
    read_sentencepiece,
)

SPECIALS = ("bos_token", "eos_token", "unk_token", "pad_token")
MODEL_FILE, FAST_FILE, SETTINGS_FILE = "tokenizer.model", "tokenizer.json", "tokenizer_config.json"
ADDED_FILE = "added_tokens.json"


def read_tokenizer(directory: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of an original checkpoint, padding on the right, with the unknown token where it has no pad token.

    Reads `tokenizer.model`; where there is none, `tokenizer.json` as it stands.

    Args:
        directory: also holds tokenizer_config.json, whose special tokens, `legacy`, `add_bos_token`, `add_eos_token`
            and `model_max_length` are followed.

    Raises:
        ConversionError: there is no tokenizer, or it cannot be read without a change of ids.
    """
    directory = Path(directory)
    settings = _settings(directory)
    if (directory / MODEL_FILE).is_file():
        model = read_sentencepiece(directory / MODEL_FILE)
        specials = _special_tokens(settings, model)
        backend = _backend(model, settings, specials)
    elif (directory / FAST_FILE).is_file():
        backend = _read_fast(directory / FAST_FILE)
        specials = _special_tokens(settings, None)
    else:
        raise ConversionError(f"no tokenizer in {directory}: wanted {MODEL_FILE} or {FAST_FILE}; give --tokenizer DIR")
    specials.setdefault("pad_token", specials["unk_token"])
    length = settings.get("model_max_length")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        **({"model_max_length": length} if isinstance(length, int) and length < 10**9 else {}),
        **specials,
    )


def _settings(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json, with what older versions write to added_tokens.json among its added tokens."""
    path, added = directory / SETTINGS_FILE, directory / ADDED_FILE
    settings = read_json(path) if path.is_file() else {}
    older = read_json(added) if added.is_file() else {}
    decoder = {str(index): {"content": token} for token, index in older.items()}
    return {**settings, "added_tokens_decoder": decoder | settings.get("added_tokens_decoder", {})}


def _read_fast(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the binding raises a bare Exception
        raise ConversionError(f"{path} is no tokenizer ({error}): copy it again") from error


def _special_tokens(settings: Mapping[str, Any], model: SentencePieceModel | None) -> dict[str, str]:
    """bos, eos, unk and, where named, pad: from the settings, else Llama's own names.

    Raises:
        ConversionError: one of them is no piece of the model.
    """
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    for name in SPECIALS:
        value = settings.get(name)
        if value is not None:
            tokens[name] = value["content"] if isinstance(value, dict) else str(value)
    if model is not None:
        known = {piece.text for piece in model.pieces} | set(_added_tokens(settings).values())
        absent = sorted(token for token in tokens.values() if token not in known)
        if absent:
            raise ConversionError(
                f"the tokenizer has no {', '.join(absent)}: name its special tokens in {SETTINGS_FILE}"
            )
    return tokens


def _added_tokens(settings: Mapping[str, Any]) -> dict[int, str]:
    """Tokens that tokenizer_config.json names with their ids."""
    named = settings["added_tokens_decoder"]
    return {int(index): token["content"] for index, token in named.items()}


def _backend(model: SentencePieceModel, settings: Mapping[str, Any], specials: Mapping[str, str]) -> Tokenizer:
    tokenizer = Tokenizer(
        BPE(
            vocab={piece.text: index for index, piece in enumerate(model.pieces)},
            merges=list(merges(model)),
            unk_token=next(piece.text for piece in model.pieces if piece.kind == UNKNOWN),
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    )
    _add_spaces(tokenizer, model, legacy=settings.get("legacy") is not False)
    _add_tokens(tokenizer, model, settings, specials)
    _add_ends(tokenizer, settings, specials)
    return tokenizer


def merges(model: SentencePieceModel) -> Iterator[tuple[str, str]]:
    """Every pair of pieces that makes a third, in the order in which a fast BPE must try them."""
    whole = {piece.text: index for index, piece in enumerate(model.pieces) if piece.kind in (NORMAL, USER_DEFINED)}
    ranked = sorted(
        (piece for piece in model.pieces if piece.kind == NORMAL), key=lambda piece: (-piece.score, -len(piece.text))
    )
    for piece in ranked:
        cuts = ((piece.text[:at], piece.text[at:]) for at in range(1, len(piece.text)))
        pairs = [(left, right) for left, right in cuts if left in whole and right in whole]
        yield from sorted(pairs, key=lambda pair: (whole[pair[0]], whole[pair[1]]))


def _add_spaces(tokenizer: Tokenizer, model: SentencePieceModel, legacy: bool) -> None:
    """Spaces become `▁`, and one is put in front where the original does.

    Without `legacy` only the text's beginning gets one. A normaliser cannot see whether a part begins the text;
    `Metaspace` can, but leaves out its space where one stands already. So all spaces are rewritten before it looks.
    """
    escape = normalizers.Replace(" ", SPACE)
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    normalizer: Any = escape
    if model.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
        if legacy:
            normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), escape])
        else:
            first = pre_tokenizers.Metaspace(replacement=" ", prepend_scheme="first", split=False)
            rest = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never", split=False)
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, rest])  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Sequence(steps)  # pyright: ignore[reportAttributeAccessIssue]


def _add_tokens(
    tokenizer: Tokenizer, model: SentencePieceModel, settings: Mapping[str, Any], specials: Mapping[str, str]
) -> None:
    """Special tokens, found in the text as written; words that SentencePiece was told, found after the normaliser.

    Raises:
        ConversionError: words that were told stand beside a space in front of every part, or an added token's id is
            not free.
    """
    added = _added_tokens(settings)
    wanted = {**{index: piece.text for index, piece in enumerate(model.pieces) if piece.kind == CONTROL}, **added}
    special = [AddedToken(text, normalized=False, special=True) for _, text in sorted(wanted.items())]
    tokenizer.add_special_tokens(special)
    moved = sorted(text for index, text in wanted.items() if tokenizer.token_to_id(text) != index)
    if moved:
        raise ConversionError(f"{SETTINGS_FILE} gives {', '.join(moved)} ids that are not free in {MODEL_FILE}")
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in specials.values()])
    told = [
        piece.text for piece in model.pieces if piece.kind == USER_DEFINED and piece.text not in set(wanted.values())
    ]
    if told and model.add_dummy_prefix:
        raise ConversionError(f"{MODEL_FILE} has words of its own ({', '.join(told[:5])}) and a space in front of text")
    tokenizer.add_tokens([AddedToken(text, normalized=True, special=False) for text in told])


def _add_ends(tokenizer: Tokenizer, settings: Mapping[str, Any], specials: Mapping[str, str]) -> None:
    """Bos before and eos behind a text, as the settings ask."""
    begin = [specials["bos_token"]] if settings.get("add_bos_token", True) else []
    end = [specials["eos_token"]] if settings.get("add_eos_token", False) else []
    tokenizer.post_processor = TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=[*begin, "$A", *end],
        pair=[*begin, "$A", *end, *(f"{token}:1" for token in begin), "$B:1", *(f"{token}:1" for token in end)],
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (*begin, *end)],
    )
