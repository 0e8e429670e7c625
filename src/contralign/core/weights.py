"""From Δ to weights: clamp (equation 3), then average-pool (equation 4)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from contralign.core.settings import Form, check_clamp, check_form


def pool_valid(
    weights: Float[Tensor, "batch seq"], valid: Bool[Tensor, "batch seq"], window: int
) -> Float[Tensor, "batch seq"]:
    """Mean over the valid tokens among the `window` positions around a token, inside its row (equation 4).

    Args:
        weights: clamped Δ.
        valid: True at label tokens.
        window: odd; 1 returns the weights as they are.

    Returns:
        0 where `valid` is False: what is not a label reaches no neighbour and takes nothing.
    """
    kept = torch.where(valid, weights, weights.new_zeros(()))
    if window == 1 or weights.shape[1] == 0:
        return kept
    # avg_pool1d divides sum and count by the same number, so their ratio is the mean over valid neighbours.
    total = F.avg_pool1d(kept.unsqueeze(1), window, stride=1, padding=window // 2).squeeze(1)
    count = F.avg_pool1d(valid.to(weights.dtype).unsqueeze(1), window, stride=1, padding=window // 2).squeeze(1)
    return torch.where(valid, total / count.clamp(min=0.5 / window), weights.new_zeros(()))


def pool_flat(weights: Float[Tensor, "batch seq"], window: int) -> Float[Tensor, "batch seq"]:
    """The released code's pooling: over the flattened batch, ignored positions and row borders included.

    Only the two ends of the flat vector know fewer neighbours.

    Args:
        weights: clamped Δ.
        window: odd.
    """
    flat = weights.reshape(1, 1, -1)
    if flat.numel() == 0:
        return weights
    return F.avg_pool1d(flat, window, stride=1, padding=window // 2, count_include_pad=False).view_as(weights)


def cal_weights(
    delta: Float[Tensor, "batch seq"],
    valid: Bool[Tensor, "batch seq"],
    alpha: float = 1.0,
    beta: float = 5.0,
    window: int = 3,
    form: Form = "exact",
    has_image: Bool[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch seq"]:
    """Weight of every label token: Δ clamped to [α, β] and average-pooled (equations 3 and 4). No gradient.

    Arrays are shifted: position t holds the label that position t predicts.

    Args:
        delta: Δ of every label token. For `form="released"` it also counts at ignored positions: Δ of token id 0 there.
        valid: True at label tokens.
        alpha: lower bound, 0 or more; 0 silences tokens the picture does not support.
        beta: upper bound, `alpha` or more, up to infinity.
        window: odd width of the pooling; 1 is none.
        form: "exact" and "paper" pool over label tokens inside a sample, "released" over the flattened batch.
        has_image: rows without a picture have no Δ to weigh by and take weight 1 (brought into
            [α, β]), so that α = 0 does not silence text-only data. None: every row has one. The released code knows no
            such rule, so "released" leaves it out.

    Returns:
        float32 (float64 stays), in [α, β] at label tokens and 0 elsewhere.

    Raises:
        ValueError: see `check_clamp`; also an unknown form, or shapes that differ.
    """
    check_clamp(alpha, beta, window)
    check_form(form)
    if delta.shape != valid.shape or delta.dim() != 2 or valid.dtype != torch.bool:
        raise ValueError(
            f"delta {tuple(delta.shape)} and valid {tuple(valid.shape)} {valid.dtype}: "
            "wanted one shape (batch, seq), valid of bool"
        )
    if has_image is not None and has_image.shape != delta.shape[:1]:
        raise ValueError(f"has_image {tuple(has_image.shape)}: wanted one truth value for each of {len(delta)} rows")
    with torch.no_grad():
        delta = delta if delta.dtype == torch.float64 else delta.float()
        if has_image is not None and form != "released":
            delta = torch.where(has_image.unsqueeze(1), delta, torch.ones_like(delta))
        clamped = delta.clamp(alpha, beta)
        if form == "released":
            return torch.where(valid, pool_flat(clamped, window), clamped.new_zeros(()))
        return pool_valid(clamped, valid, window)
