"""What is measured of label tokens, by each path, against all logits at once and against loops."""

import pytest
import torch
import torch.nn.functional as F

from contralign.core.head import GatheredHead, LinearHead, OpaqueHead
from contralign.core.label_readings import label_kl, label_scores, read_labels
from contralign.core.reference import reference_delta, reference_kl

VOCAB, HIDDEN = 50, 16
ONE_CHUNK = 10**9
FIVE_ROWS = 8 * VOCAB * 5
SCORES = ["logit", "centred", "logprob"]
TRANSFORMS = [(False, 1.0, None), (True, 1.0, None), (True, 0.3, None), (True, 1.0, 5.0), (False, 0.7, 9.0)]


def example(tokens=23, dtype=torch.float64, bias=True, seed=0):
    rng = torch.Generator().manual_seed(seed)
    rows, rows_without = torch.randn(2, tokens, HIDDEN, generator=rng, dtype=torch.float64).to(dtype)
    # Words with a mean of their own, so that centring has something to take away.
    weight = (2 * torch.randn(VOCAB, HIDDEN, generator=rng, dtype=torch.float64) + 0.7).to(dtype)
    shift = torch.randn(VOCAB, generator=rng, dtype=torch.float64).to(dtype) if bias else None
    return rows, rows_without, weight, shift, torch.randint(VOCAB, (tokens,), generator=rng)


def all_logits(rows, weight, bias, scale=1.0, cap=None):
    logits = scale * F.linear(rows, weight, bias)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def heads(weight, bias, scale=1.0, cap=None):
    """The same head as its matrix, as a function, and as a matrix that is only there while it is called."""
    linear = LinearHead(weight=weight, bias=bias, scale=scale, cap=cap)
    return {
        "linear": linear,
        "opaque": OpaqueHead(linear.logits, VOCAB),
        "whole": OpaqueHead(linear.logits, VOCAB, whole=True),
        "gathered": GatheredHead(lambda rows, function: function(linear, rows), VOCAB),
    }


@pytest.mark.parametrize("kind", ["linear", "opaque", "whole", "gathered"])
@pytest.mark.parametrize(("bias", "scale", "cap"), TRANSFORMS)
@pytest.mark.parametrize("chunk", [ONE_CHUNK, FIVE_ROWS])
def test_delta_of_every_score_is_the_references(kind, bias, scale, cap, chunk):
    rows, rows_without, weight, shift, labels = example(bias=bias)
    head = heads(weight, shift, scale, cap)[kind]
    seen = read_labels(rows, labels, head, SCORES, chunk)
    unseen = read_labels(rows_without, labels, head, SCORES, chunk)
    logits = [all_logits(each, weight, shift, scale, cap).unsqueeze(0) for each in (rows, rows_without)]
    deltas = {}
    for score in SCORES:
        wanted = torch.tensor(reference_delta(*logits, labels.unsqueeze(0), score)[0], dtype=torch.float64)
        deltas[score] = seen[score] - unseen[score]
        torch.testing.assert_close(deltas[score], wanted, rtol=0, atol=1e-11)
    assert (deltas["logit"] - deltas["centred"]).abs().max() > 0.1
    assert (deltas["logprob"] - deltas["centred"]).abs().max() > 0.1


def test_centring_a_plain_matrix_makes_no_logits(monkeypatch):
    rows, _, weight, shift, labels = example()
    monkeypatch.setattr(LinearHead, "logits", lambda *_: pytest.fail("all logits were made"))
    read_labels(rows, labels, LinearHead(weight=weight, bias=shift, scale=0.5), ["logit", "centred"])


def test_the_mean_of_soft_capped_logits_is_not_taken_from_the_mean_word():
    rows, _, weight, _, _ = example()
    with pytest.raises(ValueError, match=r"cap=3\.0: the mean of soft-capped logits"):
        LinearHead(weight=weight, cap=3.0).mean_logits(rows)


@pytest.mark.parametrize("kind", ["linear", "opaque"])
def test_centred_scores_of_bfloat16_are_near_those_of_float64(kind):
    rows, _, weight, shift, labels = example(tokens=300, dtype=torch.bfloat16)
    exact = all_logits(rows.double(), weight.double(), shift.double())
    exact = exact.gather(-1, labels.unsqueeze(-1)).squeeze(-1) - exact.mean(-1)
    found = read_labels(rows, labels, heads(weight, shift)[kind], ["centred"])["centred"]
    assert found.dtype == torch.float32
    # A bfloat16 logit of up to 32 is off by 0.0625 at most; the dot product in float32 is not rounded so.
    assert (found - exact).abs().max() < (1e-4 if kind == "linear" else 0.2)


@pytest.mark.parametrize("chunk", [ONE_CHUNK, FIVE_ROWS])
def test_log_probabilities_and_the_most_likely_word_are_those_of_all_logits(chunk):
    rows, _, weight, shift, labels = example()
    logits = all_logits(rows, weight, shift, 0.5, 6.0)
    labels[:3] = logits[:3].argmax(-1)
    head = LinearHead(weight=weight, bias=shift, scale=0.5, cap=6.0)
    found, correct = label_scores(rows, labels, head, chunk)
    torch.testing.assert_close(found, logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1))
    assert torch.equal(correct, logits.argmax(-1) == labels) and correct.any() and not correct.all()


@pytest.mark.parametrize("kind", ["linear", "opaque", "whole", "gathered"])
@pytest.mark.parametrize(("bias", "scale", "cap"), TRANSFORMS)
@pytest.mark.parametrize("chunk", [ONE_CHUNK, 2 * FIVE_ROWS])
def test_kl_is_the_references(kind, bias, scale, cap, chunk):
    rows, rows_without, weight, shift, _ = example(bias=bias)
    found = label_kl(rows, rows_without, heads(weight, shift, scale, cap)[kind], chunk)
    logits = [all_logits(each, weight, shift, scale, cap).unsqueeze(0) for each in (rows, rows_without)]
    wanted = torch.tensor(reference_kl(*logits)[0], dtype=torch.float64)
    assert wanted.std() > 0.5
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-11)


def test_kl_of_one_look_with_itself_is_0_and_is_not_symmetric():
    rows, rows_without, weight, shift, _ = example()
    head = LinearHead(weight=weight, bias=shift)
    assert label_kl(rows, rows, head).abs().max() < 1e-12
    assert (label_kl(rows, rows_without, head) - label_kl(rows_without, rows, head)).abs().max() > 0.1


def test_a_word_that_both_looks_rule_out_counts_nothing_in_kl():
    rows, rows_without, weight, shift, _ = example()
    ruled_out = shift.clone()
    ruled_out[7] = -torch.inf
    found = label_kl(rows, rows_without, LinearHead(weight=weight, bias=ruled_out))
    kept = torch.arange(VOCAB) != 7
    wanted = label_kl(rows, rows_without, LinearHead(weight=weight[kept], bias=shift[kept]))
    torch.testing.assert_close(found, wanted)


def test_no_label_and_no_score_are_read_without_complaint():
    rows, rows_without, weight, shift, labels = example(tokens=0)
    for head in heads(weight, shift).values():
        assert all(read.shape == (0,) for read in read_labels(rows, labels, head, SCORES).values())
        assert label_kl(rows, rows_without, head).shape == (0,)
        assert read_labels(rows, labels, head, []) == {}


def test_all_logits_never_stand_in_memory_at_once():
    rows, rows_without, weight, shift, labels = example()
    sizes = []

    def logits(some):
        sizes.append(some.shape[0])
        return all_logits(some, weight, shift)

    head = OpaqueHead(logits, VOCAB)
    read_labels(rows, labels, head, ["centred", "logprob"], FIVE_ROWS)
    assert max(sizes) == 5 and sum(sizes) == 23, "both scores of one chunk come from one matrix"
    sizes.clear()
    label_kl(rows, rows_without, head, FIVE_ROWS)
    assert max(sizes) == 2, "two looks share the room"


def test_nothing_that_is_read_carries_a_gradient():
    rows, rows_without, weight, shift, labels = example()
    weight.requires_grad_()
    for kind, head in heads(weight, shift).items():
        found = read_labels(rows.requires_grad_(), labels, head, SCORES)
        assert not any(value.requires_grad for value in found.values()), kind
        assert not label_kl(rows, rows_without, head).requires_grad
