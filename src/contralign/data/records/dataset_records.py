"""Records of a Hugging Face data set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from contralign.data.records.images import DatasetImage


def dataset_records(source: datasets.Dataset, root: Path | None) -> Iterator[tuple[str, Any]]:
    """Yield (name, record) for every row; pictures stay in the data set, not decoded, until a batch needs them.

    Args:
        source: picture columns are those of type `datasets.Image`, or lists of it.
        root: image root, for data sets that hold file names.
    """
    single = [name for name, kind in source.features.items() if isinstance(kind, datasets.Image)]
    several = [
        name
        for name, kind in source.features.items()
        if isinstance(kind, datasets.List) and isinstance(kind.feature, datasets.Image)
    ]
    for name in single:
        source = source.cast_column(name, datasets.Image(decode=False))
    for name in several:
        source = source.cast_column(name, datasets.List(datasets.Image(decode=False)))
    for index, row in enumerate(source):
        stored = dict(row)
        for name in single:
            stored[name] = None if row[name] is None else DatasetImage(source, index, name, None, root)
        for name in several:
            stored[name] = [DatasetImage(source, index, name, place, root) for place in range(len(row[name] or ()))]
        yield f"row {index}", stored
