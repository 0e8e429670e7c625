"""What CAL logs: sums over the label tokens since the last log, and quantiles of Δ."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from contralign.training.alignment import CalOutput

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_DELTAS = 100_000


class CalStatistics:
    """Running sums over label tokens; nothing is brought to the CPU before `report`.

    Args:
        alpha: lower bound of the clamp; labels of picture rows with Δ at or below it count as "at α". None for a
            weighting that does not clamp Δ; nothing is then reported to be at a bound.
        beta: upper bound, likewise.
    """

    def __init__(self, alpha: float | None = None, beta: float | None = None) -> None:
        self.alpha, self.beta = alpha, beta
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._sums: Tensor | None = None
        self._deltas: list[Tensor] = []
        self._kept = 0

    @torch.no_grad()
    def add(self, out: CalOutput) -> None:
        """Count one batch."""
        valid, delta = out.valid, out.delta
        seen = valid & out.has_image.unsqueeze(1)
        sums = torch.stack(
            [
                valid.sum(),
                out.nll.sum(),
                out.weights.sum(),
                out.correct.sum(),
                seen.sum(),
                (seen & (delta <= (-math.inf if self.alpha is None else self.alpha))).sum(),
                (seen & (delta >= (math.inf if self.beta is None else self.beta))).sum(),
                out.numerator.detach(),
                out.denominator,
            ]
        ).double()
        self._sums = sums if self._sums is None else self._sums + sums
        if self._kept < _MOST_DELTAS:
            self._deltas.append(delta[seen].float())
            self._kept += delta.numel()

    def state(self) -> dict[str, Tensor]:
        """What was counted since the last `clear`, to be kept; nothing where nothing was."""
        if self._sums is None:
            return {}
        return {"sums": self._sums.cpu(), "deltas": torch.cat(self._deltas).cpu(), "kept": torch.tensor([self._kept])}

    def load(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Count on from where `state` was taken."""
        self.clear()
        if state:
            self._sums, self._deltas = state["sums"].to(device), [state["deltas"].to(device)]
            self._kept = int(state["kept"])

    def report(self, gather: Callable[[Tensor], Tensor], pad: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Everything since the last `clear`, over all ranks; every rank must call it.

        Args:
            gather: (n, …) of this rank -> (ranks · n, …) of all.
            pad: brings a (n,) tensor to the same n on every rank, filled with NaN.

        Returns:
            `cal_loss` (Σ numerator / Σ denominator), `nll` (plain mean over label tokens, nats), `weight_mean`,
            `token_accuracy`, `share_at_alpha` and `share_at_beta` (of label tokens in rows with a picture, before
            pooling), `delta_q05` … `delta_q95` (the same tokens, of `CalOutput.delta`). Empty where nothing was
            counted.
        """
        if self._sums is None:
            return {}
        totals = gather(self._sums.unsqueeze(0)).sum(dim=0).tolist()
        labels, nll, weight, correct, seen, at_alpha, at_beta, numerator, denominator = totals
        deltas = gather(pad(torch.cat(self._deltas)))
        deltas = deltas[~deltas.isnan()]
        means = {"nll": nll, "weight_mean": weight, "token_accuracy": correct}
        report = {name: value / max(labels, 1.0) for name, value in means.items()}
        report["cal_loss"] = numerator / denominator if denominator else 0.0
        if self.alpha is not None:
            report["share_at_alpha"] = at_alpha / max(seen, 1.0)
        if self.beta is not None:
            report["share_at_beta"] = at_beta / max(seen, 1.0)
        if deltas.numel():
            points = torch.quantile(deltas, torch.tensor(QUANTILES, device=deltas.device)).tolist()
            report |= {f"delta_q{round(100 * q):02d}": point for q, point in zip(QUANTILES, points, strict=True)}
        return report
