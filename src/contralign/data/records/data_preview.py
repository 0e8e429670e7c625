"""A preview of a data file that may be huge: how many records it holds, and which of a sample of them are bad."""

from dataclasses import dataclass
from pathlib import Path

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import Sample
from contralign.data.records.record_files import read_records
from contralign.data.records.record_sample import record_sample, trainable_sample


@dataclass(frozen=True, kw_only=True)
class DataPreview:
    """What a preview of a file found.

    Attributes:
        num_records: records in the file.
        samples: the checked records that are good.
        bad: the checked records that are bad.
    """

    num_records: int
    samples: tuple[Sample, ...]
    bad: tuple[BadRecord, ...]

    @property
    def num_checked(self) -> int:
        """Number of records that were checked."""
        return len(self.samples) + len(self.bad)


def preview_data(path: Path, image_root: Path | None = None, most: int = 500) -> DataPreview:
    """Count the records of a .json or .jsonl file and check `most` or fewer of them, evenly spread.

    Checked are their keys and turns, and the headers of their pictures.

    Raises:
        ValueError: the file cannot be read at all.
    """
    kept, records, stride = [], 0, 1
    for records, named in enumerate(read_records(path), start=1):
        if (records - 1) % stride == 0:
            kept.append(named)
        if len(kept) > 2 * most:
            kept, stride = kept[::2], 2 * stride
    samples, bad = [], []
    for name, record in kept[:: -(-len(kept) // most)]:
        try:
            samples.append(trainable_sample(record_sample(record, name, image_root, path.name), None))
        except BadRecord as fault:
            bad.append(fault.named(name))
    return DataPreview(num_records=records, samples=tuple(samples), bad=tuple(bad))
