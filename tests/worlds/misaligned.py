"""Loaded weights at odd places in memory, and sums in another order: what another processor does, on this one.

Which of MKL's kernels runs depends on the processor and, on some, on where a tensor lies. Here every load lies
otherwise, and a linear layer adds up its inputs in two parts that are cut elsewhere at every call, so that a test
which holds for one order alone fails on any machine.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import PreTrainedModel

OFFSETS = (1, 3, 5, 7)
"""In elements; for float32 4, 12, 20 and 28 bytes past the 64 that torch allocates at."""
PARTS = 8
_linear = torch.nn.functional.linear


def _plain(tensor: Tensor) -> bool:
    """A quantized or sharded weight holds more than its values."""
    return type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu" and tensor.numel() > 0


def misalign(model: torch.nn.Module, offset: int) -> None:
    """Move every tensor of ``model`` to ``offset`` elements after an aligned place; values, names and ties stay."""
    for tensor in filter(_plain, itertools.chain(model.parameters(), model.buffers())):
        moved = torch.empty(tensor.numel() + offset, dtype=tensor.dtype)[offset:].view(tensor.shape)
        tensor.data = moved.copy_(tensor.detach())


class _TwoParts(torch.autograd.Function):
    """A linear layer whose inputs are cut at `cut`. Its graph does not show where: checkpointing computes it again."""

    @staticmethod
    def forward(ctx, input, weight, bias, cut):
        ctx.save_for_backward(input, weight)
        return _linear(input[..., :cut], weight[:, :cut]) + _linear(input[..., cut:], weight[:, cut:], bias)

    @staticmethod
    def backward(ctx, *gradients):
        (gradient,), (input, weight) = gradients, ctx.saved_tensors
        for_input, for_weight, for_bias, _ = ctx.needs_input_grad
        rows, read = (each.flatten(0, -2) if each.dim() > 1 else each.unsqueeze(0) for each in (gradient, input))
        return (
            gradient @ weight if for_input else None,
            rows.T @ read if for_weight else None,
            rows.sum(dim=0) if for_bias else None,
            None,
        )


@contextmanager
def misaligned_loads(offsets: tuple[int, ...] = OFFSETS) -> Iterator[None]:
    """Within it, what ``from_pretrained`` loads is misaligned, by each of ``offsets`` in turn."""
    from_pretrained, turns = PreTrainedModel.from_pretrained.__func__, itertools.cycle(offsets)

    @wraps(from_pretrained)
    def loaded(cls, *args, **kwargs):
        made = from_pretrained(cls, *args, **kwargs)
        misalign(made[0] if isinstance(made, tuple) else made, next(turns))
        return made

    with patch.object(PreTrainedModel, "from_pretrained", classmethod(loaded)):
        yield


@contextmanager
def reordered_sums() -> Iterator[None]:
    """Within it, two calls of a linear layer in float32 or float64 round differently, as two kernels do."""
    draw = random.Random(0)

    def in_two_parts(input, weight, bias=None):
        alike = input.dtype == weight.dtype in (torch.float32, torch.float64)
        if not (alike and _plain(weight) and weight.shape[-1] >= PARTS) or torch.is_autocast_enabled("cpu"):
            return _linear(input, weight, bias)
        return _TwoParts.apply(input, weight, bias, draw.randrange(1, PARTS) * weight.shape[-1] // PARTS)

    with patch.object(torch.nn.functional, "linear", in_two_parts):
        yield
