from __future__ import annotations

from contralign.bench.plan.gpus import GPUS


def test_a_gather_inside_a_node_uses_its_links():
    assert GPUS["a100"].gather_bandwidth(8) == GPUS["a100"].link_bandwidth


def test_a_gather_over_nodes_is_as_slow_as_the_slower_link():
    assert GPUS["a100"].gather_bandwidth(16) == GPUS["a100"].node_bandwidth < GPUS["a100"].link_bandwidth


def test_an_h200_is_an_h100_with_more_memory():
    h100, h200 = GPUS["h100"], GPUS["h200"]
    assert h200.peak_flops == h100.peak_flops
    assert h200.memory_bandwidth > h100.memory_bandwidth and h200.memory_gib > h100.memory_gib
