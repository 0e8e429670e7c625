"""Around a measured step."""

import gc
import weakref

import pytest
import torch

from contralign.bench.tracing import gc_frozen, gc_paused, quiet_profile


def test_garbage_is_collected_before_and_not_inside():
    class Cycle:
        pass

    before, inside = Cycle(), Cycle()
    before.self, inside.self = before, inside
    seen_before, seen_inside = weakref.ref(before), weakref.ref(inside)
    del before
    with gc_paused():
        assert seen_before() is None
        assert not gc.isenabled()
        del inside
        assert seen_inside() is not None
    assert gc.isenabled()


def test_collection_is_switched_on_again_after_an_error():
    with pytest.raises(ZeroDivisionError), gc_paused():
        1 / 0  # noqa: B018
    assert gc.isenabled()


def test_what_is_set_aside_comes_back():
    with gc_frozen():
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_the_profiler_keeps_quiet(capfd):
    with quiet_profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
        torch.ones(3).sum()
    assert any(event.name == "aten::sum" for event in trace.events())
    assert capfd.readouterr().err == ""
