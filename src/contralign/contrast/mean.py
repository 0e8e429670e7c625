"""Contrast "mean": a few positions hold the mean of all pictures, so that there is a picture and nothing is on it.

Without a picture a model also loses that it is asked about one; what Δ then measures is partly the style of captions.
Here the second pass still has something where a picture stands, and only its content is gone. It costs little more than
"drop": all other image tokens are taken out and the text keeps its positions. Ours, not the paper's.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.batch import VLBatch
from contralign.contrast.taking_out import last_of_runs, take_out


@dataclass
class RunningMean:
    """Mean of image features over batches: plain over the first hundred, then exponential, since features drift.

    Attributes:
        rate: share that the newest batch has at least.
        value: the mean, in float32 or float64; None before the first batch with a picture.
        batches: batches with a picture so far.
    """

    rate: float = 0.01
    value: Float[Tensor, " hidden"] | None = None
    batches: int = 0

    def update(self, features: Float[Tensor, "tokens hidden"]) -> None:
        """Take in the image tokens of one batch, which count alike; no tokens change nothing."""
        if not len(features):
            return
        with torch.no_grad():
            features = features.detach()
            found = (features if features.dtype == torch.float64 else features.float()).mean(dim=0)
        self.batches += 1
        if self.value is None:
            self.value = found
        else:
            before = self.value.to(found.device)
            self.value = before + (found - before) * max(1 / self.batches, self.rate)


@dataclass(frozen=True)
class MeanPicture:
    """Leave a few image tokens of every picture, all alike: the running mean of image features.

    The mean is not a function of the batch. In training `observe` moves it with every batch, before that batch is
    looked at without its pictures; each process has its own, and checkpoints keep it. In reading (evaluation, scoring)
    `SampleReader` takes it from pictures spread over the data beforehand and it stays, so that neither order nor
    batching nor an interruption changes Δ. Where nobody has observed anything, the first batch with a picture starts
    it.

    Attributes:
        tokens: positions that stay, the last ones of every unbroken run of image tokens; all of a shorter run.
        pack: as in `DropImage`.
        running: the mean; copies made by `dataclasses.replace` share it.

    Raises:
        ValueError: `tokens` is not a positive integer.
    """

    tokens: int = 4
    pack: bool = False
    running: RunningMean = field(default_factory=RunningMean, compare=False, repr=False)

    name: ClassVar[str] = "mean"
    reencodes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.tokens, bool) or not isinstance(self.tokens, int) or self.tokens < 1:
            raise ValueError(f"tokens={self.tokens!r}: wanted a positive integer, such as 4")

    def observe(self, batch: VLBatch) -> None:
        """Let the batch's image features move the mean."""
        self.running.update(batch.features[batch.image_mask])

    def __call__(self, batch: VLBatch) -> VLBatch:
        """A view of the text and of the tokens that stand for a picture; it may have no rows at all."""
        if self.running.value is None:
            self.observe(batch)
        places = last_of_runs(batch.image_mask, self.tokens)
        if self.running.value is not None:
            features = batch.features
            mean = self.running.value.to(features)
            batch = batch.with_features(torch.where(places.unsqueeze(-1), mean, features))
        return take_out(batch, batch.image_mask & ~places, self.pack)
