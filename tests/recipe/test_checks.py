"""What goes with streamed records and what is refused by name."""

import pytest
from worlds.small_ablations import planned_cells
from worlds.small_recipes import STAGE, small_plan
from worlds.small_streams import write_jsonl

from contralign.recipe.data_settings import DataSettings
from contralign.recipe.schema import RecipeError, from_mapping
from contralign.run.arguments import training_arguments


def streaming(folder, stage=None, **changes):
    path = write_jsonl(folder / "a.jsonl", range(10))
    data = {"train": [str(path)], "streaming": True, **changes.pop("data", {})}
    return small_plan(folder, data=data, stages={"it": {**STAGE, "cal": True, **(stage or {})}}, **changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shuffle_buffer": 10}, "shuffle_buffer=10 has no effect without streaming"),
        ({"count": 10}, "count=10 has no effect without streaming"),
        ({"streaming": True, "shuffle_buffer": 0}, "shuffle_buffer=0: wanted 1 or more"),
        ({"streaming": True, "count": 0}, "count=0: wanted 1 or more"),
        ({"streaming": True, "sampler": "modality_length"}, "sampler='modality_length' needs all lengths"),
        ({"streaming": True, "swap_noise": 0.5}, r"swap_noise=0\.5 pairs records of the whole set"),
        ({"streaming": True, "train": ("scenes:train",)}, "scenes:train is a built-in set"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(DataSettings, {"train": ("a.jsonl",), **settings})


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ({"steps": None, "epochs": 1}, {}, r"stages\.it\.epochs=1\.0: a stream has no length"),
        ({}, {"data": {"count": 10}}, r"data\.count=10 has no effect: every streaming stage has steps"),
        ({}, {"trainer": {"dataloader_drop_last": True}}, r"trainer\.dataloader_drop_last has no effect: a stream"),
        ({}, {"cal": {"scores": "start"}}, r"arms\.cal\.scores: 'start' scores all records before the first step"),
        ({}, {"model": {"path": "some/model", "tiny": None, "cache_features": True}}, "cache_features: not with"),
        ({"kind": "text", "train": [], "cal": False}, {"cal": None, "arms": None}, r"'text' reads all records at once"),
    ],
)
def test_a_recipe_that_cannot_stream_says_why(tmp_path, stage, changes, message):
    with pytest.raises(RecipeError, match=message):
        streaming(tmp_path, stage, **changes)


def test_a_stage_that_takes_no_batches_of_records_has_no_order_of_its_own(tmp_path):
    stages = {"text": {**STAGE, "kind": "text", "train": [], "data": {"sampler": "modality_length"}}}
    with pytest.raises(RecipeError, match=r"stages\.text\.data\.sampler has no effect with kind='text'"):
        small_plan(tmp_path, stages={**stages, "it": {**STAGE, "cal": True}})


def test_epochs_of_a_stream_are_counted_by_what_is_known_of_its_length(tmp_path):
    recipe = streaming(
        tmp_path, {"steps": None, "epochs": 2.0, "batch_size": 4, "grad_accumulation": 3}, data={"count": 100}
    )
    arguments = training_arguments(recipe, recipe.stages["it"], tmp_path / "checkpoints")
    assert arguments.max_steps == 17


def test_epochs_of_a_stream_are_counted_in_global_batches_too(tmp_path):
    stage = {"steps": None, "epochs": 2.0, "batch_size": 2, "global_batch": 8}
    recipe = streaming(tmp_path, stage, data={"count": 32})
    arguments = training_arguments(recipe, recipe.stages["it"], tmp_path / "checkpoints")
    assert (arguments.gradient_accumulation_steps, arguments.max_steps) == (4, 8)


def test_a_stage_may_stream_where_another_reads_whole(tmp_path):
    path = str(write_jsonl(tmp_path / "a.jsonl", range(4)))
    stages = {"pt": {**STAGE, "data": {"train": [path], "streaming": True}}, "it": {**STAGE, "cal": True}}
    recipe = small_plan(tmp_path, stages=stages)
    assert [recipe.stages[name].data.streaming for name in ("pt", "it")] == [True, False]


def test_an_ablation_does_not_stream(tmp_path):
    path = str(write_jsonl(tmp_path / "a.jsonl", range(4)))
    with pytest.raises(RecipeError, match=r"data\.streaming is not for ablations"):
        planned_cells(tmp_path, changes={"stages": {"it": {"data": {"train": [path], "streaming": True}}}})
