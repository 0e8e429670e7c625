from dataclasses import replace
from statistics import mean

import pytest
import torch
from worlds.tiny_worlds import coloured, coloured_samples, seeing_pair

from contralign.analysis.token_delta import token_delta
from contralign.batch import IGNORE_INDEX
from contralign.contrast.mask import MaskImage
from contralign.core.passes import compare_passes
from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import Span, Turn
from contralign.models.adapters.registry import adapter_for

SAMPLES = [*coloured_samples(5), coloured("liar", "red", 0, told="blue")]


@pytest.fixture(scope="module")
def seeing():
    return seeing_pair(SAMPLES[:-1])  # the liar is not learnt by heart


def talk(text, *more, spans=()):
    turns = (*SAMPLES[0].turns[:1], Turn("assistant", text), *more)
    return replace(SAMPLES[0], id="talk", turns=turns, spans=spans)


@pytest.mark.parametrize("text", ["i like it . red .", "  two  blanks ", "naïve 🦊🦊 ligature ﬁ", "a\nb\tc", "x"])
def test_pieces_put_together_are_the_text(seeing, text):
    two = talk(text, Turn("user", "say it"), Turn("assistant", text[::-1]))
    (caption,) = token_delta(*seeing, [two])
    # The chat template trims the ends of what is said; what it trims is a piece without numbers.
    assert (caption.text(1), caption.text(3)) == (text, text[::-1])


def test_every_label_token_has_a_piece_with_numbers(seeing):
    _, collator = seeing
    sample = talk("i like it . red .", Turn("user", "say it"), Turn("assistant", "not bad"))
    (caption,) = token_delta(*seeing, [sample])
    scored = [piece for piece in caption.pieces if piece.delta]
    labels = collator([sample])["labels"]
    assert len(scored) == int((labels != IGNORE_INDEX).sum())
    without_text = [piece.turn for piece in scored if piece.text == ""]
    assert without_text == [1, 1, 3, 3]  # the blank after "ASSISTANT:" and the end token of both answers
    assert [piece.text for piece in caption.of_turn(3)][-1] == ""


def test_delta_is_that_of_the_passes_with_the_image_masked(seeing):
    model, collator = seeing
    captions = token_delta(model, collator, SAMPLES, batch_size=4)
    looks = compare_passes(
        adapter_for(model), MaskImage(), adapter_for(model).prepare(collator(SAMPLES)), ("logit", "logprob")
    )
    for score in ("logit", "logprob"):
        pieces = [piece.delta[score] for caption in captions for piece in caption.pieces if piece.delta]
        assert pieces == pytest.approx(looks.delta[score][looks.valid].tolist(), abs=1e-4)
    losses = [piece.nll for caption in captions for piece in caption.pieces if piece.delta]
    assert losses == pytest.approx(looks.nll[looks.valid].tolist(), abs=1e-5)


def test_kinds_and_delta_land_on_the_words_that_they_are_of(seeing):
    captions = token_delta(*seeing, SAMPLES)
    words = [piece for caption in captions for piece in caption.pieces if piece.kind == "visual"]
    others = [piece for caption in captions for piece in caption.pieces if piece.kind == "filler"]
    assert mean(piece.delta["logprob"] for piece in words) > 1
    assert mean(piece.delta["logprob"] for piece in others) < 0.5
    for caption, sample in zip(captions[:5], SAMPLES[:5], strict=True):
        word = next(piece for piece in caption.pieces if piece.kind == "visual")
        colour = sample.turns[1].text.split()[-2]
        assert word.text.strip() == colour
        assert word.nll_without - word.nll == pytest.approx(word.delta["logprob"], abs=1e-4)
    (lie,) = [piece for piece in captions[5].pieces if piece.kind == "contradictory"]
    assert lie.text.strip() == "blue"
    assert lie.delta["logprob"] < 0


def test_weights_follow_alpha_beta_and_window(seeing):
    (caption,) = token_delta(*seeing, SAMPLES[:1], ("logprob",), alpha=0, beta=2, window=1)
    for piece in caption.pieces:
        assert piece.weight == {"logprob": pytest.approx(min(max(piece.delta["logprob"], 0), 2))}
    assert len({round(piece.weight["logprob"], 3) for piece in caption.pieces}) > 1


def test_what_is_cut_off_stands_there_without_numbers(seeing):
    model, collator = seeing
    short = VLCollator(collator.processor, max_length=len(collator(SAMPLES[:1])["input_ids"][0]) - 3)
    (caption,) = token_delta(model, short, SAMPLES[:1])
    assert caption.text(1) == SAMPLES[0].turns[1].text
    assert caption.pieces[-1].delta == {}
    assert caption.pieces[-1].nll is None
    assert caption.pieces[0].delta


def test_text_rows_have_a_delta_of_zero(seeing):
    text = replace(SAMPLES[0], turns=(Turn("user", "say it"), Turn("assistant", "not bad")), pictures=(), spans=())
    (caption,) = token_delta(*seeing, [text])
    assert {value for piece in caption.pieces for value in piece.delta.values()} == {0.0}
    assert {value for piece in caption.pieces for value in piece.weight.values()} == {1.0}


def test_the_model_keeps_its_mode_and_its_gradients(seeing):
    model, collator = seeing
    model.train()
    token_delta(model, collator, SAMPLES[:1])
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()
    model.eval()


def test_a_span_inside_a_word_does_not_break_it(seeing):
    sample = talk("i like it . red .", spans=(Span(1, 13, 14, "visual"),))
    (caption,) = token_delta(*seeing, [sample])
    assert caption.text(1) == "i like it . red ."
