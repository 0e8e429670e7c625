"""A recipe's sources as samples: built-in sets and files, checked, with their noise."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from contralign.data.batches.collator import VLCollator
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import IMAGE, Sample, open_image
from contralign.data.records.mixture import SampleSet, load_samples
from contralign.data.records.swap_noise import swap_images
from contralign.data.sets import SETS
from contralign.data.streams.streaming import SHUFFLE_BUFFER, StreamedSamples
from contralign.nearest import nearest
from contralign.recipe.data_settings import DataSettings, is_builtin, set_name
from contralign.recipe.schema import RecipeError, check_keywords

Check = Callable[[Sample], None]
AnySamples = SampleSet | StreamedSamples


class RecordReader:
    """Reads sources; a built-in set is made and checked once, however many stages and arms ask for it.

    Args:
        keep: most built-in sets kept at a time, and as many checked ones: those last used; None keeps all.
    """

    def __init__(self, keep: int | None = None) -> None:
        self._keep = keep
        self._made: dict[str, list[Sample]] = {}
        self._passed: dict[str, SampleSet] = {}

    def read_for(self, collate: VLCollator, data: DataSettings, sources: Sequence[str], path: str) -> SampleSet:
        """The samples that the collator takes; built-in sets that one with equal settings has taken are not checked.

        Args:
            collate: its `check` is what samples must pass.
            data: see `read`.
            sources: see `read`.
            path: see `read`.

        Raises:
            BadRecord, RecipeError, ValueError: see `read`.
        """
        if not all(map(is_builtin, sources)):
            return self.read(data, sources, path, collate.check)
        settings = [data.source_settings(source) for source in sources]
        key = json.dumps([list(sources), settings, data.on_bad, data.pictures, collate.settings], sort_keys=True)
        found = self._passed.pop(key, None)
        self._passed[key] = self.read(data, sources, path, collate.check) if found is None else found
        self._forget(self._passed)
        return self._passed[key]

    def read(self, data: DataSettings, sources: Sequence[str], path: str, check: Check | None = None) -> SampleSet:
        """The samples of `sources`, which are `data.train` or `data.eval`.

        Args:
            data: whose picture folders, settings and `on_bad` hold.
            sources: built-in sets and files.
            path: dotted place of `data` in the recipe, for messages.
            check: what else a sample must pass, such as `VLCollator.check`.

        Raises:
            BadRecord: a bad record under `on_bad="error"`.
            RecipeError: no such built-in set, or settings that it refuses.
            ValueError: a file that cannot be read.
        """
        read = [self._builtin(data, source, path) if is_builtin(source) else source for source in sources]
        found = load_samples(read, _roots(data, sources), data.on_bad, check)
        return found if data.pictures else SampleSet([without_pictures(sample) for sample in found], found.report)

    def stream(self, data: DataSettings, passes: int | None) -> StreamedSamples:
        """The samples of `data.train`, read as they come.

        Args:
            data: with `streaming`.
            passes: how many; None never ends.

        Raises:
            RecipeError: a source that is not there or cannot be streamed.
        """
        try:
            return StreamedSamples(
                data.train,
                _roots(data, data.train),
                on_bad=data.on_bad,
                shuffle_buffer=SHUFFLE_BUFFER if data.shuffle_buffer is None else data.shuffle_buffer,
                passes=passes,
                change=None if data.pictures else without_pictures,
            )
        except ValueError as error:
            raise RecipeError(f"data.train: {error}") from error

    def _builtin(self, data: DataSettings, source: str, path: str) -> list[Sample]:
        settings = data.source_settings(source)
        key = json.dumps([source, settings], sort_keys=True)
        made = self._made.pop(key, None)
        self._made[key] = make_set(source, settings, path) if made is None else made
        self._forget(self._made)
        return self._made[key]

    def _forget(self, kept: dict[str, Any]) -> None:
        """Let go of what was not used for longest."""
        while self._keep is not None and len(kept) > self._keep:
            del kept[next(iter(kept))]


def make_set(source: str, settings: dict[str, Any], path: str = "data") -> list[Sample]:
    """The samples of "set:split".

    Raises:
        RecipeError: no such set, or a setting that it does not have or refuses.
    """
    check_set(source, settings, path)
    name, split = source.split(":")
    try:
        return SETS[name](split, **settings)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{path}.settings.{name}: {source}: {error}") from error


def check_set(source: str, settings: dict[str, Any], path: str) -> None:
    """Refuse a built-in set that is none, and settings that it does not have.

    Args:
        source: "set:split".
        settings: of the set.
        path: dotted place of `data` in the recipe, for messages.

    Raises:
        RecipeError: with the names there are.
    """
    name = set_name(source)
    if name not in SETS:
        raise RecipeError(f"{path}: no built-in set {name!r}; {nearest(name, SETS)}")
    check_keywords(SETS[name], settings, f"{path}.settings.{name}", given=("split",))


def with_swaps(samples: AnySamples, data: DataSettings, seed: int) -> tuple[AnySamples, list[str]]:
    """The samples with a share of the pictures swapped, and the ids of the swapped ones, sorted.

    Args:
        samples: untouched.
        data: its `swap_noise` and `noise_seed`.
        seed: used where `noise_seed` is None.
    """
    if data.swap_noise == 0 or isinstance(samples, StreamedSamples):
        return samples, []
    noisy, swapped = swap_images(samples.samples, data.swap_noise, seed if data.noise_seed is None else data.noise_seed)
    return SampleSet(noisy, samples.report), sorted(swapped)


def without_pictures(sample: Sample) -> Sample:
    """The same turns, with no pictures between them."""
    turns = tuple(replace(turn, text=turn.text.replace(IMAGE, "").strip()) for turn in sample.turns)
    same = {index for index, turn in enumerate(turns) if turn == sample.turns[index]}
    return replace(sample, turns=turns, pictures=(), spans=tuple(span for span in sample.spans if span.turn in same))


def as_chat(sample: Sample) -> list[dict[str, str]]:
    """A sample as chat messages without its pictures, for training on text alone."""
    return [{"role": turn.role, "content": turn.text.replace(IMAGE, "").strip()} for turn in sample.turns]


def as_captions(samples: Iterable[Sample]) -> tuple[list[Image.Image], list[str]]:
    """First picture and all answers of every sample, for training the vision tower alone; a file is opened once.

    Raises:
        BadRecord: no picture, or one that cannot be decoded.
    """
    pictures, captions = [], []
    opened: dict[Path, Image.Image] = {}
    for sample in samples:
        if not sample.pictures:
            raise BadRecord("no_picture", "a vision tower learns from pictures; take it out of this stage", sample.id)
        picture = sample.pictures[0]
        if isinstance(picture, Path):
            if picture not in opened:
                opened[picture] = open_image(picture)
            picture = opened[picture]
        pictures.append(open_image(picture))
        captions.append(" ".join(turn.text for turn in sample.turns if turn.role == "assistant"))
    return pictures, captions


def make_collator(processor: Any, data: DataSettings, keep_pictures: bool = False) -> VLCollator:
    """The collator that `data` describes."""
    return VLCollator(
        processor,
        template=data.template,
        max_length=data.max_length,
        keep_pictures=keep_pictures,
        on_bad=data.on_bad,
        image_aspect=data.image_aspect,
    )


def _roots(data: DataSettings, sources: Sequence[str]) -> Any:
    """What `load_samples` takes: None, one root for all, or one for each source."""
    if len(data.image_root) < 2:
        return data.image_root[0] if data.image_root and not all(map(is_builtin, sources)) else None
    files = [source for source in (*data.train, *data.eval) if not is_builtin(source)]
    by_file = dict(zip(files, data.image_root, strict=True))
    return [by_file.get(source) for source in sources]
