"""Retrieval: the picture's own caption among k, by the model's likelihood; chance without looking."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contralign.batch import IGNORE_INDEX
from contralign.core.passes import PassComparison
from contralign.data.batches.collator import VLCollator
from contralign.data.batches.encoded_batch import EncodedBatch
from contralign.data.records.messages import Sample, Turn
from contralign.evaluation.evaluation_set import EvaluationSet, Numbers, draw
from contralign.evaluation.metrics.accuracy import accuracy
from contralign.evaluation.negative_captions import Negatives, caption, negative_captions
from contralign.reading import SampleReader

RULES = ("sum", "mean", "gain")


def retrieval(
    model: Any,
    collator: VLCollator,
    data: EvaluationSet,
    *,
    k: int = 10,
    negatives: Negatives = "random",
    batch_size: int = 32,
    limit: int | None = None,
) -> Numbers:
    """Score every held-out picture with its own caption and k − 1 others; a hit is when its own scores highest.

    All captions follow the same prompt, earlier turns included; only the caption's tokens and its end token count.
    Nothing is truncated, whatever the collator's `max_length`. A picture is encoded once for each of its k captions.

    Args:
        model: a model that `adapter_for` can serve.
        collator: of its processor.
        data: held-out samples, all with pictures; other captions are drawn from all of them.
        k: captions to choose among.
        negatives: where the others come from, "random" or "hard"; see `negative_captions`.
        batch_size: (picture, caption) pairs at a time.
        limit: most pictures, drawn by the seed; None is all.

    Returns:
        - `samples`, `k`, `negatives`: as asked for.
        - `chance`: 1 / k, what a guesser gets. Where some captions or words are much more frequent than others, one who
          knows that gets more by "sum" without looking; "gain" takes it away.
        - `accuracy[rule]`: share of hits with Wilson's 95 % interval and n, by what is compared: "sum" (log-likelihood
          of the caption), "mean" (the same per token), "gain" (log-likelihood with the picture minus without: what the
          picture adds, the pointwise mutual information of both). A tie is no hit.
        - `misses`: up to 20 samples with another caption on top by "sum": id, own caption, caption chosen.

    Raises:
        ValueError: no samples, one without a picture or an answer, k below 2, or not enough other captions.
        BadRecord: a picture that cannot be decoded.
        UnsupportedModel: no adapter serves the model.
    """
    if k < 2:
        raise ValueError(f"k={k}: wanted 2 or more captions to choose among")
    samples = draw(data.samples, limit, data.seed, "retrieval")
    if not samples:
        raise ValueError("no samples to find captions for: wanted at least one")
    for sample in samples:
        if not sample.pictures:
            raise ValueError(f"sample {sample.id!r} has no picture to find the caption of; leave it out")
    others = negative_captions(samples, data.samples, k - 1, negatives, data.seed)
    choices = [(caption(sample), *texts) for sample, texts in zip(samples, others, strict=True)]
    scores = caption_scores(model, collator, samples, choices, batch_size)
    return {
        "samples": len(samples),
        "k": k,
        "negatives": negatives,
        "chance": 1 / k,
        "accuracy": {rule: accuracy(_hits(scores[rule])).as_dict() for rule in RULES},
        "misses": [
            {"id": sample.id, "caption": texts[0], "chosen": texts[int(line[1:].argmax()) + 1]}
            for sample, texts, line, hit in zip(samples, choices, scores["sum"], _hits(scores["sum"]), strict=True)
            if not hit
        ][:20],
    }


def caption_scores(
    model: Any, collator: VLCollator, samples: Sequence[Sample], choices: Sequence[Sequence[str]], batch_size: int
) -> dict[str, NDArray[np.float64]]:
    """How well each of several captions fits a sample's picture and prompt.

    Args:
        model: as in `retrieval`.
        collator: as in `retrieval`.
        samples: ending with an answer, whose place the captions take.
        choices: for every sample equally many captions.
        batch_size: readings at a time.

    Returns:
        By rule ("sum", "mean", "gain"; nats) an array (samples, captions).

    Raises:
        BadRecord, UnsupportedModel: see `retrieval`.
    """
    whole = copy.copy(collator)
    whole.max_length, whole.on_bad = None, "error"
    pairs = [_with_caption(sample, text) for sample, texts in zip(samples, choices, strict=True) for text in texts]
    reader = SampleReader(model, whole, scores=("logprob",))
    parts = [_sums(encoded, looks) for encoded, looks in reader.read_batches(pairs, batch_size, "retrieval")]
    loglik, gain, tokens = np.concatenate(parts, axis=1).reshape(3, len(samples), -1)
    return {"sum": loglik, "mean": loglik / tokens, "gain": gain}


def _hits(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(samples, captions) -> (samples,): the first caption, which is the own one, is above all others."""
    return scores[:, 0] > scores[:, 1:].max(axis=1)


def _with_caption(sample: Sample, text: str) -> Sample:
    return replace(sample, turns=(*sample.turns[:-1], Turn("assistant", text)), spans=())


def _sums(encoded: EncodedBatch, looks: PassComparison) -> NDArray[np.float64]:
    """(3, rows): log-likelihood, its gain from the picture, and number of tokens, over the last answer of every row."""
    counted = looks.valid.cpu() & _in_last_turn(encoded)
    found = (-looks.nll, looks.delta["logprob"], torch.ones_like(looks.nll))
    return torch.stack([(values.cpu().double() * counted).sum(dim=1) for values in found]).numpy()


def _in_last_turn(encoded: EncodedBatch) -> torch.Tensor:
    """(rows, seq - 1): True from the first label of a row's last turn on, where it is predicted.

    That label may stand before the turn's own characters: a blank that the template puts there is learned too, and
    some captions begin with a token that holds it and others do not.
    """
    learned = encoded.inputs["labels"] != IGNORE_INDEX
    begun = torch.zeros_like(learned)
    for line, labels, spans, sample in zip(begun, learned, encoded.token_spans, encoded.samples, strict=True):
        last = len(sample.turns) - 1 if sample else None
        first = next(column for column, span in enumerate(spans) if span is not None and span[0] == last)
        while first > 0 and labels[first - 1]:
            first -= 1
        line[first:] = True
    return begun[:, 1:]
