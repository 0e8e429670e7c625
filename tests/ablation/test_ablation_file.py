import pytest
from worlds.small_ablations import write_ablation

from contralign.ablation.ablation_file import dump_ablation, load_ablation
from contralign.recipe.recipe_file import load_recipe
from contralign.recipe.schema import RecipeError


def test_a_file_is_named_by_its_file(tmp_path):
    assert load_ablation(write_ablation(tmp_path)).name == "noise"


def test_changes_on_the_command_line_go_to_the_ablation_or_the_recipe(tmp_path):
    changed = load_ablation(write_ablation(tmp_path), ["seeds=[3]", "stages.it.steps=7", "grid.noise.values=[0.2]"])
    assert changed.seeds == (3,)
    assert list(changed.grid["noise"].changes) == ["0.2"]
    assert changed.overrides == ("stages.it.steps=7",)


def test_what_is_written_down_reads_back(tmp_path):
    ablation = load_ablation(write_ablation(tmp_path), ["cal.beta=4"])
    (tmp_path / "again.yaml").write_text(dump_ablation(ablation))
    assert load_ablation(tmp_path / "again.yaml") == ablation


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=3", r"seed=3 has no effect: set seeds=\[0, 1\]"),
        ("output_dir=x", "give --output"),
        ("stages.last.data.swap_noise=0.3", "has no effect: grid.noise sets stages.last.data.swap_noise to 0"),
        ("seeds", "wanted key=value"),
    ],
)
def test_a_change_without_effect_is_refused(override, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        load_ablation(write_ablation(tmp_path), [override])


def test_a_recipe_is_no_ablation_and_an_ablation_no_recipe(tmp_path):
    path = write_ablation(tmp_path)
    with pytest.raises(RecipeError, match=r"an ablation .* no recipe: contralign ablate .*noise.yaml"):
        load_recipe(path)
    with pytest.raises(RecipeError, match=r"a recipe, .* no ablation: contralign train .*world.yaml"):
        load_ablation(tmp_path / "world.yaml")


def test_unknown_settings_are_named_with_the_file(tmp_path):
    path = write_ablation(tmp_path, metrcs=[])
    with pytest.raises(RecipeError, match=r"noise.yaml: metrcs: unknown setting; did you mean 'metrics'"):
        load_ablation(path)
