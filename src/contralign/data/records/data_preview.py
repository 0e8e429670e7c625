"""A glance at a data file that may be huge: how many records, and whether some of them, spread over it, are sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import Sample
from contralign.data.records.record_files import read_records
from contralign.data.records.record_sample import record_sample, to_learn_from


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What a glance at a file saw.

    Attributes:
        records: how many it holds.
        samples: the sound ones among those looked at.
        bad: the others.
    """

    records: int
    samples: tuple[Sample, ...]
    bad: tuple[BadRecord, ...]

    @property
    def looked_at(self) -> int:
        """Records that were looked at."""
        return len(self.samples) + len(self.bad)


def glance_at(path: Path, image_root: Path | None = None, most: int = 500) -> Glance:
    """Count the records of a file and look at some, evenly spread: their form, and the headers of their pictures.

    Args:
        path: .json or .jsonl.
        image_root: picture folder.
        most: records to look at.

    Raises:
        ValueError: the file cannot be read at all.
    """
    kept = []
    records, stride = 0, 1
    for place, named in enumerate(read_records(path)):
        records += 1
        if place % stride == 0:
            kept.append(named)
        if len(kept) > 2 * most:
            kept, stride = kept[::2], 2 * stride
    samples, bad = [], []
    for name, record in kept[:: -(-len(kept) // most)]:
        try:
            samples.append(to_learn_from(record_sample(record, name, image_root, path.name), None))
        except BadRecord as fault:
            bad.append(fault.named(name))
    return Glance(records=records, samples=tuple(samples), bad=tuple(bad))
