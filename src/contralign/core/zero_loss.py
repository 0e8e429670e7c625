"""A loss on which nothing that learns has an influence, with a graph all the same: its gradient is 0.

Where only the projector learns, that is a micro-batch of text alone. The rest of the step, and the other ranks, which
wait for this one's gradient, are not to notice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from contralign.core.sharding import sharding_of


def connected_loss(loss: Tensor, model: nn.Module) -> Tensor:
    """The loss, tied to all that learns in `model` with a factor of 0 where it has no graph.

    Nothing is tied where no gradient is taken, and where ranks hold parts of the parameters: there every rank encodes a
    picture anyway.
    """
    if loss.requires_grad or not torch.is_grad_enabled() or sharding_of(model) != "none":
        return loss
    learning = [parameter.reshape(-1)[:1].sum() for parameter in model.parameters() if parameter.requires_grad]
    return loss + 0 * torch.stack([value.to(loss) for value in learning]).sum() if learning else loss


def keep_loss_connected(model: nn.Module) -> None:
    """Let the `loss` that the model's own forward gives be `live`, inside of it, where DDP sees what it is tied to."""
    model.register_forward_hook(_connect_output_loss)


def _connect_output_loss(model: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, dict) and isinstance(output.get("loss"), Tensor):
        output["loss"] = connected_loss(output["loss"], model)
    return output
