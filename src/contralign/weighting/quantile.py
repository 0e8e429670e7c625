"""CAL with bounds that follow the data: the clamp is set at quantiles of Δ, which the paper leaves for later work."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.core.settings import Score, check_clamp
from contralign.core.weights import pool_valid
from contralign.weighting.base import TokenReadings, Wanted, Weighting, check_number, delta_of


@dataclass(frozen=True, kw_only=True)
class Quantile(Weighting):
    """w = pool(α + (β − α) · (clamp(Δ, a, b) − a) / (b − a)), with a and b the `low` and `high` quantiles of Δ.

    Source: ours; α and β fitted to the data is named as future work by the CAL paper. Δ of a model that hardly looks
    yet, or of another score, spreads over another range than [1, 5] and would be clamped to one value; this way the
    same share of tokens lies at either bound. The quantiles are those of the micro-batch's labels with a picture, so
    weights depend on how a step is split. Rows without a picture weigh 1 brought into [α, β], as under CAL; so does
    everything where all Δ are equal.

    Attributes:
        alpha: smallest weight, 0 or more.
        beta: largest weight, above `alpha`, finite.
        window: odd width of the average pooling (equation 4); 1 is none.
        low: quantile that gets weight α, in [0, 1).
        high: quantile that gets weight β, above `low`, at most 1.
        score: what Δ is a difference of.

    Raises:
        ValueError: a setting out of range.
    """

    alpha: float = 1.0
    beta: float = 5.0
    window: int = 3
    low: float = 0.25
    high: float = 0.95
    score: Score = "logit"

    def __post_init__(self) -> None:
        check_clamp(self.alpha, self.beta, self.window)
        if not self.alpha < self.beta < float("inf"):
            raise ValueError(f"beta={self.beta}: wanted a finite number above alpha ({self.alpha}) to spread Δ over")
        check_number("low", self.low, 0, high=1)
        check_number("high", self.high, 0, high=1)
        if not self.low < self.high:
            raise ValueError(f"low={self.low}, high={self.high}: wanted low below high")
        delta_of(self.score)

    @property
    def readings(self) -> tuple[Wanted, ...]:
        """Δ."""
        return (delta_of(self.score),)

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`; in [α, β] at label tokens."""
        with torch.no_grad():
            delta, pictured = tokens[self.readings[0]], tokens.pictured
            weights = torch.full_like(delta, min(max(1.0, self.alpha), self.beta))
            if pictured.any():
                points = delta.new_tensor([self.low, self.high])
                low, high = torch.quantile(delta[pictured], points)
                if high > low:
                    share = (delta.clamp(low, high) - low) / (high - low)
                    weights = torch.where(pictured, self.alpha + (self.beta - self.alpha) * share, weights)
            return pool_valid(weights, tokens.valid, self.window)
