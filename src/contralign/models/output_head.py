"""What stands between the last hidden state and the logits: a plain matrix, or more than that.

Configurations name soft-capping and scales that some model classes then do not apply, so what the configuration says is
a guess, and logits that go through the model's own head decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from contralign.core.head import LinearHead, accurate

Transform = tuple[float, float | None]
"""Scale, then bound of soft-capping."""

UNKNOWN: Transform = (0.0, None)
"""Neither the identity nor anything the configuration names."""

_PROBED = 4
_SIZES = (1.0, 30.0)
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF_TOLERANCE = 0.03


def is_plain_linear(module: nn.Module | None) -> bool:
    """True for a linear layer whose matrix is there to be read: no LoRA, quantisation, hooks, or shards of it."""
    if type(module) is not nn.Linear or module._forward_hooks or module._forward_pre_hooks:
        return False
    if "forward" in module.__dict__:  # accelerate's offloading, for one
        return False
    return not isinstance(module.weight, DTensor) and module.weight.dim() == 2 and module.weight.numel() > 0


def transform_behind(module: nn.Linear, logits: Callable[[Tensor], Tensor], config: Any) -> Transform:
    """Which transform the model applies to the logits of its head; rows of known logits go through it.

    Args:
        module: the head.
        logits: the model's own way from hidden states to logits.
        config: of the model; its scales and bounds are tried.

    Returns:
        The transform, or `UNKNOWN` where none that the configuration suggests gives the model's logits.
    """
    weight = module.weight.detach()
    with torch.no_grad():
        direction = weight[:: max(len(weight) // _PROBED, 1)][:_PROBED]
        unit = direction / direction.float().norm(dim=-1, keepdim=True).clamp(min=1e-6).square().to(direction.dtype)
        rows = torch.cat([unit * size for size in _SIZES])  # logits of about 1 and of about 30
        wanted = accurate(logits(rows))
        raw = accurate(nn.functional.linear(rows, weight, module.bias))
    tolerance = _TOLERANCE.get(wanted.dtype if weight.dtype == wanted.dtype else weight.dtype, _HALF_TOLERANCE)
    if wanted.shape != raw.shape:
        return UNKNOWN
    for scale, cap in _suggested(config):
        ours = LinearHead(weight=weight, scale=scale, cap=cap).transformed(raw)
        if bool((ours - wanted).abs().max() <= tolerance * wanted.abs().max().clamp(min=1e-6)):
            return scale, cap
    return UNKNOWN


def _suggested(config: Any) -> Iterator[Transform]:
    scales: list[float] = [1.0]
    caps: list[float | None] = [None]
    for part in (config, config.get_text_config()):
        for name in ("logit_scale", "logits_scaling", "lm_head_multiplier"):
            value = getattr(part, name, None)
            if isinstance(value, int | float) and value > 0:
                scales += [float(value), 1.0 / float(value)]
        value = getattr(part, "final_logit_softcapping", None)
        if isinstance(value, int | float) and value > 0:
            caps.append(float(value))
    yield from product(dict.fromkeys(scales), dict.fromkeys(caps))
