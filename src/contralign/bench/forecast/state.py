"""Bytes of weights, gradients and optimizer state on a GPU, by who keeps them in which precision (docs/cluster.md).

DeepSpeed (the files zero2 and zero3) makes all weights bfloat16 under `trainer.bf16` and keeps float32 masters of those
that learn. FSDP2 shares out float32 weights, gradients and moments. Elsewhere what learns is float32 whatever
`model.dtype` says, and autocast keeps a bfloat16 copy of it; what is frozen stays in `model.dtype`, or in 4 or 8 bits.
"""

from dataclasses import dataclass
from typing import Literal

Engine = Literal["single", "ddp", "zero2", "zero3", "fsdp2"]

BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "nf4": 0.53}
"""A weight's; nf4 with its scales, which are quantised too."""
MOMENTS = 8


@dataclass(frozen=True, kw_only=True)
class WeightCounts:
    """What a stage holds.

    Attributes:
        learning: number of weights that learn.
        frozen: number of the others.
        quantized: how many of the frozen ones are in few bits.
        dtype: `model.dtype`.
        quantization: `model.quantization`.
        bf16: `trainer.bf16`.
    """

    learning: int
    frozen: int
    quantized: int = 0
    dtype: str = "float32"
    quantization: str = "none"
    bf16: bool = True

    def bytes_per_gpu(self, engine: Engine, gpus: int) -> float:
        """Bytes on each of so many GPUs.

        Args:
            engine: who shares out what; "single" and "ddp" share nothing.
            gpus: how many.
        """
        if engine in ("single", "ddp"):
            return self._unsharded_bytes()
        if engine == "fsdp2":
            return ((2 * BYTES["float32"] + MOMENTS) * self.learning + BYTES[self.dtype] * self.frozen) / gpus
        weight = BYTES["bfloat16" if self.bf16 else "float32"]
        masters = BYTES["float32"] if self.bf16 else 0.0
        everywhere = weight * (self.learning + self.frozen)
        shared = (weight + masters + MOMENTS) * self.learning  # gradients, masters, moments
        return everywhere + shared / gpus if engine == "zero2" else (everywhere + shared) / gpus

    def _unsharded_bytes(self) -> float:
        copies = BYTES["bfloat16"] if self.bf16 else 0.0
        learning = (2 * BYTES["float32"] + MOMENTS + copies) * self.learning
        few_bits = BYTES[self.quantization] * self.quantized if self.quantized else 0.0
        return learning + BYTES[self.dtype] * (self.frozen - self.quantized) + few_bits
