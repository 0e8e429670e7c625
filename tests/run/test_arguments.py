"""The Trainer's arguments say what the recipe says."""

import pytest
from accelerate import PartialState
from worlds.small_recipes import small_plan

from contralign.recipe.schema import RecipeError
from contralign.recipe.stage_settings import Stage
from contralign.run.arguments import count_steps, training_arguments, warmup_share


def arguments(folder, **changes):
    recipe = small_plan(folder, **changes)
    return training_arguments(recipe, recipe.stages["it"], folder / "checkpoints")


def test_settings_of_a_stage_arrive(tmp_path):
    stage = {
        "steps": 7,
        "learning_rate": 3e-4,
        "batch_size": 3,
        "grad_accumulation": 5,
        "warmup": 0.03,
        "weight_decay": 0.1,
        "max_grad_norm": 0,
    }
    args = arguments(tmp_path, seed=11, stages={"it": stage})
    assert (args.max_steps, args.learning_rate, args.per_device_train_batch_size) == (7, 3e-4, 3)
    assert (args.gradient_accumulation_steps, args.weight_decay, args.max_grad_norm) == (5, 0.1, 0)
    assert (args.seed, args.data_seed) == (11, 11)
    assert args.get_warmup_steps(100) == 3
    assert args.lr_scheduler_type == "cosine"
    assert args.remove_unused_columns is False
    assert args.report_to == []
    assert args.save_strategy == "no"


def test_warmup_of_one_and_more_is_a_number_of_steps(tmp_path):
    assert arguments(tmp_path, stages={"it": {"warmup": 5}}).get_warmup_steps(100) == 5


def test_epochs_leave_the_number_of_steps_to_the_trainer(tmp_path):
    args = arguments(tmp_path, stages={"it": {"steps": None, "epochs": 2}})
    assert (args.max_steps, args.num_train_epochs) == (-1, 2.0)


def test_other_settings_of_the_trainer_go_before_ours(tmp_path):
    args = arguments(tmp_path, trainer={"logging_steps": 3, "save_steps": 5, "optim": "sgd", "use_cpu": True})
    assert (args.logging_steps, args.save_steps, args.optim, args.save_strategy) == (3, 5, "sgd", "steps")


def test_what_transformers_refuses_is_a_mistake_of_the_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"^trainer: "):
        arguments(tmp_path, trainer={"eval_strategy": "often"}, data={"eval": ["x.json"]})


def text_stage(**settings):
    return Stage(**{"kind": "text", "steps": 40, "learning_rate": 1.0, "batch_size": 8, **settings})


def test_a_text_stage_counts_its_own_steps():
    assert count_steps(text_stage(), 100) == 40
    assert count_steps(text_stage(steps=None, epochs=2.0), 100) == 25


def test_warmup_of_a_text_stage_is_a_share_either_way():
    assert warmup_share(text_stage(warmup=0.1), 40) == 0.1
    assert warmup_share(text_stage(warmup=10.0), 40) == 0.25


def test_accumulation_follows_from_the_global_batch_and_the_processes_there_are(tmp_path):
    stage = {"batch_size": 3, "global_batch": 12}
    assert arguments(tmp_path, stages={"it": stage}).gradient_accumulation_steps == 4


def test_processes_that_cannot_share_a_global_batch_are_refused_with_the_stages_name(tmp_path, monkeypatch):
    monkeypatch.setattr(PartialState(), "num_processes", 5)
    with pytest.raises(RecipeError, match=r"stages\.it: global_batch=12 in batches of 3 cannot be shared by 5 devices"):
        arguments(tmp_path, stages={"it": {"batch_size": 3, "global_batch": 12}})


def test_ranks_do_not_wait_for_a_projector_that_saw_no_picture_with_checkpointing_either(tmp_path):
    assert arguments(tmp_path, trainer={"activation_checkpointing": True}).ddp_find_unused_parameters


def test_grouping_by_length_names_the_setting_that_does_it(tmp_path):
    with pytest.raises(RecipeError, match=r"data\.sampler: modality_length"):
        arguments(tmp_path, trainer={"train_sampling_strategy": "group_by_length"})


@pytest.mark.parametrize(
    ("reporter", "said"),
    [
        ("wandb", r"wandb is not installed: pip install wandb"),
        (["comet_ml"], r"comet_ml is not installed: pip install comet-ml"),
        ("wadnb", r"trainer\.report_to='wadnb': wanted one of none, .*did you mean 'wandb'"),
    ],
)
def test_a_reporter_that_is_not_here_is_refused_before_training(reporter, said, tmp_path, monkeypatch):
    from contralign.run import arguments as module

    monkeypatch.setattr(module, "get_available_reporting_integrations", lambda: ["tensorboard"])
    with pytest.raises(RecipeError, match=said):
        arguments(tmp_path, trainer={"report_to": reporter})
    assert arguments(tmp_path, trainer={"report_to": "tensorboard"}).report_to == ["tensorboard"]
