"""Settings of models and stages: what may stand together, and how a global batch is shared."""

import pytest

from contralign.recipe.model_settings import ModelSettings
from contralign.recipe.planning import plan_of
from contralign.recipe.recipe import Recipe
from contralign.recipe.schema import RecipeError, from_mapping
from contralign.recipe.stage_settings import Stage

PARTS = {"family": "llava", "language_model": "words", "vision_tower": "sight"}


def stage(**settings):
    return Stage(train=("projector",), steps=1, learning_rate=1e-3, **settings)


@pytest.mark.parametrize("world", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_a_global_batch_is_the_same_on_any_number_of_devices(world, batch_size):
    settings = stage(batch_size=batch_size, global_batch=256)
    assert settings.accumulation(world) * world * batch_size == 256


def test_without_a_global_batch_accumulation_is_what_was_written():
    assert stage(batch_size=4, grad_accumulation=3).accumulation(5) == 3


def test_devices_that_cannot_share_are_refused_with_what_fits():
    with pytest.raises(ValueError, match=r"cannot be shared by 3 devices: take 1, 2 or 4 of them$"):
        stage(batch_size=4, global_batch=16).accumulation(3)


def test_a_smaller_batch_that_fits_is_named():
    with pytest.raises(ValueError, match=r"take 1, 2 or 4 of them, or batch_size 1 or 2 on 8$"):
        stage(batch_size=4, global_batch=16).accumulation(8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 3, "global_batch": 16}, r"wanted a multiple of batch_size \(3\)"),
        ({"batch_size": 4, "global_batch": 0}, "wanted a multiple of batch_size"),
        ({"batch_size": 4, "global_batch": 16, "grad_accumulation": 4}, "grad_accumulation=4 has no effect"),
    ],
)
def test_a_global_batch_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        stage(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "path=None and family=None: give one of them"),
        ({"path": "tiny", "family": "llava"}, "give one of them"),
        ({"path": "x", "vision_tower": "sight"}, "vision_tower has no effect with path='x'"),
        ({"path": "x", "projector": "p", "shape": "tiny"}, "projector and shape has no effect"),
        ({"family": "llava", "vision_tower": "sight"}, "language_model is missing"),
        ({**PARTS, "aux_tower": "more"}, "aux_tower='more' has no effect: llava has one tower"),
        ({**PARTS, "family": "mini_gemini"}, "looks through two towers: give aux_tower"),
        ({**PARTS, "shape": "tiny", "projector": "p"}, "projector has no effect with shape: tiny"),
        ({**PARTS, "tokenizer_stages": ("it",)}, "tokenizer_stages has no effect with family='llava' of words"),
        ({**PARTS, "tiny": {"hidden": 8}}, "tiny has no effect"),
    ],
)
def test_settings_of_a_model_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "is_made", "learns_tokenizer"),
    [
        ({"path": "tiny"}, True, True),
        ({"path": "elsewhere"}, False, False),
        (PARTS, True, False),
        ({**PARTS, "shape": "tiny"}, True, True),
    ],
)
def test_which_start_models_are_made(settings, is_made, learns_tokenizer):
    model = ModelSettings(**settings)
    assert (model.is_made, model.learns_tokenizer) == (is_made, learns_tokenizer)


def test_a_part_learns_by_itself_in_the_tiny_llava_alone():
    values = {
        "name": "mixed",
        "model": PARTS,
        "data": {"train": "scenes:train"},
        "stages": {"text": {"kind": "text", "steps": 1, "learning_rate": 1e-3, "batch_size": 2}},
    }
    with pytest.raises(RecipeError, match="family='llava' of words has learnt it already"):
        plan_of(from_mapping(Recipe, values))
