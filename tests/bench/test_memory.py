"""Peak memory: equal to what can be computed by hand."""

import pytest
import torch

from contralign.bench.memory import (
    OutOfMemory,
    check_memory,
    installed_bytes,
    least_bytes,
    named_out_of_memory,
    peak_memory,
    stored_bytes,
)
from contralign.bench.shapes import named_shape

KB = 4 * 256
NOTHING = torch.nn.Linear(1, 1, bias=False)


def test_temporaries_and_releases_are_summed_over_time():
    x = torch.ones(256, 1000)  # stands before the step: not counted

    def step():
        y = x * 2  # 1000
        z = y + 1  # 2000
        del y  # 1000
        w = torch.cat([z, z])  # 3000, the peak
        del w
        return z + 1  # 2000

    peak = peak_memory(NOTHING, step)
    assert peak.parameters == 4
    assert peak.step == 3000 * KB
    assert peak.total == peak.parameters + peak.step


def test_gradients_count_as_part_of_the_step():
    model = torch.nn.Linear(1000, 256, bias=False)
    x = torch.ones(1, 1000)

    def step():
        model(x).sum().backward()

    peak = peak_memory(model, step)
    assert peak.parameters == 1000 * KB
    # The gradient, and beside it no more than the output and what it becomes.
    assert 1000 * KB <= peak.step <= 1000 * KB + 16 * KB


def test_what_an_operation_takes_inside_itself_is_seen():
    x = torch.ones(256, 500, requires_grad=True)

    def step():
        # The mean over a transposed, non-contiguous input keeps nothing; only a temporary makes the peak.
        return torch.sort(x.detach(), dim=0).values.sum()

    # values and their int64 indices live together
    assert peak_memory(NOTHING, step).step >= 500 * KB + 2 * 500 * KB


def test_earlier_garbage_does_not_lower_the_peak():
    class Cycle:
        pass

    holder = Cycle()
    holder.self, holder.tensor = holder, torch.ones(256, 4000)
    del holder
    x = torch.ones(256, 1000)
    peak = peak_memory(NOTHING, lambda: (x * 2, [Cycle() for _ in range(3000)])).step
    assert 1000 * KB <= peak < 1001 * KB


def test_a_shared_storage_counts_once():
    weight = torch.nn.Parameter(torch.ones(256, 10))
    assert stored_bytes([weight, weight.data, weight.t()]) == 10 * KB


def test_the_lower_bound_counts_weights_gradients_and_logits():
    shape = named_shape("llava15", hidden=32, layers=2, heads=4, intermediate=64, vocabulary=100, image_tokens=4)
    parameters = 2 * (4 * 32 * 32 + 3 * 32 * 64) + 2 * 100 * 32
    assert least_bytes(shape) == 8 * parameters + 8 * 2 * 132 * 100


def test_a_real_step_takes_more_than_the_lower_bound(workload):
    made = workload(vocabulary=2000)
    assert peak_memory(made.model, lambda: made.model(**made.batch).loss.backward()).total > least_bytes(made.shape)


def test_a_shape_beyond_the_machine_is_refused():
    shape = named_shape("llava15", hidden=65536, layers=1000, heads=64)
    with pytest.raises(OutOfMemory, match="and cpu has"):
        check_memory(shape, "cpu")
    check_memory(named_shape("tiny"), "cpu")
    assert installed_bytes("cpu") > 1e8


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_running_out_of_memory_names_mode_and_shape(error):
    message = r"released ran out of memory \(tiny: hidden 128"
    with pytest.raises(OutOfMemory, match=message), named_out_of_memory("released", named_shape("tiny")):
        raise error


def test_the_allocator_s_own_failure_is_recognised():
    with pytest.raises(OutOfMemory, match="mle ran out of memory"), named_out_of_memory("mle", named_shape("tiny")):
        torch.empty(2**55)


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="something else"), named_out_of_memory("mle", named_shape("tiny")):
        raise RuntimeError("something else")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_allocator_s_peak_is_taken():
    model = torch.nn.Linear(1000, 256, bias=False).cuda()
    peak = peak_memory(model, lambda: torch.ones(1000, 1000, device="cuda").sum())
    assert 4_000_000 <= peak.step <= 4_100_000
