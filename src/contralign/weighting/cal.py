"""CAL: Δ clamped to [α, β] and average-pooled. This is the paper; equations 3 and 4."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from contralign.core.settings import Form, Score, check_clamp, check_form
from contralign.core.weights import cal_weights
from contralign.weighting.base import TokenReadings, Wanted, Weighting, delta_of


@dataclass(frozen=True, kw_only=True)
class Cal(Weighting):
    """w = pool(clamp(Δ, α, β)); see `contralign.core.weights.cal_weights`, which this is.

    Source: "Seeing the Image: Prioritizing Visual Correlation by Contrastive Alignment", NeurIPS 2024, section 2.3.
    Rows without a picture weigh 1 brought into [α, β], so that α = β is plain MLE for all rows.

    Attributes:
        alpha: lower bound, 0 or more.
        beta: upper bound, `alpha` or more, up to infinity.
        window: odd width of the pooling.
        form: "released" pools as the released code does, and knows no rule for rows without a picture.
        score: what Δ is a difference of.

    Raises:
        ValueError: see `check_clamp`; also an unknown form or score.
    """

    alpha: float = 1.0
    beta: float = 5.0
    window: int = 3
    form: Form = "exact"
    score: Score = "logit"

    def __post_init__(self) -> None:
        check_clamp(self.alpha, self.beta, self.window)
        check_form(self.form)
        delta_of(self.score)

    @property
    def readings(self) -> tuple[Wanted, ...]:
        """Δ."""
        return (delta_of(self.score),)

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`; in [α, β] at label tokens."""
        delta = tokens[self.readings[0]]
        return cal_weights(
            delta, tokens.valid, self.alpha, self.beta, self.window, self.form, has_image=tokens.has_image
        )
