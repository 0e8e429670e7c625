"""A checkpoint directory of one layout into a whole directory of the other, written beside and renamed."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from contralign.models.convert.checkpoint import ConversionError, conversion_errors, read_json, tensor_names
from contralign.models.convert.original_formats import ORIGINAL_FORMATS, converted_format_of, original_format_of
from contralign.models.convert.original_layout import DERIVED
from contralign.models.convert.output_directory import atomic_directory, check_output_directory
from contralign.models.convert.sources import find_source, whole_checkpoint
from contralign.models.convert.tokenizers.sentencepiece_tokenizer import (
    ADDED_FILE,
    FAST_FILE,
    MODEL_FILE,
    SETTINGS_FILE,
    read_tokenizer,
)
from contralign.models.convert.tokenizers.vocabulary import add_image_row, original_vocab_size
from contralign.models.decoder.image_token import add_image_token

ORIGINAL_TOKENIZER = "original_tokenizer"
TOKENIZER_FILES = (MODEL_FILE, FAST_FILE, SETTINGS_FILE, "special_tokens_map.json", ADDED_FILE)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p")


@dataclass(kw_only=True)
class Conversion:
    """What a conversion did.

    Attributes:
        family: name of the family.
        to: "hf" or "original".
        parts: name of a part -> (tensors, parameters) in it.
        dtype: of the weights.
        derived: names in the source that follow from the config and were left out.
        notes: what was added, taken off or left out besides.
    """

    family: str
    to: str
    parts: dict[str, tuple[int, int]]
    dtype: str
    derived: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def num_tensors(self) -> int:
        """Tensors of the written model."""
        return sum(tensors for tensors, _ in self.parts.values())


def layout_of(config: dict[str, Any]) -> str:
    """The layout that a config.json belongs to: "hf" or "original"."""
    return "hf" if "text_config" in config else "original"


def to_hugging_face(
    source: str | Path,
    out: str | Path,
    *,
    tower_root: str | Path | None = None,
    base: str | Path | None = None,
    dtype: torch.dtype | None = None,
    keep_vocabulary: bool = False,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Conversion:
    """An original checkpoint as a Hugging Face directory: model, config, generation settings and processor.

    Args:
        source: folder, or hub name in the cache.
        out: the directory to write.
        tower_root: directory that `mm_vision_tower` is relative to; None takes that name as a path, or as a hub name
            that is in the cache.
        base: the language model of a source that holds an adapter alone.
        dtype: of the weights; None keeps that of the source.
        keep_vocabulary: give the image token no row: the original's softmax exactly, but only an adapter (or
            `inputs_embeds`) can feed the model, not its own `generate`.
        tokenizer: directory of the tokenizer; None looks in the source, then in the base.
        overwrite: replace `out`.
        dry_run: read and check all, write nothing.

    Raises:
        ConversionError: something has no place, no value, or no effect; all of a kind are named.
    """
    path = find_source(source)
    out = check_output_directory(Path(out), path, overwrite)
    original = read_json(path / "config.json")
    name = original_format_of(original)
    family = ORIGINAL_FORMATS[name]
    base_path = None if base is None else find_source(base)
    tokenizer_path = _tokenizer_directory(tokenizer, path, base_path)
    words = read_tokenizer(tokenizer_path)
    with whole_checkpoint(path, base_path) as whole:
        model = family.load(whole, tower_root=tower_root, dtype=dtype)
        derived = [key for key in tensor_names(whole) if key.endswith(DERIVED)]
    notes = [f"tokenizer: {tokenizer_path}"]
    notes += _set_image_token(model, words, family.image_row, keep_vocabulary)
    notes += _set_generation(model, path, words)
    processor = family.processor(model, words, tower_root)
    if not dry_run:
        with atomic_directory(out, _size(model)) as folder:
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            _copy_files(tokenizer_path, folder / ORIGINAL_TOKENIZER, TOKENIZER_FILES)
    return Conversion(family=name, to="hf", parts=_parts(model), dtype=_dtype(model), derived=derived, notes=notes)


def to_original(
    source: str | Path,
    out: str | Path,
    *,
    dtype: torch.dtype | None = None,
    tokenizer: str | Path | None = None,
    weight_format: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Conversion:
    """A Hugging Face directory in the layout that its authors' code reads.

    Args:
        source: folder, or hub name in the cache.
        out: the directory to write.
        dtype: of the weights; None keeps that of the source.
        tokenizer: directory of the original tokenizer; None takes the one that the conversion from the original kept.
        weight_format: safetensors or bin, if the family has both; None takes safetensors.
        overwrite: replace `out`.
        dry_run: read and check all, write nothing.

    Raises:
        ConversionError: the source does not fill its model, or the original has no word for it.
    """
    path = find_source(source)
    out = check_output_directory(Path(out), path, overwrite)
    name = converted_format_of(read_json(path / "config.json"))
    formats = ORIGINAL_FORMATS[name].formats
    if weight_format is not None and weight_format not in formats:
        raise ConversionError(f"--format {weight_format}: {name} is written as {' or '.join(formats)}")
    model, derived = _load_whole(path, dtype)
    notes = _removed_rows(model)
    kept = path / ORIGINAL_TOKENIZER if tokenizer is None else find_source(tokenizer)
    if (kept / MODEL_FILE).is_file():
        notes.append(f"tokenizer: {kept}")
    elif tokenizer is not None:
        raise ConversionError(f"--tokenizer {kept} has no {MODEL_FILE}: the original reads no other file")
    else:
        notes.append(f"no {MODEL_FILE} is known: copy that of the language model into {out}, or give --tokenizer")
    if not dry_run:
        with atomic_directory(out, _size(model)) as folder:
            ORIGINAL_FORMATS[name].save(model, folder, weight_format=weight_format or formats[0])
            _copy_files(kept, folder, TOKENIZER_FILES)
    return Conversion(
        family=name, to="original", parts=_parts(model), dtype=_dtype(model), derived=derived, notes=notes
    )


def _tokenizer_directory(tokenizer: str | Path | None, path: Path, base: Path | None) -> Path:
    if tokenizer is not None:
        return find_source(tokenizer)
    for directory in (path, base):
        if directory is not None and any((directory / name).is_file() for name in (MODEL_FILE, FAST_FILE)):
            return directory
    raise ConversionError(f"no tokenizer in {path}: wanted {MODEL_FILE}; give --tokenizer DIR")


def _set_image_token(
    model: PreTrainedModel, words: PreTrainedTokenizerFast, image_row: bool, keep_vocabulary: bool
) -> list[str]:
    rows: int = model.config.get_text_config().vocab_size
    if len(words) > rows:
        raise ConversionError(
            f"the tokenizer has {len(words)} words and the model {rows} rows (no row for "
            f"{words.convert_ids_to_tokens(rows)}, ...): is it another model's tokenizer?"
        )
    if keep_vocabulary and not image_row:
        raise ConversionError("this family keeps its vocabulary as it is: --keep-vocabulary has no effect")
    index = add_image_token(words)
    if keep_vocabulary or not image_row:
        model.config.image_token_id = index
        return [f"image token: {index}, " + ("without a row" if index >= rows else "a row of the vocabulary")]
    added = add_image_row(model, index)
    if not added:
        return [f"image token: {index}, a row of the vocabulary that no text uses"]
    return [f"image token: {index}; {added} rows added to {rows}, each the mean of the others"]


def _set_generation(model: PreTrainedModel, path: Path, words: PreTrainedTokenizerFast) -> list[str]:
    """The source's generation settings, without sampling values that have no effect (saving them is an error)."""
    file = path / "generation_config.json"
    said = read_json(file) if file.is_file() else {}
    dropped = [] if said.get("do_sample") else [name for name in SAMPLING if name in said]
    kept = {name: value for name, value in said.items() if name not in (*dropped, "_from_model_config")}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    model.generation_config = GenerationConfig(**{**ends, **kept, "pad_token_id": words.pad_token_id})
    return [f"left out of generation_config.json: {', '.join(dropped)} (it does not sample)"] if dropped else []


def _load_whole(path: Path, dtype: torch.dtype | None) -> tuple[PreTrainedModel, list[str]]:
    """The model, and names in the files that follow from the config.

    Raises:
        ConversionError: the files and the model do not fill each other.
    """
    with conversion_errors(path), _quiet():
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            path,
            dtype=dtype or "auto",
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, all at once
        )
    model, found = loaded
    derived = [name for name in tensor_names(path) if name.endswith(DERIVED)]
    found["unexpected_keys"] = [name for name in found["unexpected_keys"] if not name.endswith(DERIVED)]
    problems = [f"{what}: {', '.join(sorted(map(str, names)))}" for what, names in found.items() if names]
    if problems:
        raise ConversionError(f"{path} does not fill its model. " + "; ".join(problems))
    return model.eval(), derived


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report of keys: they are named in the error."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _removed_rows(model: PreTrainedModel) -> list[str]:
    now: int = model.config.get_text_config().vocab_size
    taken = now - original_vocab_size(model)
    return [f"{taken} rows from {now - taken} on taken off the vocabulary"] if taken else []


def _parts(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    tensors: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    for name, tensor in model.state_dict().items():
        part = ".".join(name.split(".")[: 2 if name.startswith("model.") else 1])
        tensors[part] += 1
        parameters[part] += tensor.numel()
    return {part: (tensors[part], parameters[part]) for part in tensors}


def _size(model: PreTrainedModel) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def _dtype(model: PreTrainedModel) -> str:
    return str(model.dtype).removeprefix("torch.")


def _copy_files(directory: Path, folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (directory / name).is_file():
            folder.mkdir(exist_ok=True)
            shutil.copy(directory / name, folder / name)
