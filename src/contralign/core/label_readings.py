"""What is measured of label tokens: scores, and how far the two passes differ. No gradient.

Δ by raw logits needs one dot product a label. What needs the whole vocabulary takes it a chunk of labels at a time, so
that it never stands in memory for all of them.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contralign.core.delta import token_scores
from contralign.core.head import GatheredHead, Head, LinearHead, OpaqueHead, upcast
from contralign.core.settings import Score

CHUNK_BYTES = 256 * 2**20
"""Float32 logits that exist at a time: larger saves no time, smaller goes over the head's gradient more often.

Measured in docs/losses.md.
"""

Reading = Literal["delta_logit", "delta_centred", "delta_logprob", "nll", "nll_without", "kl"]
"""A number that a step can give every label token, named as in a score file.

`delta_*` is Δ of a score (`contralign.core.delta`). `nll` and `nll_without` are nats lost with the picture and without.
`kl` is KL(p with the picture ‖ p without) in nats, 0 or more: how far the picture moves the whole distribution,
whatever the label. Where a label has no second pass (rows without a picture), Δ and `kl` are 0 and `nll_without` is
`nll`.
"""

COMPARED: tuple[Reading, ...] = ("delta_logit", "delta_centred", "delta_logprob", "nll_without", "kl")
"""Readings that need the second pass."""

DELTA: dict[Score, Reading] = {"logit": "delta_logit", "centred": "delta_centred", "logprob": "delta_logprob"}
"""The reading that is Δ of a score."""


def read_labels(
    rows: Float[Tensor, "tokens hidden"],
    labels: Int[Tensor, " tokens"],
    head: Head,
    scores: Sequence[Score],
    chunk_bytes: int = CHUNK_BYTES,
) -> dict[Score, Float[Tensor, " tokens"]]:
    """Scores of every label, each in the cheapest way that is exact.

    Args:
        rows: hidden states that the labels are read from.
        labels: token ids.
        head: what makes logits of rows.
        scores: which ones. A `LinearHead` gives "logit" by a dot product a label and, without soft-capping, "centred"
            by two; the rest goes through all logits.
        chunk_bytes: most bytes of float32 logits at a time.

    Returns:
        float32 (float64 stays).
    """
    if not scores:
        return {}
    if isinstance(head, GatheredHead):
        return head.within(rows, lambda whole, rows: read_labels(rows, labels, whole, scores, chunk_bytes))
    found: dict[Score, Tensor] = {}
    with torch.no_grad():
        for score in scores:
            if score == "logit":
                found[score] = head.label_logits(rows, labels)
            elif score == "centred" and isinstance(head, LinearHead) and head.cap is None:
                found[score] = head.label_logits(rows, labels) - head.mean_logits(rows)
        rest: list[Score] = [score for score in scores if score not in found]
        if rest:
            found |= _through_all_logits(rows, labels, head, rest, chunk_bytes)[0]
    return found


def label_scores(
    rows: Float[Tensor, "tokens hidden"], labels: Int[Tensor, " tokens"], head: Head, chunk_bytes: int = CHUNK_BYTES
) -> tuple[Float[Tensor, " tokens"], Bool[Tensor, " tokens"]]:
    """Log-probability of every label, and whether it is the most likely word.

    Returns:
        Nats, in float32 (float64 stays); bool.
    """
    if isinstance(head, GatheredHead):
        return head.within(rows, lambda whole, rows: label_scores(rows, labels, whole, chunk_bytes))
    with torch.no_grad():
        found, correct = _through_all_logits(rows, labels, head, ["logprob"], chunk_bytes)
    return found["logprob"], correct


def label_kl(
    rows: Float[Tensor, "tokens hidden"],
    rows_without: Float[Tensor, "tokens hidden"],
    head: Head,
    chunk_bytes: int = CHUNK_BYTES,
) -> Float[Tensor, " tokens"]:
    """KL(p ‖ q) of the next token, between the two passes at the same position.

    Args:
        rows: hidden states that make p, with the picture.
        rows_without: those that make q.
        head: what makes logits of rows.
        chunk_bytes: most bytes of float32 logits at a time, those of both passes together.

    Returns:
        Nats, 0 or more, in float32 (float64 stays).
    """
    if isinstance(head, GatheredHead):
        return head.within(rows, lambda whole, rows: label_kl(rows, rows_without.to(rows), whole, chunk_bytes))
    with torch.no_grad():
        divergence = upcast(rows[:0]).new_empty(rows.shape[:1])
        for part in chunks(rows, head, chunk_bytes // 2):
            p = upcast(head.logits(rows[part])).log_softmax(-1)
            q = upcast(head.logits(rows_without[part])).log_softmax(-1)
            share = p.exp()
            # A token that p rules out counts 0 even where q rules it out too, and −∞ would meet −∞.
            terms = p.sub_(q).masked_fill_(share == 0, 0).mul_(share)
            divergence[part] = terms.sum(-1).clamp_(min=0)
    return divergence


def chunks(rows: Tensor, head: Head, chunk_bytes: int) -> list[slice]:
    """Slices over the rows; one slice even of no rows, so that every rank calls its head."""
    size = max(chunk_bytes // (upcast(rows[:0]).element_size() * head.vocabulary), 1)
    if isinstance(head, OpaqueHead) and head.whole:
        size = max(rows.shape[0], 1)
    return [slice(start, start + size) for start in range(0, max(rows.shape[0], 1), size)]


def _through_all_logits(
    rows: Tensor, labels: Tensor, head: Head, scores: Sequence[Score], chunk_bytes: int
) -> tuple[dict[Score, Tensor], Tensor]:
    """Scores, and whether the label is the most likely word, from all logits of a chunk of labels at a time."""
    found: dict[Score, Tensor] = {score: upcast(rows[:0]).new_empty(labels.shape) for score in scores}
    correct = torch.empty_like(labels, dtype=torch.bool)
    for part in chunks(rows, head, chunk_bytes):
        logits = upcast(head.logits(rows[part]))
        for score in scores:
            found[score][part] = token_scores(logits, labels[part], score)
        correct[part] = logits.argmax(dim=-1) == labels[part]
    return found, correct
