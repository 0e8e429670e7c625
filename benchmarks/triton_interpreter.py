"""What triton's interpreter lacks to run the kernels of Liger and cut-cross-entropy on a CPU.

They take log1p and tanh from CUDA's libdevice, of which the interpreter has none, and Liger casts a scalar argument,
which the interpreter leaves a Python float. The stand-ins below do the same, and the kernels run as they are.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def log1p(a):
    """log(1 + a)."""
    return tl.log(1.0 + a)


@triton.jit
def tanh(a):
    """Hyperbolic tangent."""
    return 2 * tl.sigmoid(2 * a) - 1


class Scalar(float):
    """A float argument of a kernel that can be cast."""

    def to(self, dtype: tl.dtype) -> float:
        """Itself: the interpreter computes with Python's floats."""
        return float(self)


class Libdevice:
    """Stands where the kernels look for `triton.language.extra.libdevice`."""

    log1p = staticmethod(lambda a: log1p(a))
    tanh = staticmethod(lambda a: tanh(a))


def prepare_cut_cross_entropy() -> None:
    """Puts the stand-ins into its kernels."""
    import cut_cross_entropy.tl_utils as kernels

    kernels.tl_libdevice = Libdevice


def prepare_liger() -> None:
    """Puts the stand-in into its kernel."""
    import liger_kernel.ops.cross_entropy as kernel

    kernel.tanh = tanh
