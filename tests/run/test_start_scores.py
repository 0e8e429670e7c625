"""`scores: start`: a run scores its records itself, and trains as from a file."""

from __future__ import annotations

import json

import pytest
from worlds.small_recipes import STAGE, small_plan, write_records

from contralign.run.run import run_plan
from contralign.training.config import CalConfig
from contralign.training.trainer import CALTrainer


def trained_weights(monkeypatch, recipe):
    """Mean weights that each arm logs, and whether a second look was taken while it trained."""
    looks = []
    original = CALTrainer.compute_loss

    def compute_loss(self, *args, **named):
        looks.append(self.cal_config.scores)
        return original(self, *args, **named)

    monkeypatch.setattr(CALTrainer, "compute_loss", compute_loss)
    directory = run_plan(recipe, {}, overwrite=True)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return lines, looks


def test_the_first_step_has_the_weights_of_the_live_one(tmp_path, monkeypatch):
    arms = {"live": {}, "scored": {"scores": "start"}, "before": {"weighting": "prior", "scores": "start"}}
    recipe = small_plan(tmp_path, arms={**arms, "mle": None})
    lines, looks = trained_weights(monkeypatch, recipe)
    first = {line["arm"]: line for line in lines if line["step"] == 1 and "weight_mean" in line}
    assert first["scored"]["delta_q95"] == pytest.approx(first["live"]["delta_q95"], abs=1e-5)
    assert first["scored"]["weight_mean"] == pytest.approx(first["live"]["weight_mean"], abs=1e-5)
    assert first["before"]["weight_mean"] != pytest.approx(first["live"]["weight_mean"], abs=1e-3)
    assert {str(path).rpartition("/")[2] for path in looks} == {"None", "scores.parquet"}


@pytest.mark.bit_exact
def test_the_reference_of_rho1_is_the_model_that_the_stage_starts_from(tmp_path, monkeypatch):
    stages = {"talk": {**STAGE}, "it": {**STAGE, "cal": True}}
    recipe = small_plan(tmp_path, stages=stages, arms={"rho1": {"weighting": "rho1", "scores": "start"}, "mle": None})
    lines, _ = trained_weights(monkeypatch, recipe)
    weights = [line["weight_mean"] for line in lines if line["arm"] == "rho1" and "weight_mean" in line]
    # By the same kernels no token is behind the model it starts from: all are equally far.
    assert weights[0] == pytest.approx(1.0)
    assert 0.6 <= weights[1] < 1.0


def test_swapped_pictures_are_scored_as_they_are_trained_on(tmp_path):
    write_records(tmp_path)
    recipe = small_plan(tmp_path, arms={"cal": {"scores": "start"}}, data={"swap_noise": 0.5})
    run_plan(recipe, {})  # a file without the swaps would be refused by its pictures' digests


def test_outside_of_a_recipe_there_is_no_start(tmp_path):
    from contralign.training.scores import with_cached_scores

    with pytest.raises(ValueError, match="is for recipes"):
        with_cached_scores(CalConfig(scores="start"), None, None)  # type: ignore[arg-type]
