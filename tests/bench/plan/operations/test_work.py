from __future__ import annotations

from contralign.bench.plan.operations.work import SampleCost, Work


def test_work_adds_and_scales_both_counts():
    assert Work(1, 10) + Work(2, 20) * 3 == Work(7, 70)


def test_a_total_holds_every_part_once():
    parts = [Work(10.0**digit, 2 * 10.0**digit) for digit in range(8)]
    cost = SampleCost(
        vision_forward=parts[0],
        vision_backward=parts[1],
        decoder_forward=parts[2],
        decoder_recompute=parts[3],
        decoder_backward=parts[4],
        head=parts[5],
        contrast_decoder=parts[6],
        contrast_head=parts[7],
    )
    assert cost.total == Work(11_111_111, 22_222_222)
    assert cost.forward + cost.backward + cost.contrast == cost.total
