"""Model directories that nobody vouches for, read whole or refused with one named error.

No code of a directory runs (`trust_remote_code=False`; weights from safetensors), no file that its index names is read
outside of it, and no weight that it lacks is left random.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.initialization import no_init_weights

INDEX_FILES = "*.index.json"
ADAPTER_FILE = "adapter_config.json"
MOST_LAYERS = 10_000
_NAMED = 5


class UnusableModel(ValueError):
    """A model directory that cannot be used as it is; the message says why and what to do."""


def load_config(path: str | Path, **where: Any) -> Any:
    """The configuration of a model directory or of a name on the hub.

    Args:
        path: directory, or name on the hub.
        where: for `from_pretrained`, such as `local_files_only=True`.

    Raises:
        OSError: there is none.
        UnusableModel: it needs code of its own, or cannot be read.
    """
    check_directory(path)
    return _read(AutoConfig, path, **where)


def load_auto_processor(path: str | Path, **where: Any) -> Any:
    """The processor of a model directory or of a name on the hub. Arguments and errors are those of `load_config`."""
    check_directory(path)
    return _read(AutoProcessor, path, **where)


def load_whole_model(path: str | Path, kind: Any = AutoModelForImageTextToText, **settings: Any) -> Any:
    """A model with every weight from the directory.

    Args:
        path: directory, or name on the hub.
        kind: class with `from_pretrained`.
        settings: for it, such as `dtype`.

    Raises:
        OSError: there is none.
        UnusableModel: it needs code of its own, lacks weights, has some of other shapes, holds an adapter alone, is
            described as larger than its files are, or cannot be read.
    """
    check_directory(path)
    _check_size(path, kind)
    model, found = _read(kind, path, use_safetensors=True, output_loading_info=True, **settings)
    missing = sorted(map(str, found.get("missing_keys") or ()))
    if missing:
        raise UnusableModel(
            f"{path} lacks {len(missing)} weights of {type(model).__name__}, which would be left random: "
            f"{_some(missing)}. Take a whole copy of the model, or one of this architecture"
        )
    return model


def check_directory(path: str | Path) -> None:
    """Refuse a directory that asks for compiled code, holds an adapter alone, or whose index names files outside of it.

    What is no directory (a name on the hub) passes.

    Raises:
        UnusableModel: with the file.
    """
    folder = Path(path)
    if not folder.is_dir():
        return
    if (folder / ADAPTER_FILE).is_file():
        raise UnusableModel(
            f"{path} holds an adapter ({ADAPTER_FILE}), not a whole model: only the adapter would be saved after "
            "training. Merge it into its base first: PeftModel.from_pretrained(base, path).merge_and_unload()"
            ".save_pretrained(folder), and the processor beside it"
        )
    for kernels in _kernels(_json(folder / "config.json")):
        raise UnusableModel(_needs_code(f"{folder / 'config.json'} takes its attention from {kernels[:80]!r}"))
    for index in sorted(folder.glob(INDEX_FILES)):
        named = _json(index)
        files = named.get("weight_map") if isinstance(named, Mapping) else None
        if not isinstance(files, Mapping) or not all(isinstance(file, str) for file in files.values()):
            raise UnusableModel(f"{index} is no index of weights: wanted a weight_map of names and files")
        for file in sorted(set(files.values())):
            if Path(file).name != file or file in ("", ".", ".."):
                raise UnusableModel(f"{index} names {file[:80]!r}: wanted files beside it, by their names alone")
            if not (folder / file).is_file():
                raise UnusableModel(f"{index} names {file[:80]!r}, which is not there: take a whole copy of the model")


def _read(kind: Any, path: str | Path, **settings: Any) -> Any:
    with _as_unusable(path):
        return kind.from_pretrained(str(path), trust_remote_code=False, **settings)


@contextmanager
def _as_unusable(path: str | Path) -> Iterator[None]:
    """Whatever is raised inside the block of a directory, as one named error; what is not there stays an OSError."""
    try:
        yield
    except (OSError, UnusableModel):
        raise
    except ImportError as error:
        raise UnusableModel(f"{path}: {_first_lines(error)}") from error
    except Exception as error:  # what a damaged file makes transformers raise is of any kind
        if "trust_remote_code" in str(error):
            raise UnusableModel(_needs_code(str(path))) from error
        raise UnusableModel(
            f"{path} cannot be read: {type(error).__name__}: {_first_lines(error)}. Take a whole copy of the model"
        ) from error


def _check_size(path: str | Path, kind: Any) -> None:
    """Refuse a configuration of far more parameters than the files hold, before memory is taken."""
    files = sorted(Path(path).glob("*.safetensors"))
    if not files:
        return
    config = _read(AutoConfig, path)
    if getattr(config, "quantization_config", None) is not None:
        return  # several values of a weight share a number
    layers = list(_layer_counts(config.to_dict()))
    if max(layers, default=0) > MOST_LAYERS:
        raise UnusableModel(f"{path}: config.json describes {max(layers):,} layers; at most {MOST_LAYERS:,} are read")
    with _as_unusable(path), torch.device("meta"), no_init_weights():
        made = kind.from_config(config, trust_remote_code=False) if hasattr(kind, "from_config") else kind(config)
        made.tie_weights()
    described = sum(parameter.numel() for parameter in made.parameters())
    with _as_unusable(path):
        held = sum(map(_numel, files))
    if described > 2 * held:  # where less is missing, it is read and named
        raise UnusableModel(
            f"{path}: config.json describes {described:,} parameters and the files hold {held:,}. Take a whole copy of "
            "the model"
        )


def _numel(file: Path) -> int:
    """Numbers in a file of weights; only its header is read."""
    with safe_open(file, framework="pt") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def _layer_counts(config: Any) -> Iterator[int]:
    if isinstance(config, Mapping):
        for name, value in config.items():
            if "layers" in str(name) and isinstance(value, int):
                yield value
            yield from _layer_counts(value)


def _needs_code(what: str) -> str:
    return (
        f"{what}: the model brings code of its own, which is never run here. Take one whose architecture transformers "
        "has, or convert it"
    )


def _json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UnusableModel: it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise UnusableModel(f"{path} cannot be read: {_first_lines(error)}. Take a whole copy of the model") from error


def _kernels(config: Any) -> Iterator[str]:
    """Attention that a configuration, or one inside it, would have fetched as compiled code from the hub."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            if "attn_implementation" in name and isinstance(value, str) and "/" in value:
                yield value
            yield from _kernels(value)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _first_lines(error: BaseException) -> str:
    """What an error says, in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
