"""The data of an evaluation: held-out samples, and the training set for baselines."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from contralign.data.records.messages import Sample

Numbers = dict[str, Any]
"""What an evaluation returns: nested numbers and words, as JSON holds them."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Samples to evaluate on.

    Attributes:
        samples: held out, with their own pictures.
        train: the training set, noise included, for baselines.
        swapped_ids: ids of the training samples whose pictures were swapped.
        seed: of every draw an evaluation makes.
    """

    samples: Sequence[Sample]
    train: Iterable[Sample] = ()
    swapped_ids: frozenset[str] = frozenset()
    seed: int = 0


def draw(samples: Sequence[Sample], limit: int | None, seed: int, purpose: str) -> list[Sample]:
    """At most `limit` of the samples in their order, drawn at random by `seed` and `purpose`; None is all of them.

    Raises:
        ValueError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: wanted 1 or more, or None for all samples")
    if limit is None or limit >= len(samples):
        return list(samples)
    chosen = random.Random(f"{purpose} {seed}").sample(range(len(samples)), limit)
    return [samples[index] for index in sorted(chosen)]
