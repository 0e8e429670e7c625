import pytest
from worlds.small_ablations import VALUES

from contralign.ablation.settings import Ablation, label_of
from contralign.recipe.schema import RecipeError, from_mapping


def ablation(**changes):
    return from_mapping(Ablation, {"name": "noise", **VALUES, **changes})


def axis(**values):
    return {"grid": {"noise": values}}


def test_points_are_the_product_of_the_axes():
    grid = {
        "noise": {"key": "data.swap_noise", "values": [0, 0.1]},
        "stage": {"values": {"IT": {}, "PT": {"stages.pt.cal": True}}},
    }
    points = list(ablation(grid=grid).points())
    assert points == [
        {"noise": "0", "stage": "IT"},
        {"noise": "0", "stage": "PT"},
        {"noise": "0.1", "stage": "IT"},
        {"noise": "0.1", "stage": "PT"},
    ]


def test_without_axes_there_is_one_point():
    assert list(ablation(grid={}).points()) == [{}]


def test_values_of_a_key_may_have_names_of_their_own():
    found = ablation(**axis(key="cal.alpha", values={"low": 0, "high": 1})).grid["noise"].changes
    assert found == {"low": {"cal.alpha": 0}, "high": {"cal.alpha": 1}}


@pytest.mark.parametrize(
    ("value", "label"), [(0, "0"), (0.1, "0.1"), (True, "true"), ([1, 5], "[1, 5]"), ("IT", "IT"), (None, "null")]
)
def test_labels_are_the_values_as_they_are_written(value, label):
    assert label_of(value) == label


def test_a_reference_is_an_arm_or_a_value_or_several():
    assert ablation().references == [{"arm": "mle"}]
    assert ablation(reference={"noise": 0.5}).references == [{"noise": "0.5"}]
    assert ablation(reference=["mle", {"arm": "cal", "noise": 0}]).references == [
        {"arm": "mle"},
        {"arm": "cal", "noise": "0"},
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, r"seeds=\[\]: wanted one or more"),
        ({"seeds": [1, 1]}, "each once"),
        ({"metrics": []}, "metrics: empty"),
        ({"metrics": [VALUES["metrics"][0]] * 2}, "a path stands twice"),
        ({"metrics": [{"path": "a.b", "better": "more"}]}, r"metrics\[0\].better: got 'more'"),
        ({"metrics": [{"path": "a..b", "better": "lower"}]}, "names between dots"),
        ({"reference": "mel"}, "reference.arm: 'mel' is none of its values; did you mean 'mle'"),
        ({"reference": {"noise": 0.3}}, "reference.noise: '0.3' is none of its values"),
        ({"reference": {"nois": 0.3}}, "reference.nois: no such axis; did you mean 'noise'"),
        ({"reference": {}}, "wanted the name of an arm"),
        ({"gridd": {}}, "gridd: unknown setting; did you mean 'grid'"),
        (axis(values=[0, 1]), "a list needs key:"),
        (axis(key="a", values=[]), "with one at least"),
        (axis(key="a", values=[0, "0"]), "not different"),
        (axis(values={"IT": True}), "values.IT: wanted changes of the recipe"),
        ({"grid": {"seed": {"key": "a", "values": [1]}}}, "grid.seed: results have a column of this name"),
        ({"name": "a/b"}, "becomes a folder"),
    ],
)
def test_a_mistake_is_named(changes, message):
    with pytest.raises(RecipeError, match=message):
        ablation(**changes)
