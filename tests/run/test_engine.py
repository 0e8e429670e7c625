"""A launch that contradicts the recipe, or would do something else than it says, ends before anything is loaded."""

import pytest
from accelerate.utils import DistributedType
from worlds.small_recipes import small_plan

from contralign.recipe.schema import RecipeError
from contralign.run.arguments import training_arguments
from contralign.run.engine import check_engine


def arguments(folder, **changes):
    recipe = small_plan(folder, **changes)
    return training_arguments(recipe, recipe.stages["it"], folder / "checkpoints")


def test_a_process_that_was_not_launched_is_fine(tmp_path):
    arguments(tmp_path)


def test_another_precision_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert arguments(tmp_path, trainer={"bf16": True}).mixed_precision == "bf16"
    with pytest.raises(RecipeError, match=r"mixed_precision=bf16, .* full precision: .* trainer.bf16=true"):
        arguments(tmp_path)


def test_processes_that_would_each_train_alone_are_refused(tmp_path):
    args = arguments(tmp_path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RecipeError, match="4 processes were started and each"):
        patch.setenv("WORLD_SIZE", "4")
        patch.setenv("LOCAL_RANK", "0")
        check_engine(args)


def test_fsdp_that_would_be_ddp_is_refused(tmp_path, monkeypatch):
    args = arguments(tmp_path, trainer={"fsdp": True})
    monkeypatch.setattr(args.distributed_state, "distributed_type", DistributedType.MULTI_CPU)
    with pytest.raises(RecipeError, match="would train with DDP here without a word"):
        check_engine(args)


class Plugin:
    """As much of accelerate's DeepSpeed plugin as is looked at."""

    def __init__(self, config):
        self.deepspeed_config = config


def with_deepspeed(folder, config, **changes):
    args = arguments(folder, **changes)
    args.deepspeed_plugin = Plugin(config)
    check_engine(args)


def test_deepspeed_that_would_not_clip_is_refused_where_the_recipe_clips(tmp_path):
    config = {"zero_optimization": {"stage": 2}}
    with pytest.raises(RecipeError, match=r"max_grad_norm=1.0 has no effect: DeepSpeed clips by its own"):
        with_deepspeed(tmp_path, config)
    with_deepspeed(tmp_path, config, stages={"it": {"max_grad_norm": 0}})
    with_deepspeed(tmp_path, config | {"gradient_clipping": "auto"})


def test_zero3_that_cannot_save_a_stage_is_refused_at_its_start(tmp_path):
    config = {"zero_optimization": {"stage": 3}, "gradient_clipping": "auto"}
    with pytest.raises(RecipeError, match="set zero3_save_16bit_model"):
        with_deepspeed(tmp_path, config)
    config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True
    with_deepspeed(tmp_path, config)


def test_a_quantised_model_is_not_sharded(tmp_path):
    quantised = {"path": str(tmp_path), "tiny": None, "lora": {}, "quantization": "nf4"}
    with pytest.raises(RecipeError, match=r"model.quantization=nf4 .* use recipes/accelerate/ddp.yaml"):
        arguments(tmp_path, model=quantised, trainer={"fsdp": True})


def test_checkpoints_of_fsdp_would_lose_the_newline_beside_adapters(tmp_path):
    changes = {
        "model": {"path": str(tmp_path), "tiny": None, "lora": {}},
        "stages": {"it": {"train": ["language_model", "image_newline"]}},
    }
    arguments(tmp_path, **changes, trainer={"fsdp": True})
    with pytest.raises(RecipeError, match="image_newline would be lost"):
        arguments(tmp_path, **changes, trainer={"fsdp": True, "save_steps": 5})
