from __future__ import annotations

import pytest

from contralign.bench.plan.operations.counting import Counting, check_mode


@pytest.mark.parametrize(
    "wrong", [{"recompute": "some"}, {"attention": "half"}, {"last_layer": "mlp"}, {"score": "p"}, {"hidden_keys": "x"}]
)
def test_a_choice_that_does_not_exist_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Counting(**wrong)


def test_an_empty_micro_batch_is_refused():
    with pytest.raises(ValueError, match="rows=0"):
        Counting(rows=0)


def test_a_mode_is_checked_against_all_five():
    assert check_mode("released") == "released"
    with pytest.raises(ValueError, match="mle, mle_fused, cal, cal_cached, released"):
        check_mode("CAL")
