"""What the kernels of this machine, or those that the environment asks for, can do."""

import functools

import pytest
import torch


@functools.cache
def _bfloat16_attention_runs() -> bool:
    """False with ATEN_CPU_CAPABILITY=default on a processor with AMX: torch's fused attention asks for AVX-512 then."""
    states = torch.ones(1, 2, 512, 32, dtype=torch.bfloat16)
    try:
        torch.nn.functional.scaled_dot_product_attention(states, states, states)
    except RuntimeError:
        return False
    return True


needs_bfloat16_attention = pytest.mark.skipif(
    not _bfloat16_attention_runs(), reason="torch's fused attention in bfloat16 does not run with these kernels"
)
