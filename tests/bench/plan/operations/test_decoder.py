from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from contralign.bench.plan.operations.counting import Counting
from contralign.bench.plan.operations.decoder import dropped_pass, main_pass, masked_pass
from contralign.bench.plan.shapes import Decoder, Sample

DECODER = Decoder(hidden=32, layers=2, heads=4, kv_heads=2, head_dim=16, intermediate=48, vocab=11)
SAMPLE = Sample(image=20, text=14, labels=6, prefix=4)


class Layer(nn.Module):
    """A decoder layer's products, the last one reading `rows` where it may."""

    def __init__(self):
        super().__init__()
        width, kv_width = DECODER.attention_width, DECODER.attention_width // 2
        self.query, self.output = nn.Linear(32, width, bias=False), nn.Linear(width, 32, bias=False)
        self.key, self.value = nn.Linear(32, kv_width, bias=False), nn.Linear(32, kv_width, bias=False)
        self.gate, self.up = nn.Linear(32, 48, bias=False), nn.Linear(32, 48, bias=False)
        self.down = nn.Linear(48, 32, bias=False)

    def forward(self, hidden: Tensor, last_layer: str = "all", labels: int = 0) -> Tensor:
        asking = hidden[-labels:] if last_layer == "query" else hidden
        query = self.query(asking).view(-1, 4, 16).transpose(0, 1)
        key, value = (
            make(hidden).view(-1, 2, 16).transpose(0, 1).repeat_interleave(2, 0) for make in (self.key, self.value)
        )
        seen = ((query @ key.transpose(1, 2)).softmax(-1) @ value).transpose(0, 1).flatten(1)
        if last_layer != "all":
            hidden, seen = hidden[-labels:], seen[-labels:]
        hidden = hidden + self.output(seen)
        return hidden + self.down(self.gate(hidden).sigmoid() * self.up(hidden))


@pytest.mark.parametrize("last_layer", ["all", "output", "query"])
def test_a_narrow_last_layer_is_counted_as_torch_counts_it(last_layer):
    torch.manual_seed(0)
    first, last = Layer(), Layer()
    hidden = torch.randn(SAMPLE.all, 32, requires_grad=True)
    counting = Counting(attention="full", attention_backward=2, recompute="none", last_layer=last_layer)
    ours = main_pass(DECODER, SAMPLE, counting, narrow=True)
    with FlopCounterMode(display=False) as forward:
        out = last(first(hidden), last_layer, SAMPLE.labels)[-SAMPLE.labels :].sum()
    with FlopCounterMode(display=False) as backward:
        out.backward()
    assert forward.get_total_flops() == ours.forward()
    assert backward.get_total_flops() == ours.backward(counting)


def test_causal_attention_takes_half_the_pairs_and_the_diagonal():
    full = main_pass(DECODER, SAMPLE, Counting(attention="full"), narrow=False).attention
    causal = main_pass(DECODER, SAMPLE, Counting(attention="causal"), narrow=False).attention
    assert causal / full == pytest.approx((SAMPLE.all + 1) / (2 * SAMPLE.all))


def test_queries_of_the_last_rows_see_all_keys_before_them():
    seen = main_pass(DECODER, SAMPLE, Counting(last_layer="query"), narrow=True).attention
    whole = SAMPLE.all * (SAMPLE.all + 1) / 2
    labels = sum(range(SAMPLE.all - SAMPLE.labels + 1, SAMPLE.all + 1))
    assert seen == 4 * DECODER.attention_width * (whole + labels)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_shared_prefix_is_paid_once_a_micro_batch(rows):
    shared = Counting(last_layer="all", rows=rows)
    apart = Counting(last_layer="all", rows=rows, share_prefix=False)
    prefix = Sample(image=0, text=SAMPLE.prefix, labels=1)
    once = main_pass(DECODER, prefix, shared, narrow=False).forward()
    saved = rows * (dropped_pass(DECODER, SAMPLE, apart).forward() - dropped_pass(DECODER, SAMPLE, shared).forward())
    assert saved == pytest.approx((rows - 1) * once)


def test_the_masked_pass_pays_every_product_and_the_attention_its_kernel_does():
    main = main_pass(DECODER, SAMPLE, Counting(), narrow=False)
    skipped = masked_pass(DECODER, SAMPLE, Counting(hidden_keys="skipped"))
    computed = masked_pass(DECODER, SAMPLE, Counting(hidden_keys="computed"))
    assert skipped.linear == computed.linear == main.linear
    assert skipped.attention < computed.attention == main.attention


def test_the_dropped_pass_does_not_know_how_many_image_tokens_there_were():
    more = Sample(image=2000, text=14, labels=6, prefix=4)
    assert dropped_pass(DECODER, SAMPLE, Counting()) == dropped_pass(DECODER, more, Counting())
