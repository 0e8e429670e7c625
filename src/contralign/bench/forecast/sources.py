"""The sources of a stage, looked at before the run: are they there, how many records, are some of them sound."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.data_preview import DataPreview, preview_data
from contralign.data.records.messages import Sample
from contralign.data.streams.streaming import StreamedSamples
from contralign.recipe.data_settings import DataSettings, is_builtin
from contralign.recipe.model_settings import ModelSettings
from contralign.recipe.published_sizes import PUBLISHED
from contralign.run.records import make_set

MAX_INSPECTED = 500


@dataclass(frozen=True, kw_only=True)
class SourceForecast:
    """One source.

    Attributes:
        name: as the recipe has it.
        records: how many; None where nobody knows.
        found: in words: built in, here, not here.
        samples: sound records that were looked at.
        bad: the others that were looked at.
        problem: what is to be done before training, None if nothing.
    """

    name: str
    records: int | None
    found: str
    samples: tuple[Sample, ...] = ()
    bad: tuple[BadRecord, ...] = ()
    problem: str | None = None


def inspect_sources(data: DataSettings) -> list[SourceForecast]:
    """Every source of `data.train`; nothing is fetched, and no picture is decoded.

    Args:
        data: of one stage.
    """
    roots = _roots(data)
    look: Callable[[str, Path | None], SourceForecast] = _stream if data.streaming else _file
    return [_builtin(data, source) if is_builtin(source) else look(source, roots.get(source)) for source in data.train]


def check_projector(model: ModelSettings) -> list[str]:
    """What is to be done about a trained projector that the start model takes; nothing if it takes none.

    Args:
        model: of the recipe.
    """
    if model.projector is None or Path(model.projector).exists():
        return []
    return [f"model.projector {model.projector} is not here: the recipe file says how it is made"]


def _builtin(data: DataSettings, source: str) -> SourceForecast:
    samples = make_set(source, data.source_settings(source))
    stride = -(-len(samples) // MAX_INSPECTED)
    return SourceForecast(name=source, records=len(samples), found="built in", samples=tuple(samples[::stride]))


def _file(source: str, root: Path | None) -> SourceForecast:
    path = Path(source)
    if not path.is_file():
        published = PUBLISHED.get(path.name)
        records = None if published is None else published.records
        number = "" if published is None else f"; number as published{'' if published.is_exact else ', rounded'}"
        return SourceForecast(name=source, records=records, found=f"not here{number}", problem=f"{source} is not here")
    if root is not None and not root.is_dir():
        return SourceForecast(name=source, records=None, found="here", problem=f"image_root {root} is no folder")
    try:
        preview = preview_data(path, root, MAX_INSPECTED)
    except ValueError as error:
        return SourceForecast(name=source, records=None, found="here, but unreadable", problem=str(error))
    return _looked_at(source, preview.num_records, "here;", preview)


def _stream(source: str, root: Path | None) -> SourceForecast:
    """Its first records alone: a stream is not read to its end."""
    try:
        stream = StreamedSamples(source, root, on_bad="skip", seed=None, passes=1)
    except ValueError as error:
        return SourceForecast(name=source, records=None, found="not here", problem=str(error))
    first = tuple(islice(stream, MAX_INSPECTED))
    preview = DataPreview(num_records=0, samples=first, bad=stream.report.bad)
    return _looked_at(source, None, f"{len(stream.shards)} shards, streamed; first", preview)


def _looked_at(source: str, records: int | None, what: str, preview: DataPreview) -> SourceForecast:
    bad, checked = preview.bad, preview.num_checked
    return SourceForecast(
        name=source,
        records=records,
        found=f"{what} {checked} looked at, {len(bad)} bad",
        samples=preview.samples,
        bad=bad,
        problem=f"{len(bad)} of {checked} records of {source} are bad; first: {bad[0]}" if bad else None,
    )


def _roots(data: DataSettings) -> dict[str, Path]:
    """The picture folder of every file: one for all, or one for each."""
    files = [source for source in (*data.train, *data.eval) if not is_builtin(source)]
    if len(data.image_root) == 1:
        return {source: Path(data.image_root[0]) for source in files}
    return dict(zip(files, map(Path, data.image_root), strict=False))
