"""What stands between the last hidden state and the logits: a plain matrix, or more than that.

Configurations name soft-capping and scales that some model classes then do not apply, so what the configuration says is
a guess, and logits that go through the model's own head decide.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from contralign.core.head import GatheredHead, LinearHead, upcast
from contralign.models.decoder.recorder import forward_replaced

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


def is_gathered_linear(module: nn.Module | None) -> bool:
    """True for a linear layer and no more, whose matrix FSDP or DeepSpeed gathers whenever it is called."""
    if not isinstance(module, nn.Linear) or type(module).forward is not nn.Linear.forward:
        return False
    return "forward" not in module.__dict__ and (isinstance(module, FSDPModule) or hasattr(module.weight, "ds_id"))


def gathered_head(module: nn.Linear, scale: float = 1.0, cap: float | None = None) -> GatheredHead:
    """The head that a linear layer is while it is called: its hooks gather the matrix, its forward is replaced by ours.

    Args:
        module: see `is_gathered_linear`.
        scale: factor on the logits.
        cap: bound of soft-capping, None for none.
    """

    def within(rows: Tensor, function: Callable[[LinearHead, Tensor], Any]) -> Any:
        def forward(rows: Tensor) -> Any:
            return function(LinearHead(weight=module.weight, bias=module.bias, scale=scale, cap=cap), rows)

        with forward_replaced(module, forward):
            return module(rows)

    return GatheredHead(within, module.out_features)


def logit_transform(module: nn.Linear, logits: Callable[[Tensor], Tensor], config: Any) -> Transform:
    """Which transform the model applies to the logits of its head; rows of known logits go through it.

    Args:
        module: the head.
        logits: the model's own way from hidden states to logits.
        config: of the model; its scales and bounds are tried.

    Returns:
        The transform, or `UNKNOWN` where none that the configuration suggests gives the model's logits.
    """
    with torch.no_grad():
        if is_gathered_linear(module):
            nothing = torch.zeros(1, module.in_features, dtype=module.weight.dtype, device=module.weight.device)
            rows, raw = gathered_head(module).within(nothing, _probe)
        else:
            rows, raw = _probe(LinearHead(weight=module.weight, bias=module.bias))
        wanted = upcast(logits(rows))
    tolerance = _TOLERANCE.get(wanted.dtype if rows.dtype == wanted.dtype else rows.dtype, _HALF_TOLERANCE)
    if wanted.shape != raw.shape:
        return UNKNOWN
    for scale, cap in _candidates(config):
        ours = LinearHead(weight=rows, scale=scale, cap=cap).transformed(raw)
        if bool((ours - wanted).abs().max() <= tolerance * wanted.abs().max().clamp(min=1e-6)):
            return scale, cap
    return UNKNOWN


def _probe(head: LinearHead, _: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Rows whose logits are about 1 and about 30, and those logits before any transform."""
    direction = head.weight[:: max(len(head.weight) // _PROBED, 1)][:_PROBED]
    unit = direction / direction.float().norm(dim=-1, keepdim=True).clamp(min=1e-6).square().to(direction.dtype)
    rows = torch.cat([unit * size for size in _SIZES])
    return rows, upcast(head.logits(rows))


def _candidates(config: Any) -> Iterator[Transform]:
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
