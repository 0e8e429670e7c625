import pytest
from worlds.small_ablations import planned_cells, write_ablation

from contralign.ablation.ablation_file import load_ablation
from contralign.ablation.cells import expand
from contralign.recipe.recipe_file import ABLATION_KEY, PACKAGED, parse
from contralign.recipe.schema import RecipeError


def cells(folder, *overrides, **changes):
    return expand(load_ablation(write_ablation(folder, **changes), overrides), folder)


def test_cells_are_points_times_arms_times_seeds_seed_by_seed(tmp_path):
    assert [cell.name for cell in cells(tmp_path)] == [
        "noise=0 arm=mle seed=0",
        "noise=0 arm=cal seed=0",
        "noise=0.5 arm=mle seed=0",
        "noise=0.5 arm=cal seed=0",
        "noise=0 arm=mle seed=1",
        "noise=0 arm=cal seed=1",
        "noise=0.5 arm=mle seed=1",
        "noise=0.5 arm=cal seed=1",
    ]


def test_a_cell_has_the_recipe_of_its_point_and_seed(tmp_path):
    by_name = {cell.name: cell for cell in cells(tmp_path, "cal.beta=4", changes={"stages.it": {"steps": 9}})}
    cell = by_name["noise=0.5 arm=cal seed=1"]
    assert cell.recipe.seed == 1
    assert cell.plan.stages["last"].data.swap_noise == 0.5
    assert cell.plan.stages["it"].data.swap_noise == 0
    assert (cell.recipe.stages["it"].steps, cell.recipe.stages["it"].batch_size) == (9, 4)
    assert (cell.cal.alpha, cell.cal.beta) == (0, 4)
    assert by_name["noise=0 arm=mle seed=1"].cal is None


def test_values_may_change_several_places(tmp_path):
    stage = {"values": {"last": {}, "it": {"stages.it.cal": True, "stages": {"last": {"cal": False}}}}}
    found = {cell.point["stage"]: cell.recipe.stages for cell in cells(tmp_path, grid={"stage": stage})}
    assert {name: (stages["it"].cal, stages["last"].cal) for name, stages in found.items()} == {
        "last": (False, True),
        "it": (True, False),
    }


def test_without_arms_those_of_the_recipe_run(tmp_path):
    assert {cell.cal.alpha for cell in cells(tmp_path, arms={}) if cell.arm == "cal"} == {1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "gone.yaml"}, "recipe: .*gone.yaml does not exist"),
        ({"grid": {"a": {"key": "cal.alpah", "values": [1]}}}, r"cal.alpah: unknown setting.*\(grid: a=1\)"),
        ({"grid": {"a": {"key": "stages.lats.cal", "values": [True]}}}, "no such stage; did you mean 'last'"),
        ({"changes": {"evaluate": None, "data.eval": []}}, "look.right: the recipe has no evaluation 'look'"),
        ({"arms": {}, "reference": "mel"}, "reference.arm: no such arm; did you mean 'mle'"),
    ],
)
def test_what_no_cell_can_follow_is_refused(changes, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        cells(tmp_path, **changes)


PACKAGED_ABLATIONS = [
    path for path in sorted(PACKAGED.glob("*/*.yaml")) if ABLATION_KEY in parse(path.read_text(), path.name)
]


@pytest.mark.parametrize("path", PACKAGED_ABLATIONS, ids=lambda path: path.stem)
def test_every_ablation_of_contralign_can_be_followed(path):
    found = expand(load_ablation(path), path.parent)
    assert len({cell.name for cell in found}) == len(found) > 1


def test_a_key_of_the_command_line_reaches_every_cell(tmp_path):
    assert {one.cell.recipe.stages["it"].steps for one in planned_cells(tmp_path, "stages.it.steps=5")} == {5}
