"""Whether a forward gathers parameters from other ranks, and so must be run by all of them."""

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
        "none": not at all, as under DDP and ZeRO-1 and -2. "layers": FSDP gathers whole layers when they are called.
        "modules": DeepSpeed ZeRO-3 gathers every small module when it is called; so does FSDP where it was told to wrap
        parts of layers.
    """
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        return "modules"
    if any(map(_is_unit, model.modules())):
        layers = [layer for module in model.modules() if isinstance(module, nn.ModuleList) for layer in module]
        inside = [part for layer in layers for part in layer.modules() if part is not layer]
        return "modules" if any(map(_is_unit, inside)) else "layers"
    return "layers" if any(isinstance(parameter, DTensor) for parameter in model.parameters()) else "none"


def _is_unit(module: nn.Module) -> bool:
    return isinstance(module, FSDPModule | FullyShardedDataParallel)


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


def ranks_agree(here: bool, device: torch.device) -> bool:
    """True where it is so on every rank or on none; every rank has to ask."""
    return any_rank(here, device) != any_rank(not here, device)
