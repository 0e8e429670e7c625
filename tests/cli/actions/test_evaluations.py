"""Which evaluations a recipe may name, and what they are given."""

import json
import sys

import pytest
from worlds.small_recipes import small_plan, write_records

from contralign.analysis.gallery import read_gallery
from contralign.cli.actions import evaluations
from contralign.cli.actions.evaluations import bind_evaluations
from contralign.data.records.mixture import load_samples
from contralign.evaluation.registry import EVALUATIONS
from contralign.recipe.schema import RecipeError
from contralign.run.build import load_model, load_processor
from contralign.run.records import make_collator
from contralign.run.start_model import save_tiny
from contralign.run.steps import TrainedArm


@pytest.fixture
def recipe_with(tmp_path):
    """A small recipe with an `evaluate` section."""

    def build(evaluate):
        held_out = {"eval": [str(write_records(tmp_path, 4, "eval.json"))]}
        return small_plan(tmp_path, data=held_out, evaluate=evaluate).recipe

    return build


@pytest.fixture
def arm(recipe_with, tmp_path):
    """An untrained arm."""
    recipe = recipe_with({"answers": None})
    samples = load_samples(list(recipe.data.train), str(tmp_path))
    save_tiny(recipe.model, samples, 0, tmp_path / "tiny")
    return TrainedArm(
        name="cal",
        model=load_model(str(tmp_path / "tiny"), recipe.model).eval(),
        collate=make_collator(load_processor(str(tmp_path / "tiny")), recipe.data),
        held_out=load_samples(list(recipe.data.eval), str(tmp_path)),
        train=samples,
        swapped_ids=frozenset({"r1", "r2"}),
        seed=7,
    )


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"grouding": None}, "evaluate.grouding: unknown evaluation; did you mean 'grounding'?"),
        ({"answers": {"limits": 1}}, "evaluate.answers.limits: unknown setting; did you mean 'limit'?"),
        ({"answers": {"model": 1}}, "evaluate.answers.model: unknown setting"),
        ({"gallery": {"folder": "x"}}, "evaluate.gallery.folder: unknown setting"),
        ({"delta": {"contrast": ["drop"]}}, "evaluate.delta.contrast: unknown setting; did you mean 'contrasts'?"),
        ({"gallery": {"samples": "all"}}, "evaluate.gallery.samples: wanted a whole number, got 'all'"),
    ],
)
def test_what_no_evaluation_has_is_refused(evaluate, message, recipe_with):
    with pytest.raises(RecipeError) as refused:
        bind_evaluations(recipe_with(evaluate))
    assert message in str(refused.value)


def test_an_evaluation_gets_the_arm_s_data_and_the_recipe_s_settings(recipe_with, arm, tmp_path, monkeypatch):
    got = {}

    def spy(model, collator, data, *, limit: int | None = None):
        got.update(model=model, collator=collator, data=data, limit=limit)
        return {"n": 1}

    monkeypatch.setattr(sys.modules[__name__], "spy", spy, raising=False)
    monkeypatch.setitem(EVALUATIONS.built_in, "spy", f"{__name__}:spy")
    assert bind_evaluations(recipe_with({"spy": {"limit": 3}}))["spy"](arm, tmp_path) == {"n": 1}
    assert (got["model"], got["collator"], got["limit"]) == (arm.model, arm.collate, 3)
    data = got["data"]
    assert (data.samples, data.train) == (arm.held_out.samples, arm.train.samples)
    assert (data.swapped_ids, data.seed) == ({"r1", "r2"}, 7)


def test_the_gallery_lies_where_the_report_looks_for_it(recipe_with, arm, tmp_path):
    folder = tmp_path / "evaluations"
    folder.mkdir()
    shown = bind_evaluations(recipe_with({"gallery": {"samples": 2, "max_new_tokens": 2}}))["gallery"](arm, folder)
    assert json.dumps(shown) == "{}"
    gallery_samples = read_gallery(folder / evaluations.GALLERY_FILE)
    assert len(gallery_samples) == 2
    assert {exhibit.caption.id for exhibit in gallery_samples} <= {sample.id for sample in arm.held_out}


def test_second_looks_of_an_arm_are_compared_as_the_recipe_lists_them(recipe_with, arm, tmp_path):
    looks = ["drop", "mean:2", "blur:10"]
    found = bind_evaluations(recipe_with({"delta": {"contrasts": looks}}))["delta"](arm, tmp_path)
    assert list(found["auc"]) == looks
