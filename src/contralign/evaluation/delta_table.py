"""Which Δ is best? AUCs of Δ for every contrast and score, before any training.

Weights are only as good as their Δ: one that does not find visual words, or captions with a wrong picture, cannot
weight them.
"""

import copy
from collections.abc import Sequence
from typing import Any

from contralign.contrast.base import Contrast
from contralign.contrast.registry import contrast_named
from contralign.data.batches.collator import VLCollator
from contralign.evaluation.delta_aucs import caption_aucs, token_aucs
from contralign.evaluation.evaluation_set import EvaluationSet, Numbers, draw
from contralign.evaluation.label_tokens import LabelTokens, read_right_and_wrong
from contralign.evaluation.wrong_images import with_wrong_images
from contralign.reading import SampleReader, check_batch_size

CONTRASTS = (
    "drop",
    "drop:an image",
    "mean",
    "shuffle",
    "patches:0.5",
    "patches:0.7",
    "patches:0.9",
    "blur:1",
    "blur:10",
)
"""The paper's (section 2.2, Tables 8 and 9), and those of ours."""


def delta_table(
    model: Any,
    collator: VLCollator,
    data: EvaluationSet,
    *,
    contrasts: Sequence[str] | str = CONTRASTS,
    batch_size: int = 32,
    limit: int | None = 500,
) -> Numbers:
    """Read held-out captions with their own and with a wrong picture, once with every contrast; teacher-forced.

    Args:
        model: a model that `adapter_for` can serve.
        collator: of its processor.
        data: held-out samples, all with pictures; those with spans say which tokens are visual.
        contrasts: names as `contrast_named` takes them: "drop", "drop:an image", "mean:4", "patches:0.5" …
        batch_size: samples at a time. "shuffle" exchanges pictures inside a batch, so its Δ depends on it, and a last
            batch of one sample has its picture taken out instead.
        limit: most samples, drawn by the seed; None is all.

    Returns:
        - `samples`: number of held-out samples drawn.
        - `auc[contrast][score][task]`: area under the ROC curve with its 95 % interval; the first of a task should
          score higher. Scores: "logit", "centred" and "logprob" for raw Δ, and "SCORE_weight" for its weight, clamped
          to [1, 5] and averaged over 3 tokens. Tasks: "visual_vs_filler" and "visual_vs_contradictory" (tokens; one
          caption is one cluster), "right_vs_wrong_picture" (mean of a caption with its own and with a wrong picture;
          both are one cluster).

        A task without data has the value None and counts of 0.

    Raises:
        ValueError: no contrasts, one named twice or not at all, no samples, one without a picture, no wrong pictures to
            give, or a prompt that does not fit into a picture.
        BadRecord, UnsupportedModel: see `read_label_tokens`.
    """
    chosen = _named([contrasts] if isinstance(contrasts, str) else contrasts)
    samples = draw(data.samples, limit, data.seed, "delta")
    mismatched = with_wrong_images(samples, data.seed)
    collators = {name: _collator_for(contrast, collator) for name, contrast in chosen.items()}
    for name, contrast in chosen.items():  # what cannot be read is refused before the first hour is spent
        check_batch_size(contrast, batch_size)
        SampleReader(model, collators[name], contrast)
    areas: Numbers = {}
    for name, contrast in chosen.items():
        right, wrong = read_right_and_wrong(
            model,
            collators[name],
            samples,
            mismatched,
            contrast=contrast,
            batch_size=batch_size,
            label=f"Δ of {name!r},",
        )
        areas[name] = _areas(right, wrong)
    return {"samples": len(samples), "auc": areas}


def _collator_for(contrast: Contrast, collator: VLCollator) -> VLCollator:
    """The same collator, keeping original pictures where the contrast degrades them."""
    own = copy.copy(collator)
    own.keep_pictures = contrast.reencodes
    return own


def _named(names: Sequence[str]) -> dict[str, Contrast]:
    if not names:
        raise ValueError(f"contrasts={names!r}: wanted a list of names, such as ['drop', 'shuffle']")
    if len(set(names)) < len(names):
        raise ValueError(f"contrasts={list(names)}: every name once")
    return {name: contrast_named(name) for name in names}


def _areas(right: LabelTokens, wrong: LabelTokens) -> Numbers:
    """By score, then by task."""
    tasks = {
        "visual_vs_filler": token_aucs(right, "visual", "filler"),
        "visual_vs_contradictory": token_aucs(right, "visual", "contradictory"),
        "right_vs_wrong_picture": caption_aucs(right, wrong, paired=True)
        | caption_aucs(right, wrong, paired=True, of_weights=True),
    }
    scores = tasks["visual_vs_filler"]
    return {score: {task: found[score] for task, found in tasks.items()} for score in scores}
