"""Contrast "shuffle": every row sees the picture of another row of the batch.

The second pass sees a picture that is as real as the right one, so that Δ holds nothing of "there is a picture" and
nothing of the style of captions; what it holds is what this picture says and another does not. No picture is encoded a
second time: features are exchanged. Ours, not the paper's.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from contralign.batch import VLBatch
from contralign.contrast.taking_out import take_out

logger = logging.getLogger(__name__)

_COPY = 1e-4
"""Relative distance up to which two pictures are the same: what rounding does to copies, and far below any change."""


@dataclass
class ShufflePictures:
    """Exchange the image features of the rows.

    Rows whose pictures take equally many tokens exchange among themselves, in a ring drawn at random: everybody's
    pictures are used once and nobody keeps their own. Rows that find no such partner take from any row, token k of n
    from token ⌊k·m/n⌋ of m. A row is not given a copy of its own pictures as long as the batch holds others.

    A row that finds no other picture in the batch, as in the last batch of an epoch that one row is left for, has its
    image tokens taken out instead, as by "drop"; the first time a warning is logged. Batches of one row are all like
    that, which is not what this contrast is for.

    The draw repeats for the same `seed`, `VLBatch.draw` and batch; Δ of a sample depends on who is in its batch.

    Attributes:
        seed: 0 or more.

    Raises:
        ValueError: a seed that is not an integer, 0 or more.
    """

    seed: int = 0
    _warned: bool = field(default=False, init=False, compare=False, repr=False)

    name: ClassVar[str] = "shuffle"
    reencodes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed={self.seed!r}: wanted an integer, 0 or more")

    def __call__(self, batch: VLBatch) -> VLBatch:
        """A view of the rows whose labels see a picture, the features of other rows in place."""
        before = batch.features
        features = {
            row: before[row][batch.image_mask[row]] for row, pictured in enumerate(batch.has_image.tolist()) if pictured
        }
        givers = self._givers(features, batch.draw)
        after, taken = before.clone(), torch.zeros_like(batch.image_mask)
        for row, own in features.items():
            if row in givers:
                theirs = features[givers[row]]
                after[row, batch.image_mask[row]] = theirs[_spread(len(own), len(theirs)).to(theirs.device)]
            else:
                taken[row] = batch.image_mask[row]
        if len(givers) < len(features):
            self._warn(len(features) - len(givers), len(batch.input_ids))
        return take_out(batch.with_features(after), taken)

    def _givers(self, features: dict[int, Float[Tensor, "tokens hidden"]], draw: int) -> dict[int, int]:
        """Who takes from whom; rows that find nobody are not in it."""
        rng = np.random.default_rng([self.seed, draw])
        order = [int(row) for row in rng.permutation(list(features))] if features else []
        copies = _copies(features)
        by_length: defaultdict[int, list[int]] = defaultdict(list)
        for row in order:
            by_length[len(features[row])].append(row)
        found: dict[int, int] = {}
        for rows in by_length.values():
            found |= _around_a_ring(rows, copies)
        return _around_a_ring(order, copies) | found

    def _warn(self, alone: int, rows: int) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "contrast='shuffle': %d of %d rows of a batch found no other picture in it, so their own is taken out "
                "instead, as by 'drop'; a batch size of 2 or more keeps that to the last batch (said once)",
                alone,
                rows,
            )


def _around_a_ring(order: Sequence[int], copies: dict[int, set[int]]) -> dict[int, int]:
    """Who takes from whom, copies of one picture standing side by side and the ring turned by the most of a kind.

    Where no more than half are copies of one picture this is a derangement; where more are, those walk on to the next
    picture that is another, and several take from the same.
    """
    ring = list(dict.fromkeys(other for row in order for other in order if other == row or other in copies[row]))
    step = max((len(copies[row].intersection(ring)) for row in ring), default=0)
    found: dict[int, int] = {}
    for place, row in enumerate(ring):
        ahead = (ring[(place + step + further) % len(ring)] for further in range(len(ring)))
        giver = next((other for other in ahead if other not in copies[row]), None)
        if giver is not None:
            found[row] = giver
    return found


def _copies(features: dict[int, Float[Tensor, "tokens hidden"]]) -> dict[int, set[int]]:
    """For every row the rows that hold the very same pictures, itself among them.

    Compared by a mean of the tokens in which every place counts differently, so that mirrored pictures differ.
    """
    copies = {row: {row} for row in features}
    if len(features) < 2:
        return copies
    rows = list(features)
    prints = torch.stack([_fingerprint(features[row]) for row in rows])
    distance = (prints.unsqueeze(0) - prints.unsqueeze(1)).norm(dim=-1)
    same = distance <= _COPY * prints.norm(dim=-1)
    for first, second in (same | same.T).nonzero().tolist():
        if len(features[rows[first]]) == len(features[rows[second]]):
            copies[rows[first]].add(rows[second])
    return copies


def _fingerprint(features: Float[Tensor, "tokens hidden"]) -> Float[Tensor, " hidden"]:
    values = features.detach().float()
    return torch.linspace(0.5, 1.5, len(values), device=values.device) @ values / len(values)


def _spread(count: int, of: int) -> Int[Tensor, " count"]:
    """`count` indices spread evenly over `of`: all of them in their order where the two are equal."""
    return torch.arange(count) * of // count
