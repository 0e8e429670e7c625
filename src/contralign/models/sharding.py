"""Whether a forward gathers parameters from other ranks, and so must be run by all of them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor

Sharding = Literal["none", "layers", "modules"]


def sharding_of(model: nn.Module) -> Sharding:
    """How the parameters of a model are sharded, as of now.

    Returns:
        "none": not at all, as under DDP. "layers": FSDP gathers whole layers when they are called. "modules":
        DeepSpeed ZeRO-3 gathers every small module when it is called.
    """
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        return "modules"
    if any(isinstance(module, FSDPModule | FullyShardedDataParallel) for module in model.modules()):
        return "layers"
    return "layers" if any(isinstance(parameter, DTensor) for parameter in model.parameters()) else "none"


def runs_on_many_ranks() -> bool:
    """True in a process of several that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def any_rank(here: bool, device: torch.device) -> bool:
    """True where it is so on this rank or another; every rank has to ask."""
    if not runs_on_many_ranks():
        return here
    flag = torch.tensor(float(here), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)
