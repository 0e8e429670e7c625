"""Peak memory of a step, as the allocator saw it, and whether a shape has any chance to fit."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity

from contralign.bench.shapes import Shape
from contralign.bench.tracing import gc_paused, quiet_profile


class OutOfMemory(ValueError):
    """A shape that does not fit; the message says how much it wanted and what to lower."""


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """Peak of one step in bytes.

    Attributes:
        parameters: parameters and buffers, which are there before the step.
        step: the most that the step added to them: activations, temporaries and the gradients, which it allocates.
    """

    parameters: int
    step: int

    @property
    def total(self) -> int:
        """Both."""
        return self.parameters + self.step


def peak_memory(model: torch.nn.Module, step: Callable[[], object]) -> PeakMemory:
    """Run a step and take the peak of what it allocates.

    On CUDA this is the caching allocator's own peak. On CPU every allocation and release of the step is recorded,
    those of temporaries inside an operation too, and summed over time; work space that a library takes past torch's
    allocator is not seen.

    Args:
        model: whose parameters and buffers stand before the step; its gradients must be None.
        step: forward and backward; what it returns is dropped.

    Raises:
        RuntimeError: this build of torch records no memory events.
    """
    parameters = stored_bytes(chain(model.parameters(), model.buffers()))
    if any(parameter.is_cuda for parameter in model.parameters()):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with gc_paused():
            step()
        torch.cuda.synchronize()
        return PeakMemory(parameters=parameters, step=torch.cuda.max_memory_allocated() - before)
    return PeakMemory(parameters=parameters, step=_recorded_peak(step))


def stored_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind tensors, a shared one counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _recorded_peak(step: Callable[[], object]) -> int:
    with gc_paused(), quiet_profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        step()
    events: list[Any] = [event for event in trace.profiler.kineto_results.events() if event.name() == "[memory]"]
    if not events:
        raise RuntimeError(
            f"torch {torch.__version__} recorded no memory events: peak memory on CPU needs a build with Kineto; "
            "--no-memory leaves the measurement out"
        )
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def least_bytes(shape: Shape) -> int:
    """A lower bound of a plain step's peak: parameters, their gradients, float32 logits and their gradient."""
    width = {"float32": 4, "bfloat16": 2}[shape.dtype]
    layer = 4 * shape.hidden**2 + 3 * shape.hidden * shape.intermediate
    parameters = shape.layers * layer + 2 * shape.vocabulary * shape.hidden
    logits = shape.batch * shape.row_tokens * shape.vocabulary
    return 2 * width * parameters + 2 * 4 * logits


def check_memory(shape: Shape, device: str) -> None:
    """Stop before a machine without the memory starts to swap or kills the process.

    Raises:
        OutOfMemory: the lower bound is more than there is.
    """
    least, there = least_bytes(shape), installed_bytes(device)
    if least > there:
        raise OutOfMemory(
            f"plain MLE alone needs more than {least / 1e9:.1f} GB ({shape.describe()}), and {device} has "
            f"{there / 1e9:.1f} GB: lower --batch, --image-tokens, --vocabulary, --layers or --hidden"
        )


def installed_bytes(device: str) -> int:
    """Memory of the device."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def named_out_of_memory(mode: str, shape: Shape) -> Iterator[None]:
    """Turn an allocator's failure inside the block into an error that says which mode and shape it was.

    Raises:
        OutOfMemory: in its place.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(
            f"{mode} ran out of memory ({shape.describe()}): lower --batch or --image-tokens, add --checkpointing, or "
            "leave this mode out with --modes"
        ) from error
