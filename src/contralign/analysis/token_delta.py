"""Δ of every token of a caption, as in the paper's Figure 2a. Computed here, drawn elsewhere."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from torch import Tensor

from contralign.analysis.caption_delta import CaptionDelta, Piece
from contralign.core.passes import PassComparison
from contralign.core.settings import Score
from contralign.core.weights import cal_weights
from contralign.data.batches.collator import VLCollator
from contralign.data.batches.encoded_batch import EncodedBatch
from contralign.data.records.messages import Sample
from contralign.data.text.loss_mask import TokenSpan
from contralign.reading import SCORES, SampleReader


def token_delta(
    model: Any,
    collator: VLCollator,
    samples: Sequence[Sample],
    scores: Sequence[Score] = SCORES,
    *,
    alpha: float = 1.0,
    beta: float = 5.0,
    window: int = 3,
    batch_size: int = 32,
) -> list[CaptionDelta]:
    """Δ, weight and loss of every token of the answers, from both passes over every sample.

    Args:
        model: a model that `adapter_for` can serve; read in eval mode.
        collator: of its processor.
        samples: ending with an answer.
        scores: which Δ to keep.
        alpha: of the weights, as in `cal_weights`.
        beta: likewise.
        window: likewise.
        batch_size: samples at a time.

    Returns:
        One record a sample, in their order; a sample that the collator skips has none.

    Raises:
        BadRecord: a bad sample under the collator's `on_bad="error"`.
        UnsupportedModel: no adapter serves the model.
        ValueError: α, β and window that mean nothing.
    """
    captions: list[CaptionDelta] = []
    for encoded, looks in SampleReader(model, collator).read_batches(samples, batch_size, "Δ of tokens"):
        weights: dict[Score, Tensor] = {
            score: cal_weights(looks.delta[score], looks.valid, alpha, beta, window, has_image=looks.has_image)
            for score in scores
        }
        captions += _captions(encoded, looks, weights)
    return captions


LabelToken = tuple[TokenSpan | None, Piece]
"""A label token: its characters, and its numbers, as a piece that has no text and turn yet."""


def _captions(encoded: EncodedBatch, looks: PassComparison, weights: dict[Score, Tensor]) -> list[CaptionDelta]:
    delta = {score: looks.delta[score].tolist() for score in weights}
    weight = {score: values.tolist() for score, values in weights.items()}
    nll, nll_without = looks.nll.tolist(), (looks.nll + looks.delta["logprob"]).tolist()
    kinds, spans, valid = encoded.kinds, encoded.token_spans, looks.valid.tolist()

    def learned(row: int, place: int) -> LabelToken:
        return spans[row][place + 1], Piece(
            turn=0,
            text="",
            kind=kinds[row][place + 1],
            delta={score: values[row][place] for score, values in delta.items()},
            weight={score: values[row][place] for score, values in weight.items()},
            nll=nll[row][place],
            nll_without=nll_without[row][place],
        )

    captions = []
    for row, sample in enumerate(encoded.samples):
        if sample is not None:
            places = groupby(range(len(valid[row])), key=lambda place, row=row: valid[row][place])
            answers = [[learned(row, place) for place in run] for is_label, run in places if is_label]
            captions.append(CaptionDelta(id=sample.id, pieces=_pieces_of_turns(sample, answers)))
    return captions


def _pieces_of_turns(sample: Sample, answers: list[list[LabelToken]]) -> tuple[Piece, ...]:
    """All assistant turns cut at the borders of their tokens; an answer, label tokens side by side, is of one turn."""
    speaking = [index for index, turn in enumerate(sample.turns) if turn.role == "assistant"]
    by_turn: dict[int, list[LabelToken]] = {turn: [] for turn in speaking}
    turn = speaking[0]
    for tokens in answers:
        turn = next((span[0] for span, _ in tokens if span is not None), turn)
        by_turn[turn] += tokens
    return tuple(
        piece for turn, tokens in by_turn.items() for piece in _pieces_of_text(sample.turns[turn].text, turn, tokens)
    )


def _pieces_of_text(text: str, turn: int, tokens: list[LabelToken]) -> list[Piece]:
    """The text in pieces. Blanks before a token go with it; of tokens that share a character the first has it."""
    pieces: list[Piece] = []
    place = 0
    for span, piece in tokens:
        start, end = span[1:] if span is not None else (place, place)
        if text[place:start].strip():
            pieces.append(Piece(turn=turn, text=text[place:start]))
            place = start
        pieces.append(replace(piece, turn=turn, text=text[place:end]))
        place = max(place, end)
    return pieces if place == len(text) else [*pieces, Piece(turn=turn, text=text[place:])]
