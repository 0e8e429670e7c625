"""The recipes of the small real VLM say what the prototype found to work."""

import pytest

from contralign.recipe.planning import plan_of
from contralign.recipe.recipe_file import find_recipe, load_recipe


@pytest.mark.parametrize("name", ["smol/base", "smol/quick"])
def test_the_projector_learns_before_and_beside_the_adapters_and_no_tower_learns(name):
    recipe = load_recipe(find_recipe(name))
    assert recipe.model.cache_features
    assert recipe.model.lora is not None
    assert recipe.model.lora.target_modules == "all-linear"
    text, pt, it = recipe.stages.values()
    assert text.train == ("language_model",)
    assert not plan_of(recipe).stages["text"].data.pictures
    assert pt.train == ("projector",)
    assert set(it.train) == {"projector", "language_model"}
    assert it.projector_learning_rate == 2 * it.learning_rate
    assert [stage.cal for stage in (text, pt, it)] == [False, False, True]
    assert set(recipe.arms) == {"mle", "cal"}


def test_the_quick_recipe_costs_a_fraction():
    base, quick = (load_recipe(find_recipe(f"smol/{name}")) for name in ("base", "quick"))

    def rows(recipe):
        return sum(stage.steps * stage.batch_size for stage in recipe.stages.values())

    assert rows(quick) < rows(base) / 3
