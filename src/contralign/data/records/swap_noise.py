"""The noise of the paper's Figure 3: pairs (I₁, T₁), (I₂, T₂) become (I₁, T₂), (I₂, T₁)."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from contralign.data.records.messages import Sample

_TRIES = 1000


def swap_images(samples: Iterable[Sample], fraction: float, seed: int) -> tuple[list[Sample], frozenset[str]]:
    """Swap the pictures of a random share of the samples that have some.

    ⌊fraction · n⌋ of the n samples with pictures are drawn (one less where that is odd) and matched in random pairs;
    the two of a pair change pictures and keep their texts. Partners have equally many pictures, and not the same ones.
    Spans stay as they are: what they call visual is then not in the picture.

    Args:
        samples: ids must be unique among those with pictures.
        fraction: share of the samples with pictures, in [0, 1].
        seed: the same seed gives the same pairs.

    Returns:
        All samples in their order, and the ids of the swapped ones.

    Raises:
        ValueError: a fraction outside of [0, 1], ids that are not unique, or no pairs with different pictures.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction}: wanted a share between 0 and 1")
    samples = list(samples)
    pictured = [index for index, sample in enumerate(samples) if sample.pictures]
    if len({samples[index].id for index in pictured}) < len(pictured):
        raise ValueError("sample ids are not unique, so none could say which were swapped; load_samples renames them")
    draw = random.Random(seed)
    swapped = list(samples)
    for first, second in _pairs(samples, pictured, int(fraction * len(pictured) + 1e-9), draw):
        swapped[first] = replace(samples[first], pictures=samples[second].pictures)
        swapped[second] = replace(samples[second], pictures=samples[first].pictures)
    moved = (index for index in pictured if swapped[index] is not samples[index])
    return swapped, frozenset(samples[index].id for index in moved)


def _pairs(samples: Sequence[Sample], pictured: list[int], wanted: int, draw: random.Random) -> list[tuple[int, int]]:
    """`wanted` // 2 pairs of indices, each inside a group of samples with equally many pictures."""
    order = draw.sample(pictured, len(pictured))
    groups: dict[int, list[int]] = defaultdict(list)
    chosen: list[tuple[int, int]] = []
    for index in order:
        waiting = groups[len(samples[index].pictures)]
        waiting.append(index)
        if len(chosen) < wanted // 2 and len(waiting) == 2:
            chosen.append((waiting[0], waiting[1]))
            waiting.clear()
    return _redrawn(samples, chosen, draw)


def _redrawn(samples: Sequence[Sample], pairs: list[tuple[int, int]], draw: random.Random) -> list[tuple[int, int]]:
    """The pairs, with partners exchanged until none has the same picture on both sides."""

    def fits(first: int, second: int) -> bool:
        one, other = samples[first].pictures, samples[second].pictures
        return len(one) == len(other) and one != other

    for place in range(len(pairs)):
        for _ in range(_TRIES):
            if fits(*pairs[place]):
                break
            other = draw.randrange(len(pairs))
            (a, b), (c, d) = pairs[place], pairs[other]
            if other != place and fits(a, d) and fits(c, b):
                pairs[place], pairs[other] = (a, d), (c, b)
        else:
            raise ValueError(
                f"sample {samples[pairs[place][0]].id!r} found no partner with other pictures; "
                "too many samples share one picture for this fraction"
            )
    return pairs
