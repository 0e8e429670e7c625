"""`load_samples`: one training set from several files, data sets and lists; bad records are named and counted."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import datasets
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.dataset_records import dataset_records
from contralign.data.records.formats.record_keys import holds, unread_keys
from contralign.data.records.messages import Sample
from contralign.data.records.record_files import read_records
from contralign.data.records.record_sample import Check, record_sample, trainable_sample

logger = logging.getLogger(__name__)

OnBad = Literal["error", "skip"]
Source = str | Path | datasets.Dataset | Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What loading found.

    Attributes:
        total: number of records read.
        bad: skipped records, each with `record` (its name), `reason` and `message`.
        renamed: ids of more than one record; the later records became "id#2", "id#3" …
    """

    total: int
    bad: tuple[BadRecord, ...]
    renamed: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of skipped records by reason, most frequent first."""
        return dict(Counter(fault.reason for fault in self.bad).most_common())

    def __str__(self) -> str:
        why = ", ".join(f"{reason} {count}" for reason, count in self.counts.items())
        return f"{self.total - len(self.bad)} of {self.total} records" + (f"; skipped: {why}" if why else "")


class SampleSet(Dataset[Sample]):
    """A map-style data set of samples.

    Attributes:
        samples: all of them, in the order of the sources.
        report: what was skipped and why.
    """

    def __init__(self, samples: Sequence[Sample], report: LoadReport) -> None:
        self.samples = tuple(samples)
        self.report = report

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def load_samples(
    sources: Source | Sequence[Source],
    image_roots: str | Path | Sequence[str | Path | None] | None = None,
    on_bad: OnBad = "error",
    check: Check | None = None,
) -> SampleSet:
    """Read, check and join several sources.

    Args:
        sources: one source or a list of them: a .json or .jsonl file, a `datasets.Dataset`, or a list of samples or
            records. Records are LLaVA's (`conversations`) or chat messages (`messages`).
        image_roots: one folder for all sources, or one (or None) for each.
        on_bad: "error" raises at the first bad record, "skip" leaves it out and reports it.
        check: another check of each sample, such as `VLCollator.check`.

    Raises:
        BadRecord: a bad record under "error"; picture files without an image root, also under "skip".
        ValueError: a source that cannot be read, an image root that no record uses, other numbers of roots and sources,
            or no sample left.
    """
    if on_bad not in get_args(OnBad):
        raise ValueError(f"on_bad={on_bad!r}: wanted error or skip")
    listed = _listed(sources)
    samples: list[Sample] = []
    faults: list[BadRecord] = []
    roots = root_for_each(image_roots, len(listed))
    needed = [False] * len(listed)
    unread: Counter[str] = Counter()
    for place, (source, root) in enumerate(zip(listed, roots, strict=True)):
        for found, needs_root, keys in _read(source, root, check):
            unread.update(keys)
            needed[place] = needed[place] or needs_root
            if isinstance(found, Sample):
                samples.append(found)
            elif on_bad == "error" or found.reason == "no_image_root":
                raise found
            else:
                faults.append(found)
    _refuse_idle_roots(roots, needed, listed, shared=image_roots is None or isinstance(image_roots, (str, Path)))
    unique, renamed = _unique_ids(samples)
    report = LoadReport(total=len(samples) + len(faults), bad=tuple(faults), renamed=renamed)
    if not unique:
        raise ValueError(f"no sample left: {report}")
    if unread:
        said = ", ".join(f"{key} ({number:,})" for key, number in unread.most_common(10))
        logger.warning("keys of records that are not read: %s%s", said, ", …" if len(unread) > 10 else "")
    if faults:
        logger.warning("%s; first: %s", report, faults[0])
    if renamed:
        logger.warning("%d ids are not unique, such as %r; later ones became id#2 …", len(renamed), renamed[0])
    return SampleSet(unique, report)


def _listed(sources: Source | Sequence[Source]) -> list[Source]:
    if isinstance(sources, (str, Path, datasets.Dataset, SampleSet)):
        return [sources]
    if not isinstance(sources, Sequence):
        raise ValueError(f"sources of type {type(sources).__name__}; wanted files, data sets or lists of samples")
    if not sources:
        raise ValueError("sources is empty; wanted at least one file, data set or list of samples")
    return [sources] if isinstance(sources[0], (Sample, Mapping)) else list(sources)


def root_for_each(image_roots: str | Path | Sequence[str | Path | None] | None, count: int) -> list[Path | None]:
    """One image root, or None, for each of `count` sources.

    Raises:
        ValueError: other numbers of roots and sources, or a root that is no folder.
    """
    given = [image_roots] * count if image_roots is None or isinstance(image_roots, (str, Path)) else list(image_roots)
    if len(given) != count:
        raise ValueError(f"{len(given)} image roots for {count} sources; give one root, or one for each source")
    roots = [None if root is None else Path(root) for root in given]
    for root in roots:
        if root is not None and not root.is_dir():
            raise ValueError(f"image_root {str(root)!r} is not a folder")
    return roots


def _refuse_idle_roots(roots: list[Path | None], needed: list[bool], sources: list[Source], shared: bool) -> None:
    """An image root that no record uses is a mistake; a shared one must be used by some source."""
    idle = [place for place, root in enumerate(roots) if root is not None and not needed[place]]
    if idle and not (shared and any(needed)):
        names = ", ".join(_origin(sources[place]) for place in idle)
        raise ValueError(f"image_root {str(roots[idle[0]])!r}: no record of {names} names a picture file; leave it out")


def _read(
    source: Source, root: Path | None, check: Check | None
) -> Iterator[tuple[Sample | BadRecord, bool, Counter[str]]]:
    """Samples and bad records of one source, in order, with whether they may need the image root, and unread keys."""
    origin = _origin(source)
    total = None if isinstance(source, (str, Path)) or not isinstance(source, Sized) else len(source)
    shown = tqdm(_records(source, root), f"reading {origin}", total, disable=None, delay=2, leave=False)
    for name, record in shown:
        try:
            found = trainable_sample(record_sample(record, name, root, origin), check)
        except BadRecord as fault:
            found = fault.named(name if name.startswith(origin) else f"{origin}, {name}")
        yield found, _names_pictures(record), unread_keys(record)


def _records(source: Source, root: Path | None) -> Iterable[tuple[str, Any]]:
    if isinstance(source, (str, Path)):
        return read_records(Path(source))
    if isinstance(source, datasets.Dataset):
        return dataset_records(source, root)
    if isinstance(source, (Sequence, SampleSet)):
        return ((f"record {index}", record) for index, record in enumerate(source))
    raise ValueError(f"source of type {type(source).__name__}; wanted a file, a datasets.Dataset or a list of samples")


def _names_pictures(record: Any) -> bool:
    """Whether a record holds pictures; those of a `Sample` are located already."""
    if not isinstance(record, Mapping):
        return False
    messages = record.get("messages")
    inline = isinstance(messages, Sequence) and any(
        isinstance(part, Mapping) and part.get("type") == "image"
        for message in messages
        if isinstance(message, Mapping) and isinstance(message.get("content"), Sequence)
        for part in message["content"]
    )
    return inline or holds(record.get("image")) or holds(record.get("images"))


def _origin(source: Source) -> str:
    if isinstance(source, (str, Path)):
        return Path(source).name
    return "data set" if isinstance(source, datasets.Dataset) else "list"


def _unique_ids(samples: Sequence[Sample]) -> tuple[list[Sample], tuple[str, ...]]:
    """The samples with unique ids, and the ids that were not unique."""
    taken = Counter(sample.id for sample in samples)
    seen: Counter[str] = Counter()
    unique = []
    for sample in samples:
        seen[sample.id] += 1
        number, name = seen[sample.id], sample.id
        while number > 1 and name in taken:
            name, number = f"{sample.id}#{number}", number + 1
        taken[name] = max(taken[name], 1)
        unique.append(sample if name == sample.id else replace(sample, id=name))
    return unique, tuple(name for name, count in seen.items() if count > 1)
