"""A loss without a graph gets one whose gradient is 0, so that `backward` works and DDP's other ranks do not wait.

Where only the projector is trained, no trainable parameter takes part in a micro-batch of text alone.
"""

from typing import Any

import torch
from torch import Tensor, nn

from contralign.core.sharding import sharding_of


def connected_loss(loss: Tensor, model: nn.Module) -> Tensor:
    """The loss; without a graph it is connected to every trainable parameter of `model` by a factor of 0.

    It stays as it is under `no_grad`, and where parameters are sharded: there every rank encodes an image anyway.
    """
    if loss.requires_grad or not torch.is_grad_enabled() or sharding_of(model) != "none":
        return loss
    trainable = [parameter.reshape(-1)[:1].sum() for parameter in model.parameters() if parameter.requires_grad]
    return loss + 0 * torch.stack([value.to(loss) for value in trainable]).sum() if trainable else loss


def keep_loss_connected(model: nn.Module) -> None:
    """Connect the `loss` that the model's own forward returns, by a hook inside DDP, which then sees the graph."""
    model.register_forward_hook(_connect_output_loss)


def _connect_output_loss(model: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, dict) and isinstance(output.get("loss"), Tensor):
        output["loss"] = connected_loss(output["loss"], model)
    return output
