import json

import pytest
from worlds.tiny_worlds import blind_pair, coloured, coloured_samples, seeing_pair

from contralign.data.records.messages import Sample, Turn
from contralign.data.records.swap_noise import swap_images
from contralign.evaluation.evaluation_set import EvaluationSet
from contralign.evaluation.grounding import grounding

SAMPLES = coloured_samples(18)


@pytest.fixture(scope="module")
def seeing():
    return seeing_pair(SAMPLES)


@pytest.fixture(scope="module")
def blind():
    return blind_pair(SAMPLES)


def test_a_seeing_model_minds_the_wrong_picture(seeing):
    found = grounding(*seeing, EvaluationSet(samples=SAMPLES))
    assert found["samples"] == 18
    assert found["accuracy"]["visual"]["right"]["value"] == 1
    assert found["accuracy"]["visual"]["wrong"]["value"] == 0
    assert found["accuracy"]["visual"]["right"]["n"] == 18
    visual = found["nll"]["visual"]
    assert visual["right"]["value"] < 0.1 < 1 < visual["none"]["value"] < visual["wrong"]["value"]
    assert visual["wrong_minus_right"]["low"] > 1


def test_a_seeing_models_delta_finds_visual_tokens_and_wrong_pictures(seeing):
    found = grounding(*seeing, EvaluationSet(samples=SAMPLES))["auc"]
    assert found["visual_vs_filler"]["logprob"]["value"] > 0.95
    assert found["visual_vs_filler"]["logprob_weight"]["value"] > 0.75
    assert found["right_vs_wrong_picture"]["logprob"]["value"] == 1


def test_a_blind_model_has_one_loss_and_a_delta_of_chance(blind):
    found = grounding(*blind, EvaluationSet(samples=SAMPLES))
    for kind in ("all", "visual", "filler"):
        losses = found["nll"][kind]
        assert losses["right"]["value"] == pytest.approx(losses["wrong"]["value"], abs=1e-6)
        assert losses["right"]["value"] == pytest.approx(losses["none"]["value"], abs=1e-5)
    for score in ("logit", "logprob"):
        assert found["auc"]["visual_vs_filler"][f"{score}_weight"]["value"] == 0.5
        assert found["auc"]["right_vs_wrong_picture"][score]["value"] == pytest.approx(0.5, abs=1e-6)


def test_contradicted_words_score_below_visual_ones(seeing):
    liars = [coloured(f"l{number}", "red", number, told="blue") for number in range(3)]
    found = grounding(*seeing, EvaluationSet(samples=[*SAMPLES, *liars]))
    area = found["auc"]["visual_vs_contradictory"]["logprob"]
    assert (area["value"], area["positives"], area["negatives"]) == (1.0, 18, 3)
    assert found["accuracy"]["contradictory"]["right"]["value"] == 0


def test_swapped_training_captions_are_told_from_kept_ones(seeing):
    train, swapped = swap_images(SAMPLES, 0.4, seed=0)
    found = grounding(*seeing, EvaluationSet(samples=SAMPLES, train=train, swapped_ids=swapped))
    area = found["auc"]["right_vs_swapped_training"]["logprob"]
    assert (area["value"], area["positives"], area["negatives"]) == (1.0, 18 - len(swapped), len(swapped))
    limited = grounding(*seeing, EvaluationSet(samples=SAMPLES, train=train, swapped_ids=swapped), swapped_limit=4)
    assert limited["auc"]["right_vs_swapped_training"]["logit"]["negatives"] == 4


def test_what_the_data_does_not_have_is_none_with_a_count_of_zero(seeing):
    found = grounding(*seeing, EvaluationSet(samples=SAMPLES))
    assert found["accuracy"]["contradictory"]["right"] == {"value": None, "low": None, "high": None, "n": 0}
    assert found["auc"]["visual_vs_contradictory"]["logit"]["value"] is None
    assert found["auc"]["right_vs_swapped_training"]["logit"] == {
        "value": None,
        "low": None,
        "high": None,
        "positives": 0,
        "negatives": 0,
    }


@pytest.mark.bit_exact
def test_every_number_is_json_and_repeatable(seeing):
    data = EvaluationSet(samples=SAMPLES, seed=5)
    assert json.loads(json.dumps(grounding(*seeing, data, limit=9), allow_nan=False))["samples"] == 9
    assert grounding(*seeing, data, limit=9) == grounding(*seeing, data, limit=9)


def test_refuses_text_and_swaps_of_another_training_set(seeing):
    text = Sample("t", (Turn("user", "a"), Turn("assistant", "b")))
    with pytest.raises(ValueError, match="'t' has no picture"):
        grounding(*seeing, EvaluationSet(samples=[*SAMPLES, text]))
    with pytest.raises(ValueError, match="such as 'elsewhere'"):
        grounding(*seeing, EvaluationSet(samples=SAMPLES, train=SAMPLES, swapped_ids=frozenset({"elsewhere"})))
