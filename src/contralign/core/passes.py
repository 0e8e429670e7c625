"""The one idea: a training step looks at every batch twice, with and without the picture.

This file runs the two passes and lines up their scores token by token. It knows a model only through `Reader` and a
contrast only as a function from batch to batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from contralign.batch import VLBatch
from contralign.core.delta import Score, token_scores
from contralign.core.loss import token_nll


@runtime_checkable
class Reader(Protocol):
    """What the two passes ask of a model; `contralign.models.adapter.Adapter` is the real one."""

    model: nn.Module

    def encode(self, batch: VLBatch) -> VLBatch:
        """The batch with `inputs_embeds`, encoded from `pictures` where they are missing."""
        ...

    def hidden(self, batch: VLBatch) -> Float[Tensor, "batch seq hidden"]:
        """Last hidden states of the language model."""
        ...

    def logits(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """The model's own final transform."""
        ...


@dataclass(frozen=True, kw_only=True)
class TwoLooks:
    """What both passes say of every label token; arrays are shifted: position t holds the label that it predicts.

    Attributes:
        targets: label ids, 0 where nothing is labelled.
        valid: True at label tokens.
        has_image: True for rows with a picture.
        nll: negative log-likelihood with the picture, 0 where nothing is labelled; carries the gradient.
        correct: True where the label is the most likely token.
        delta: Δ for every score asked for; 0 for rows without a picture and where the second pass has nothing to read.
    """

    targets: Int[Tensor, "batch predicted"]
    valid: Bool[Tensor, "batch predicted"]
    has_image: Bool[Tensor, " batch"]
    nll: Float[Tensor, "batch predicted"]
    correct: Bool[Tensor, "batch predicted"]
    delta: dict[Score, Float[Tensor, "batch predicted"]]


def look_twice(
    reader: Reader,
    contrast: Callable[[VLBatch], VLBatch] | None,
    batch: VLBatch,
    scores: Sequence[Score] = ("logit",),
    at_every_position: bool = False,
) -> TwoLooks:
    """Run both passes over a batch and take Δ of its label tokens (section 2.2.2).

    The pass with the picture carries the gradient; the other has none, runs with dropout off, and leaves the random
    state as it was.

    Args:
        reader: the model.
        contrast: what the second pass sees; None runs none, and Δ is 0.
        batch: from the adapter's `prepare`.
        scores: which scores to difference.
        at_every_position: also take Δ of token id 0 at ignored positions, read where the released code reads it.
    """
    valid = batch.valid
    scored = torch.ones_like(valid) if at_every_position else valid
    targets = batch.targets.masked_fill(~valid, 0)

    logits = reader.logits(reader.hidden(batch)[:, :-1][scored])
    nll_rows = token_nll(logits, targets[scored])
    nll = torch.zeros_like(targets, dtype=nll_rows.dtype).masked_scatter(scored, nll_rows)
    nll = torch.where(valid, nll, torch.zeros_like(nll))

    with torch.no_grad():
        found = _top_token(logits, scored) == targets
        delta = _differences(reader, contrast, batch, logits.detach(), targets, scored, scores, at_every_position)
    return TwoLooks(
        targets=targets, valid=valid, has_image=batch.has_image, nll=nll, correct=found & valid, delta=delta
    )


def _differences(
    reader: Reader,
    contrast: Callable[[VLBatch], VLBatch] | None,
    batch: VLBatch,
    logits: Float[Tensor, "tokens vocab"],
    targets: Int[Tensor, "batch predicted"],
    scored: Bool[Tensor, "batch predicted"],
    scores: Sequence[Score],
    at_every_position: bool,
) -> dict[Score, Float[Tensor, "batch predicted"]]:
    """Δ under every score."""
    if contrast is None:
        return {score: torch.zeros(targets.shape, device=targets.device) for score in scores}
    with second_look(reader.model):
        view = contrast(batch)
        if view.row_index.numel() == 0:
            return {score: torch.zeros(targets.shape, device=targets.device) for score in scores}
        view = reader.encode(view)
        read_at, readable = reading_positions(view, at_every_position)
        hidden = reader.hidden(view)
        picked = hidden.gather(1, read_at.unsqueeze(-1).expand(-1, -1, hidden.shape[2]))[readable]
        rows = view.row_index.unsqueeze(1).expand_as(read_at)[readable]
        columns = view.token_index[:, 1:][readable] - 1
        contrast_logits = reader.logits(picked)

    reached = torch.zeros_like(scored).index_put((rows, columns), torch.ones_like(rows, dtype=torch.bool))
    reached &= batch.has_image.unsqueeze(1)
    differences: dict[Score, Tensor] = {}
    for score in scores:
        with_rows = token_scores(logits, targets[scored], score)
        with_picture = torch.zeros_like(targets, dtype=with_rows.dtype).masked_scatter(scored, with_rows)
        without = torch.zeros_like(with_picture).index_put(
            (rows, columns), token_scores(contrast_logits, targets[rows, columns], score)
        )
        differences[score] = torch.where(reached, with_picture - without, torch.zeros_like(without))
    return differences


def reading_positions(
    view: VLBatch, at_every_position: bool = False
) -> tuple[Int[Tensor, "batch predicted"], Bool[Tensor, "batch predicted"]]:
    """Where the second pass reads the score of every label: at the last token before it that may be attended to.

    The position just before a label that follows the picture directly is itself an image token, and its residual
    stream still holds the picture; so with the image hidden the score is read at the last text token before it. The
    released code reads at the image token all the same: `at_every_position` does as it does.

    Returns:
        Columns, and True where there is a score to read.
    """
    columns = torch.arange(view.input_ids.shape[1], device=view.input_ids.device).expand_as(view.input_ids)
    if at_every_position:
        return columns[:, :-1], torch.ones_like(view.valid)
    attended = torch.where(view.attention_mask.bool(), columns, torch.full_like(columns, -1))
    last = attended.cummax(dim=1).values[:, :-1]
    return last.clamp(min=0), view.valid & (last >= 0)


@contextmanager
def second_look(model: nn.Module) -> Iterator[None]:
    """Gradients and dropout off, every module's mode put back afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _top_token(
    logits: Float[Tensor, "tokens vocab"], scored: Bool[Tensor, "batch predicted"]
) -> Int[Tensor, "batch predicted"]:
    top = torch.full(scored.shape, -1, dtype=torch.long, device=scored.device)
    return top.masked_scatter(scored, logits.argmax(dim=-1)) if logits.shape[0] else top
