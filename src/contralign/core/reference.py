"""The paper in slow loops, straight from the equations: what every fast path is tested against.

Nothing here is used for training. Plain Python floats are Python's float64, so `float64` in means `float64` throughout.
"""

import math

from torch import Tensor

from contralign.core.loss import RELEASED_EPS


def reference_delta(logits: Tensor, contrast_logits: Tensor, labels: Tensor, score: str = "logit") -> list[list[float]]:
    """Δ, token by token (section 2.2.2): õ[t] − o[t], or the difference of centred logits or log-probabilities."""
    logits, contrast_logits = logits.detach().double(), contrast_logits.detach().double()
    rows = []
    for row in range(labels.shape[0]):
        values = []
        for position in range(labels.shape[1]):
            token = int(labels[row, position])
            with_picture, without = logits[row, position], contrast_logits[row, position]
            if score == "logprob":
                with_picture, without = with_picture.log_softmax(0), without.log_softmax(0)
            if score == "centred":
                with_picture, without = with_picture - with_picture.mean(), without - without.mean()
            values.append(float(with_picture[token]) - float(without[token]))
        rows.append(values)
    return rows


def reference_kl(logits: Tensor, contrast_logits: Tensor) -> list[list[float]]:
    """KL(p with the picture ‖ p without) of every position, word by word."""
    logits, contrast_logits = logits.detach().double(), contrast_logits.detach().double()
    rows = []
    for row in range(logits.shape[0]):
        values = []
        for position in range(logits.shape[1]):
            seen = logits[row, position].log_softmax(0).tolist()
            unseen = contrast_logits[row, position].log_softmax(0).tolist()
            values.append(sum(math.exp(p) * (p - q) for p, q in zip(seen, unseen, strict=True)))
        rows.append(values)
    return rows


def reference_weights(
    delta: list[list[float]], valid: list[list[bool]], alpha: float, beta: float, window: int, form: str
) -> list[list[float]]:
    """Equations 3 and 4, token by token; `form="released"` walks the flattened batch as the released code does."""
    clamped = [[min(max(value, alpha), beta) for value in row] for row in delta]
    half = window // 2
    weights = [[0.0] * len(row) for row in clamped]
    if form == "released":
        flat = [value for row in clamped for value in row]
        width = len(clamped[0]) if clamped else 0
        for n in range(len(flat)):
            if valid[n // width][n % width]:
                near = flat[max(n - half, 0) : n + half + 1]
                weights[n // width][n % width] = sum(near) / len(near)
        return weights
    for row, values in enumerate(clamped):
        for t in range(len(values)):
            if valid[row][t]:
                near = [values[s] for s in range(max(t - half, 0), min(t + half + 1, len(values))) if valid[row][s]]
                weights[row][t] = sum(near) / len(near)
    return weights


def reference_loss(nll: Tensor, weights: list[list[float]], valid: list[list[bool]], form: str) -> Tensor:
    """Equation 5 with a loop over tokens; `nll` carries the gradient."""
    total, weight_sum = nll.sum() * 0.0, 0.0
    row_losses = []
    for row in range(nll.shape[0]):
        row_total, row_weight = nll.sum() * 0.0, 0.0
        for t in range(nll.shape[1]):
            if valid[row][t]:
                row_total = row_total + weights[row][t] * nll[row, t]
                row_weight += weights[row][t]
        if any(valid[row]):
            row_losses.append(row_total / row_weight if row_weight else row_total)
        total, weight_sum = total + row_total, weight_sum + row_weight
    if form == "paper":
        return sum(row_losses, nll.sum() * 0.0) / max(len(row_losses), 1)
    if form == "released":
        return total / (weight_sum + RELEASED_EPS)
    return total / weight_sum if weight_sum else total


def reference_released(logits: Tensor, contrast_logits: Tensor, labels: Tensor) -> Tensor:
    """The released training loss from full logits and unshifted labels, with its literals 1, 5 and 3.

    Source: the steps 4 to 6 of the released model file, as `docs/paper_map.md` lists them.

    Args:
        logits: (batch, seq, vocab) with the picture, carries the gradient.
        contrast_logits: (batch, seq, vocab) with the image keys masked.
        labels: (batch, seq), −100 where ignored, image positions included.
    """
    shifted = labels[:, 1:]
    valid = [[bool(token != -100) for token in row] for row in shifted.tolist()]
    picked = shifted.clone()
    picked[picked == -100] = 0
    delta = reference_delta(logits[:, :-1], contrast_logits[:, :-1], picked)
    weights = reference_weights(delta, valid, 1.0, 5.0, 3, "released")
    nll = -logits[:, :-1].log_softmax(-1).gather(-1, picked.unsqueeze(-1)).squeeze(-1)
    return reference_loss(nll, weights, valid, "released")
