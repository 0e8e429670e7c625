from __future__ import annotations

import pytest

from contralign.bench.plan.models import MODELS, find_model

PUBLISHED = {
    "llava15-7b": 6.74e9,
    "llava15-13b": 13.02e9,
    "llava-next-8b": 8.03e9,
    "llava-next-34b": 34.39e9,
    "llava-next-72b": 72.29e9,
    "mgm-2b": 2.51e9,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_language_model_has_as_many_weights_as_published(name):
    assert MODELS[name].decoder.parameters == pytest.approx(PUBLISHED[name], rel=0.002)


def test_a_projector_has_the_weights_of_the_specification_but_for_its_biases():
    assert MODELS["llava15-7b"].projector_weights == 20_979_712 - 2 * 4096
    assert MODELS["llava15-13b"].projector_weights == 31_467_520 - 2 * 5120


def test_only_llava_next_trains_its_tower():
    assert {name for name, model in MODELS.items() if model.train_tower} == {
        name for name in MODELS if name.startswith("llava-next")
    }


def test_frozen_and_trained_weights_share_the_tower():
    frozen, trained = MODELS["llava15-7b"], MODELS["llava-next-7b"]
    assert frozen.frozen_parameters == frozen.tower.parameters and trained.frozen_parameters == 0
    assert trained.trained_parameters - frozen.trained_parameters == frozen.tower.parameters


def test_a_misspelt_name_is_answered_with_close_ones():
    with pytest.raises(ValueError, match=r"did you mean llava-next-7b.*mgm-hd-13b"):
        find_model("llava-nxt-7b")
