"""The two passes of a training step over a batch: with the picture, and without (section 2.2.2).

This file runs them and lines up their scores token by token. It knows a model only through `Reader` and a
contrast only as a function from batch to batch. Only what Δ and the loss need is computed: hidden states where a label
is read, one dot product a label.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from contralign.batch import VLBatch
from contralign.core.head import Head, upcast
from contralign.core.label_readings import COMPARED, DELTA, Reading, label_kl, label_scores, read_labels
from contralign.core.reading_positions import at_tokens, reading_positions, unique_positions
from contralign.core.settings import Score

View = Callable[[VLBatch], VLBatch]


@runtime_checkable
class Reader(Protocol):
    """What the two passes ask of a model; `contralign.models.adapters.adapter.Adapter` is the real one.

    Attributes:
        model: the bare model.
        sharded: True where every forward gathers parameters from all ranks, so that no rank may leave one out.
    """

    model: nn.Module

    @property
    def sharded(self) -> bool:
        """See above."""
        ...

    def encode(self, batch: VLBatch) -> VLBatch:
        """The batch with `inputs_embeds`, encoded from `pictures` where they are missing."""
        ...

    def hidden_at(self, batch: VLBatch, at: Bool[Tensor, "batch seq"]) -> Float[Tensor, "tokens hidden"]:
        """Last hidden states of the language model where `at` is True, in reading order."""
        ...

    def head(self) -> Head:
        """The model's own final transform."""
        ...


@dataclass(frozen=True, kw_only=True)
class Passes:
    """What the loss is made of; arrays are shifted: position t holds the label that it predicts.

    Attributes:
        targets: label ids, 0 where nothing is labelled.
        valid: True at label tokens.
        has_image: True for rows with a picture.
        rows: hidden states that the labels are read from, one a label token in reading order; carries the gradient.
        readings: what was asked for of every label token, 0 where nothing is labelled; Δ is 0 for rows without a
            picture and where the second pass has nothing to read.
        head: what makes logits of rows.
    """

    targets: Int[Tensor, "batch predicted"]
    valid: Bool[Tensor, "batch predicted"]
    has_image: Bool[Tensor, " batch"]
    rows: Float[Tensor, "tokens hidden"]
    readings: dict[Reading, Float[Tensor, "batch predicted"]]
    head: Head


@dataclass(frozen=True, kw_only=True)
class PassComparison:
    """What both passes give for every label token, without gradient; arrays are shifted as in `Passes`.

    Attributes:
        targets: label ids, 0 where nothing is labelled.
        valid: True at label tokens.
        has_image: True for rows with a picture.
        nll: negative log-likelihood with the picture, 0 where nothing is labelled.
        correct: True where the label is the most likely token.
        delta: Δ for every score asked for.
    """

    targets: Int[Tensor, "batch predicted"]
    valid: Bool[Tensor, "batch predicted"]
    has_image: Bool[Tensor, " batch"]
    nll: Float[Tensor, "batch predicted"]
    correct: Bool[Tensor, "batch predicted"]
    delta: dict[Score, Float[Tensor, "batch predicted"]]


def compare_passes(
    reader: Reader, contrast: View | None, batch: VLBatch, scores: Sequence[Score] = ("logit",)
) -> PassComparison:
    """Read a batch with the picture and without, for its numbers alone: evaluation and analysis.

    Args:
        reader: the model.
        contrast: what the second pass sees; None runs none, and Δ is 0.
        batch: from the adapter's `prepare`.
        scores: which scores to difference.
    """
    with torch.no_grad():
        passes = run_passes(reader, contrast, batch, [DELTA[score] for score in scores])
        logprob, correct = label_scores(passes.rows, passes.targets[passes.valid], passes.head)
    return PassComparison(
        targets=passes.targets,
        valid=passes.valid,
        has_image=passes.has_image,
        nll=scatter_tokens(-logprob, passes.valid),
        correct=scatter_tokens(correct, passes.valid),
        delta={score: passes.readings[DELTA[score]] for score in scores},
    )


def run_passes(
    reader: Reader,
    contrast: View | None,
    batch: VLBatch,
    readings: Sequence[Reading] = ("delta_logit",),
    at_every_position: bool = False,
) -> Passes:
    """Run both passes over a batch and measure its label tokens (section 2.2.2).

    The second pass comes first: it has no gradient, so nothing of it stays in memory while the other runs, but the
    hidden states of label tokens where "kl" is asked for. Dropout is off in it, and the random state is left as it was.

    Args:
        reader: the model.
        contrast: what the second pass sees; None runs none, and Δ is 0.
        batch: from the adapter's `prepare`.
        readings: what to measure; nothing else is.
        at_every_position: also take Δ of token id 0 at ignored positions, read where the released code reads it.
    """
    valid = batch.valid
    scored = torch.ones_like(valid) if at_every_position else valid
    labels = batch.targets.masked_fill(~valid, 0)
    head = reader.head()
    without = None
    if contrast is not None and any(reading in COMPARED for reading in readings):
        with record_function("contralign: contrast pass"), eval_no_grad(reader.model):
            without = _run_contrast_pass(reader, contrast, batch, labels, head, readings, at_every_position)
    with record_function("contralign: main pass"):
        rows = reader.hidden_at(batch, at_tokens(scored))
    with record_function("contralign: label logits and loss"):
        found = _measure(rows.detach(), labels, scored, batch.has_image, head, readings, without)
    return Passes(
        targets=labels,
        valid=valid,
        has_image=batch.has_image,
        rows=rows if scored is valid else rows[valid[scored]],
        readings=found,
        head=head,
    )


@dataclass(frozen=True)
class _ContrastPass:
    """What the second pass gives, in the shape of the batch.

    Attributes:
        reached: True where it says anything.
        scores: of every label.
        rows: hidden states that the labels were read from, one a reached label in reading order; only for "kl".
    """

    reached: Bool[Tensor, "batch predicted"]
    scores: dict[Score, Float[Tensor, "batch predicted"]]
    rows: Float[Tensor, "tokens hidden"] | None = None


def _measure(
    rows: Float[Tensor, "tokens hidden"],
    labels: Int[Tensor, "batch predicted"],
    scored: Bool[Tensor, "batch predicted"],
    has_image: Bool[Tensor, " batch"],
    head: Head,
    readings: Sequence[Reading],
    without: _ContrastPass | None,
) -> dict[Reading, Float[Tensor, "batch predicted"]]:
    """Readings from both passes; the first one's scores are taken only where some reading is made of them."""
    nothing = upcast(rows[:0]).new_zeros(labels.shape)
    found: dict[Reading, Tensor] = dict.fromkeys(readings, nothing)
    compared = [] if without is None else _scores_compared(readings)
    own: list[Score] = ["logprob"] if "nll" in readings or "nll_without" in readings else []
    read = read_labels(rows, labels[scored], head, list(dict.fromkeys([*compared, *own])))
    seen: dict[Score, Tensor] = {score: scatter_tokens(value, scored) for score, value in read.items()}
    delta: dict[Score, Tensor] = {score: nothing for score in seen}
    if without is not None:
        reached = without.reached & scored & has_image.unsqueeze(1)
        for score in compared:
            difference = seen[score] - without.scores[score]
            delta[score] = torch.where(reached, difference, torch.zeros_like(difference))
        if without.rows is not None:
            both = label_kl(rows[reached[scored]], without.rows[reached[without.reached]], head)
            found["kl"] = scatter_tokens(both, reached)
    found |= {DELTA[score]: value for score, value in delta.items() if DELTA[score] in found}
    if "nll" in found:
        found["nll"] = -seen["logprob"]
    if "nll_without" in found:
        found["nll_without"] = delta["logprob"] - seen["logprob"]
    return found


def _scores_compared(readings: Sequence[Reading]) -> list[Score]:
    """The scores that both passes must give for these readings."""
    scores: list[Score] = [score for score, delta in DELTA.items() if delta in readings]
    return [*scores, "logprob"] if "nll_without" in readings and "logprob" not in scores else scores


def _run_contrast_pass(
    reader: Reader,
    contrast: View,
    batch: VLBatch,
    labels: Int[Tensor, "batch predicted"],
    head: Head,
    readings: Sequence[Reading],
    at_every_position: bool,
) -> _ContrastPass | None:
    """The second pass; None where no label of the batch sees a picture, and nothing need be run for other ranks."""
    view = contrast(batch)
    if view.row_index.numel() == 0:
        return _run_one_token(reader, batch, head, readings) if reader.sharded else None
    view = reader.encode(view)
    read_at, readable = reading_positions(view, at_every_position)
    at, order = unique_positions(read_at, readable, view.input_ids.shape[1])
    picked = reader.hidden_at(view, at)[order]
    rows = view.row_index[:, 1:][readable]
    columns = view.token_index[:, 1:][readable] - 1
    reached = torch.zeros_like(batch.valid).index_put((rows, columns), torch.ones_like(rows, dtype=torch.bool))
    found = read_labels(picked, labels[rows, columns], head, _scores_compared(readings))
    return _ContrastPass(
        reached,
        {score: value.new_zeros(labels.shape).index_put((rows, columns), value) for score, value in found.items()},
        picked[torch.argsort(rows * labels.shape[1] + columns)] if "kl" in readings else None,
    )


def _run_one_token(reader: Reader, batch: VLBatch, head: Head, readings: Sequence[Reading]) -> _ContrastPass:
    """A second pass over one token: what other ranks gather for theirs, this one gathers too.

    Its scores reach no label; that they are there makes the main pass read its own, as it does on other ranks.
    """
    first = ("input_ids", "labels", "image_mask", "row_index", "token_index", "inputs_embeds")
    token = replace(
        batch,
        **{name: getattr(batch, name)[:1, :1] for name in first},
        attention_mask=torch.ones_like(batch.attention_mask[:1, :1]),
        position_ids=None if batch.position_ids is None else batch.position_ids[..., :1, :1],
        cross_attention_inputs={},
        token_inputs={name: value[:1, :1] for name, value in batch.token_inputs.items()},
    )
    row = reader.hidden_at(token, torch.ones_like(token.image_mask))
    found = read_labels(row, torch.zeros_like(token.input_ids[0]), head, _scores_compared(readings))
    nowhere = torch.zeros_like(batch.valid)
    return _ContrastPass(
        nowhere,
        {score: value.new_zeros(nowhere.shape) for score, value in found.items()},
        row[:0] if "kl" in readings else None,
    )


@contextmanager
def eval_no_grad(model: nn.Module) -> Iterator[None]:
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


def scatter_tokens(
    values: Float[Tensor, " tokens"] | Bool[Tensor, " tokens"], at: Bool[Tensor, "batch predicted"]
) -> Tensor:
    """(tokens,) values at the positions where `at` is True, 0 elsewhere."""
    return values.new_zeros(at.shape).masked_scatter(at, values)
