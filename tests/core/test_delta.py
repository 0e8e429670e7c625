import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contralign.core.delta import contrast_delta, token_scores
from contralign.core.reference import reference_delta


def passes(seed: int, batch: int = 2, seq: int = 3, vocab: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    logits, contrast = (torch.randn(2, batch, seq, vocab, generator=rng, dtype=torch.float64) * 4).unbind()
    return logits, contrast, torch.randint(0, vocab, (batch, seq), generator=rng)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 3),
    seq=st.integers(0, 4),
    vocab=st.integers(1, 6),
    score=st.sampled_from(["logit", "centred", "logprob"]),
)
def test_it_equals_the_reference(seed, batch, seq, vocab, score):
    logits, contrast, labels = passes(seed, batch, seq, vocab)
    wanted = torch.tensor(reference_delta(logits, contrast, labels, score), dtype=torch.float64).view(batch, seq)
    torch.testing.assert_close(contrast_delta(logits, contrast, labels, score), wanted, rtol=0, atol=1e-12)


def test_it_is_the_picture_s_score_minus_the_other_one():
    logits, contrast = torch.tensor([[[1.0, 5.0, 2.0]]]), torch.tensor([[[4.0, 1.5, 0.0]]])
    assert contrast_delta(logits, contrast, torch.tensor([[1]])).item() == 3.5
    assert contrast_delta(logits, contrast, torch.tensor([[0]])).item() == -3.0


def test_two_equal_passes_give_zero():
    logits, _, labels = passes(1)
    for score in ("logit", "centred", "logprob"):
        assert (contrast_delta(logits, logits.clone(), labels, score) == 0).all()


def test_an_offset_of_all_logits_moves_the_logit_score_and_leaves_the_others():
    logits, contrast, labels = passes(2)
    offset = torch.tensor([[1.0, -2.0, 3.0], [0.5, 7.0, -4.0]], dtype=torch.float64)
    moved = logits + offset.unsqueeze(-1)
    by_logit = contrast_delta(moved, contrast, labels) - contrast_delta(logits, contrast, labels)
    torch.testing.assert_close(by_logit, offset)
    for score in ("centred", "logprob"):
        difference = contrast_delta(moved, contrast, labels, score) - contrast_delta(logits, contrast, labels, score)
        torch.testing.assert_close(difference, torch.zeros_like(offset), rtol=0, atol=1e-12)


def test_centred_scores_of_all_words_sum_to_zero():
    logits, _, _ = passes(9)
    every = [token_scores(logits, torch.full((2, 3), word), "centred") for word in range(5)]
    assert torch.stack(every).std() > 1
    torch.testing.assert_close(sum(every), torch.zeros(2, 3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_only_the_label_s_own_logit_counts_in_the_logit_score():
    logits, contrast, labels = passes(3)
    others = torch.ones_like(logits, dtype=torch.bool).scatter(-1, labels.unsqueeze(-1), False)
    noisy = torch.where(others, logits + 9.0, logits)
    assert torch.equal(contrast_delta(noisy, contrast, labels), contrast_delta(logits, contrast, labels))
    assert not torch.equal(
        contrast_delta(noisy, contrast, labels, "logprob"), contrast_delta(logits, contrast, labels, "logprob")
    )


def test_a_logprob_is_the_log_of_a_probability():
    logits, _, labels = passes(4)
    wanted = logits.softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1).log()
    torch.testing.assert_close(token_scores(logits, labels, "logprob"), wanted)


@pytest.mark.parametrize("score", ["logit", "centred", "logprob"])
def test_half_precision_is_scored_and_subtracted_in_float32(score):
    logits, contrast, labels = passes(5)
    logits, contrast = (logits + 20).bfloat16(), contrast.bfloat16()
    delta = contrast_delta(logits, contrast, labels, score)
    wanted = contrast_delta(logits.double(), contrast.double(), labels, score)
    assert delta.dtype == torch.float32 and wanted.dtype == torch.float64
    torch.testing.assert_close(delta.double(), wanted, rtol=0, atol=2e-5)


def test_delta_carries_no_gradient_and_changes_no_input():
    logits, contrast, labels = passes(6)
    logits.requires_grad_()
    before = logits.detach().clone()
    delta = contrast_delta(logits, contrast, labels)
    assert not delta.requires_grad and delta.grad_fn is None
    assert torch.equal(logits.detach(), before)


def test_scores_of_single_tokens_and_of_batches_are_the_same():
    logits, _, labels = passes(7)
    flat = token_scores(logits.flatten(0, 1), labels.flatten())
    assert torch.equal(flat.view_as(labels), token_scores(logits, labels))


def test_bad_arguments_are_refused_with_what_was_wanted():
    logits, contrast, labels = passes(8)
    with pytest.raises(ValueError, match=r"score='prob'.*logit, centred, logprob"):
        contrast_delta(logits, contrast, labels, "prob")
    with pytest.raises(ValueError, match="both passes must score the same label tokens"):
        contrast_delta(logits, contrast[:, 1:], labels)
    with pytest.raises(ValueError, match=r"wanted labels\.shape \+ \(vocab,\)"):
        contrast_delta(logits, contrast, labels[:, 1:])
