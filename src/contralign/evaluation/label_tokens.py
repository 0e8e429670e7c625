"""Loss and Δ of every label token of samples, from both passes: the data of `grounding` and `delta`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contralign.contrast.base import Contrast
from contralign.core.passes import PassComparison
from contralign.core.settings import Score
from contralign.core.weights import cal_weights
from contralign.data.batches.collator import VLCollator
from contralign.data.batches.encoded_batch import EncodedBatch
from contralign.data.records.messages import Sample
from contralign.reading import SampleReader

SCORES: tuple[Score, ...] = get_args(Score)
"""All of them: `nll_without` needs the log-probability, and the others cost next to nothing."""


@dataclass(frozen=True, kw_only=True)
class LabelTokens:
    """Label tokens of samples, end tokens included; every array has one entry a token, in reading order.

    Attributes:
        ids: of the samples.
        sample: index of the token's sample in `ids`.
        kind: visual, filler or contradictory; "" if unknown, as for end tokens.
        correct: the label is the most likely token (teacher-forced).
        nll: negative log-likelihood with the picture, nats.
        nll_without: the same of the second pass, by default without image tokens and with the text's positions kept.
        delta: Δ by score, neither clamped nor pooled.
        weight: by score, Δ as CAL weighs by it with the paper's settings: clamped to [1, 5], mean of 3.
    """

    ids: tuple[str, ...]
    sample: NDArray[np.int64]
    kind: NDArray[np.str_]
    correct: NDArray[np.bool_]
    nll: NDArray[np.float64]
    nll_without: NDArray[np.float64]
    delta: dict[Score, NDArray[np.float64]]
    weight: dict[Score, NDArray[np.float64]]

    def caption_means(self, score: Score, of_weights: bool = False) -> NDArray[np.float64]:
        """Mean Δ, or mean weight, over the label tokens of every sample."""
        values = self.weight[score] if of_weights else self.delta[score]
        return np.bincount(self.sample, weights=values) / np.bincount(self.sample)


def read_label_tokens(
    model: Any,
    collator: VLCollator,
    samples: Sequence[Sample],
    *,
    contrast: Contrast | None = None,
    batch_size: int = 32,
    label: str = "reading",
) -> LabelTokens:
    """Read samples twice, teacher-forced, in eval mode.

    Args:
        model: a Hugging Face model that `adapter_for` can serve.
        collator: of its processor.
        samples: ending with an answer.
        contrast: what the second pass sees; None is `default_contrast` of the model.
        batch_size: samples at a time.
        label: of the progress bar.

    Raises:
        BadRecord: a bad sample under the collator's `on_bad="error"`.
        UnsupportedModel: no adapter serves the model, or the contrast is not right for it.
        ValueError: no samples, or a contrast that needs other batches.
    """
    if not samples:
        raise ValueError("no samples to read: wanted at least one")
    ids: list[str] = []
    columns: list[dict[str, NDArray[Any]]] = []
    for encoded, looks in SampleReader(model, collator, contrast, SCORES).read_batches(samples, batch_size, label):
        columns.append(_columns(encoded, looks, first=len(ids)))
        ids += [sample.id for sample in encoded.samples if sample is not None]
    joined = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    return LabelTokens(
        ids=tuple(ids),
        sample=joined["sample"],
        kind=joined["kind"],
        correct=joined["correct"],
        nll=joined["nll"],
        nll_without=joined["nll"] + joined["logprob"],
        delta={score: joined[score] for score in SCORES},
        weight={score: joined[f"{score} weight"] for score in SCORES},
    )


def read_right_and_wrong(
    model: Any,
    collator: VLCollator,
    samples: Sequence[Sample],
    mismatched: Sequence[Sample],
    *,
    contrast: Contrast | None = None,
    batch_size: int = 32,
    label: str = "",
) -> tuple[LabelTokens, LabelTokens]:
    """The same captions with their own pictures and with wrong ones, token by token.

    Args:
        model: see `read_label_tokens`.
        collator: likewise.
        samples: with their own pictures.
        mismatched: from `with_wrong_images`.
        contrast: see `read_label_tokens`; one that keeps a mean has it from the right pictures in both readings.
        batch_size: samples at a time.
        label: before "right pictures" and "wrong pictures" on the progress bars.

    Raises:
        ValueError: a caption has other label tokens with the wrong picture; also what `read_label_tokens` refuses.
    """
    right, wrong = (
        read_label_tokens(
            model, collator, chosen, contrast=contrast, batch_size=batch_size, label=f"{label} {which} pictures".strip()
        )
        for which, chosen in (("right", samples), ("wrong", mismatched))
    )
    if right.ids != wrong.ids or len(right.sample) != len(wrong.sample):
        raise ValueError(
            "the captions with wrong pictures have other label tokens than with their own: raise the collator's "
            "max_length, or set on_bad='error' to see which samples it leaves out"
        )
    return right, wrong


def _columns(encoded: EncodedBatch, looks: PassComparison, first: int) -> dict[str, NDArray[Any]]:
    """The label tokens of one batch. Without the picture the loss is nll + Δ of the log-probabilities."""
    valid = looks.valid.cpu()
    kinds = [[kind or "" for kind in row[1:]] for row in encoded.kinds]

    def picked(values: Tensor) -> NDArray[Any]:
        values = values.cpu()[valid]
        return values.numpy() if values.dtype == torch.bool else values.double().numpy()

    found: dict[str, NDArray[Any]] = {
        "sample": first + valid.nonzero()[:, 0].numpy(),
        "kind": np.array(kinds, dtype="U16")[valid.numpy()],
        "correct": picked(looks.correct),
        "nll": picked(looks.nll),
    }
    for score in SCORES:
        weights = cal_weights(looks.delta[score], looks.valid, has_image=looks.has_image)
        found |= {score: picked(looks.delta[score]), f"{score} weight": picked(weights)}
    return found
