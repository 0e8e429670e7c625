"""Today's families: both passes are what the model's own forward says, with pictures, videos, several, and none."""

import pytest
from own_forward import measured
from small_families import FAMILIES, built

RECURRENT = ("Qwen3.5", "LFM2-VL")


@pytest.mark.parametrize("name", FAMILIES)
def test_drop_and_mask_are_what_the_models_own_forward_says(name):
    family = FAMILIES[name]
    if name == "Llama 4":
        pytest.skip("refused")
    found = measured(family, built(family))
    assert found.spread > 0.3, "Δ that does not vary would hide a wrong one"
    assert found.own < 1e-6
    assert found.removed < 1e-4
    if name in RECURRENT:
        assert found.masked is None and found.apart > 1
    else:
        assert found.masked < 1e-4 and found.apart < 1e-4
