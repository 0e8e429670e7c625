"""When two computations of the same thing are the same.

Weights are files and compared bit by bit. What is computed from them depends on the kernels of the processor, on the
shape of the batch and on where tensors lie, so it is compared in float64 where it can be.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

ROOM = {torch.float64: 1e-7, torch.bfloat16: 2.0**-6}
"""Of the norm. Products in float64 differ by 1e-15, but RMSNorm, rotary and softmax of transformers pass through
float32 (6e-8) whatever the weights are; bfloat16 rounds to 2**-8 after every layer. For float32 there is none on
purpose: one model turns its roundings into 1e-6 of the logits, another (Gemma 4) into 1e-4."""


def assert_near(found: Tensor, wanted: Tensor, room: float | None = None) -> None:
    """Equal but for what kernels may do: `room` of the norm apart, by default that of float64 or bfloat16."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    room = ROOM[wanted.dtype] if room is None else room
    found, wanted = found.detach().double(), wanted.detach().double()
    apart, norm = float((found - wanted).norm()), max(float(wanted.norm()), 1e-6)  # what is 0 by symmetry is 1e-16
    assert apart <= room * norm, f"{apart} apart, wanted {room:.1e} of {norm}"


def in_float64(inputs: dict[str, Any]) -> dict[str, Any]:
    """A batch whose floating tensors are float64."""
    return {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in inputs.items()
    }


def twin(model: Any) -> Any:
    """A copy that computes in float64; from equal weights it computes equal logits, up to `ROOM`."""
    return copy.deepcopy(model).double()


def assert_same_weights(one: Any, other: Any) -> None:
    """The same names with the same tensors, bit by bit."""
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


@torch.no_grad()
def assert_says_the_same(one: Any, other: Any, batch: dict[str, Any], again: dict[str, Any] | None = None) -> None:
    """Two models of equal weights and equal logits.

    Args:
        one: a model.
        other: what should be the same model, after it was saved and loaded for instance.
        batch: that `one` reads.
        again: that `other` reads; the same one if not given.
    """
    assert_same_weights(one, other)
    said = [twin(model)(**in_float64(inputs)).logits for model, inputs in ((one, batch), (other, again or batch))]
    assert_near(*said)
