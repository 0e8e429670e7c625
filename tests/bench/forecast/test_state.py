"""Bytes a GPU holds, against torch's own tensors and the arithmetic of docs/cluster.md."""

import pytest
import torch
from torch import nn

from contralign.bench.forecast.state import WeightCounts


def test_one_device_holds_what_a_step_of_adamw_leaves_in_memory():
    """In float32: weights, those that are frozen too, gradients and both moments, as torch has them."""
    model = nn.Sequential(nn.Linear(64, 96, bias=False), nn.Linear(96, 32, bias=False))
    model[0].requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    model(torch.randn(2, 64)).sum().backward()
    optimizer.step()
    moments = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    bytes_held = sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *gradients, *moments])
    assert WeightCounts(learning=96 * 32, frozen=64 * 96, bf16=False).bytes_per_gpu("single", gpus=1) == bytes_held


@pytest.mark.parametrize(("dtype", "frozen"), [("float32", 4), ("bfloat16", 2)])
def test_what_is_frozen_stays_in_its_dtype_where_deepspeed_does_not_make_it_bfloat16(dtype, frozen):
    weights = WeightCounts(learning=10, frozen=1000, dtype=dtype)
    assert (
        weights.bytes_per_gpu("single", gpus=1) == weights.bytes_per_gpu("ddp", gpus=8) == 10 * (16 + 2) + 1000 * frozen
    )
    assert weights.bytes_per_gpu("zero2", gpus=5) == 2 * 1010 + 14 * 10 / 5
    assert weights.bytes_per_gpu("zero3", gpus=5) == (2 * 1010 + 14 * 10) / 5


def test_quantised_layers_take_few_bits_and_the_rest_of_the_frozen_weights_do_not():
    weights = WeightCounts(learning=0, frozen=100, quantized=90, quantization="int8", dtype="bfloat16")
    assert weights.bytes_per_gpu("ddp", gpus=2) == 90 + 2 * 10
