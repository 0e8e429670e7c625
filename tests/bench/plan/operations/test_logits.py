from __future__ import annotations

import pytest

from contralign.bench.plan.operations.counting import Counting
from contralign.bench.plan.operations.logits import contrast_head_work, head_work, loss_memory
from contralign.bench.plan.shapes import Decoder, Sample

DECODER = Decoder(hidden=64, layers=1, heads=1, kv_heads=1, intermediate=8, vocab=1000)
SAMPLE = Sample(image=80, text=20, labels=10)


def test_a_fused_head_costs_the_label_rows_alone():
    plain = head_work(DECODER, SAMPLE, "mle", Counting())
    fused = head_work(DECODER, SAMPLE, "mle_fused", Counting())
    assert plain.flops == 3 * 2 * 64 * 1000 * 100
    assert fused.flops / plain.flops == SAMPLE.labels / SAMPLE.all
    assert fused.bytes < plain.bytes / 10


def test_a_label_logit_is_one_dot_product_and_a_log_probability_a_row_of_logits():
    logit = contrast_head_work(DECODER, SAMPLE, "cal", Counting(score="logit"))
    logprob = contrast_head_work(DECODER, SAMPLE, "cal", Counting(score="logprob"))
    assert logprob.flops == 2 * 64 * 1000 * 10
    assert logit.flops * DECODER.vocab == 2 * logprob.flops


@pytest.mark.parametrize("mode", ["mle", "mle_fused", "cal_cached"])
def test_modes_of_one_look_have_no_second_head(mode):
    assert contrast_head_work(DECODER, SAMPLE, mode, Counting()).flops == 0


def test_released_logits_hold_more_than_plain_ones_and_chunks_far_less():
    released, plain, chunk = (loss_memory(DECODER, SAMPLE, mode, rows=2) for mode in ("released", "mle", "cal"))
    assert released > plain > 10 * chunk


def test_a_chunk_does_not_grow_with_the_batch_for_ever():
    small, large, larger = (loss_memory(DECODER, SAMPLE, "cal", rows) for rows in (1, 200, 400))
    assert small < large == larger
