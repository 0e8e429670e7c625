"""Weights that learn are float32, whatever the model's dtype.

AdamW at the rates of instruction tuning (2e-5) changes a weight by less than the spacing of bfloat16 numbers (1/256 to
1/128 of their size): the sum is rounded back to what it was, and most weights never move (spec 5).
"""

from typing import TypeVar

import torch
from torch import nn

AnyModel = TypeVar("AnyModel", bound=nn.Module)


def learn_in_float32(model: AnyModel) -> AnyModel:
    """The model with its learning weights in float32; frozen ones stay in their dtype.

    With `trainer.bf16` the Trainer computes in bfloat16 all the same, and DeepSpeed makes masters of its own.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.float()
    return model
