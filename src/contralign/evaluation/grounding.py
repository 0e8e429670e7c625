"""Does the model look? Accuracy and loss with the right, a wrong and no picture, and AUCs of Δ.

Any samples with pictures will do; those with spans separate visual words from filler.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import Sample
from contralign.evaluation.delta_aucs import caption_aucs, token_aucs
from contralign.evaluation.evaluation_set import EvaluationSet, Numbers, draw
from contralign.evaluation.label_tokens import LabelTokens, read_label_tokens, read_right_and_wrong
from contralign.evaluation.metrics.accuracy import accuracy
from contralign.evaluation.metrics.mean import mean
from contralign.evaluation.wrong_images import with_wrong_images

KINDS = ("all", "visual", "filler", "contradictory")


def grounding(
    model: Any,
    collator: VLCollator,
    data: EvaluationSet,
    *,
    batch_size: int = 32,
    limit: int | None = None,
    swapped_limit: int | None = 500,
) -> Numbers:
    """Run held-out samples with their own picture, with a wrong one, and without; teacher-forced.

    Args:
        model: a model that `adapter_for` can serve.
        collator: of its processor.
        data: held-out samples, all with pictures. With `swapped_ids`, swapped training captions are told from others.
        batch_size: samples at a time.
        limit: most held-out samples, drawn by the seed; None is all.
        swapped_limit: most swapped, and most unswapped, training samples.

    Returns:
        Nested numbers, each with its 95 % interval and n; tokens of one caption count as one cluster.

        - `samples`: held-out samples read.
        - `accuracy[kind][picture]`: share of label tokens that are the model's most likely token. Kinds: "all" (end
          tokens included), "visual", "filler", "contradictory". Pictures: "right", "wrong".
        - `nll[kind][picture]`: nats per label token; also under "none": image tokens taken out and the text left at
          its positions, which is the second pass of CAL (they are hidden from attention instead where only that is
          known to be right: `contralign.reading.default_contrast`); and "wrong_minus_right", paired, token by token.
        - `auc[task][score]`: area under the ROC of Δ as it comes ("logit", "centred", "logprob") and as training sees
          it, clamped and pooled with the paper's settings ("logit_weight" and so on; tokens only). Tasks:
          "visual_vs_filler", "visual_vs_contradictory" (tokens), "right_vs_wrong_picture" (mean Δ of a held-out
          caption with its own picture and with a wrong one), "right_vs_swapped_training" (mean Δ of training captions
          that kept their picture and of those that were swapped). The first group should score higher.

        A task or kind without data has the value None and n = 0.

    Raises:
        ValueError: no samples, one without a picture, or no wrong pictures to give.
        BadRecord, UnsupportedModel: see `read_label_tokens`.
    """
    samples = draw(data.samples, limit, data.seed, "grounding")
    mismatched = with_wrong_images(samples, data.seed)
    right, wrong = read_right_and_wrong(model, collator, samples, mismatched, batch_size=batch_size)
    kept, swapped = _training_captions(model, collator, data, swapped_limit, batch_size)
    return {
        "samples": len(right.ids),
        "accuracy": {kind: _accuracies(right, wrong, _of_kind(right, kind)) for kind in KINDS},
        "nll": {kind: _losses(right, wrong, _of_kind(right, kind)) for kind in KINDS},
        "auc": {
            "visual_vs_filler": token_aucs(right, "visual", "filler"),
            "visual_vs_contradictory": token_aucs(right, "visual", "contradictory"),
            "right_vs_wrong_picture": caption_aucs(right, wrong, paired=True),
            "right_vs_swapped_training": caption_aucs(kept, swapped, paired=False),
        },
    }


def _training_captions(
    model: Any, collator: VLCollator, data: EvaluationSet, limit: int | None, batch_size: int
) -> tuple[LabelTokens | None, LabelTokens | None]:
    """Training captions that kept their pictures, and those that were swapped; None where there are none."""
    pictured = [sample for sample in data.train if sample.pictures and data.swapped_ids]
    unknown = data.swapped_ids - {sample.id for sample in pictured}
    if unknown:
        raise ValueError(
            f"{len(unknown)} swapped ids are not among the training samples with pictures, such as {min(unknown)!r}: "
            "give the training set that was swapped"
        )

    def read(purpose: str, chosen: Sequence[Sample]) -> LabelTokens | None:
        drawn = draw(chosen, limit, data.seed, purpose)
        return read_label_tokens(model, collator, drawn, batch_size=batch_size, label=purpose) if drawn else None

    return (
        read("unswapped captions", [sample for sample in pictured if sample.id not in data.swapped_ids]),
        read("swapped captions", [sample for sample in pictured if sample.id in data.swapped_ids]),
    )


def _of_kind(tokens: LabelTokens, kind: str) -> NDArray[np.bool_]:
    return np.ones(len(tokens.kind), dtype=bool) if kind == "all" else tokens.kind == kind


def _accuracies(right: LabelTokens, wrong: LabelTokens, chosen: NDArray[np.bool_]) -> Numbers:
    read = {"right": right.correct, "wrong": wrong.correct}
    return {name: accuracy(values[chosen], right.sample[chosen]).as_dict() for name, values in read.items()}


def _losses(right: LabelTokens, wrong: LabelTokens, chosen: NDArray[np.bool_]) -> Numbers:
    losses = {"right": right.nll, "wrong": wrong.nll, "none": right.nll_without}
    losses["wrong_minus_right"] = wrong.nll - right.nll
    return {name: mean(values[chosen], right.sample[chosen]).as_dict() for name, values in losses.items()}
