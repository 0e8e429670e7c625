"""What `accelerate launch` was told, and whether the recipe says the same: what contradicts it ends a run.

Configuration files are in recipes/accelerate/. Precision, clipping and accumulation are the recipe's to say.
"""

import os
from collections.abc import Sequence
from typing import Any

from accelerate.utils import DistributedType
from transformers import TrainingArguments

from contralign.recipe.model_settings import ModelSettings, Part
from contralign.recipe.schema import RecipeError


def check_engine(args: TrainingArguments) -> None:
    """Refuse a launch under which some setting, of the launch or of the recipe, would not be what is done.

    Args:
        args: of a stage; in a process that was launched.

    Raises:
        RecipeError: with what to change.
    """
    _check_ranks(args)
    _check_precision(args)
    _check_sharding(args)
    if args.deepspeed_plugin is not None:
        _check_deepspeed(args, args.deepspeed_plugin.deepspeed_config)


def check_parts(args: TrainingArguments, model: ModelSettings, train: Sequence[Part], saves: bool) -> None:
    """Refuse a model that the engine cannot train, or cannot keep, as the recipe has it.

    Args:
        args: of a stage.
        model: of the recipe.
        train: the parts that learn in the stage.
        saves: checkpoints are written.

    Raises:
        RecipeError: with what to change.
    """
    shards = _shards(args)
    if model.quantization != "none" and (shards or args.deepspeed_plugin is not None):
        raise RecipeError(
            f"model.quantization={model.quantization} is for whole models on every process, and was never tried under "
            "FSDP and DeepSpeed: use recipes/accelerate/ddp.yaml"
        )
    if shards and saves and model.lora is not None and "image_newline" in train:
        raise RecipeError(
            "image_newline would be lost: FSDP's checkpoints hold adapters and copied modules alone. Leave it out of "
            "train, set trainer.save_steps=null, or take another engine"
        )


def _check_ranks(args: TrainingArguments) -> None:
    started = int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1
    if started != args.world_size:
        raise RecipeError(
            f"{started} processes were started and each would train alone ({args.distributed_state}): this engine "
            "needs accelerators; without them use recipes/accelerate/ddp.yaml"
        )


def _check_precision(args: TrainingArguments) -> None:
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    recipes = "bf16" if args.bf16 else "fp16" if args.fp16 else "no"
    if launched not in ("no", recipes):
        raise RecipeError(
            f"accelerate was launched with mixed_precision={launched}, and the recipe computes in "
            f"{'full precision' if recipes == 'no' else recipes}: say it once, with trainer.{launched}=true"
        )


def _check_sharding(args: TrainingArguments) -> None:
    kind = args.distributed_state.distributed_type if args.distributed_state else DistributedType.NO
    if _shards(args) and kind == DistributedType.MULTI_CPU:
        raise RecipeError(
            "accelerate shards with FSDP between accelerators only, and would train with DDP here without a word: use "
            "recipes/accelerate/ddp.yaml"
        )


def _shards(args: TrainingArguments) -> bool:
    """FSDP by the recipe, or by the launch; accelerate sets the same variable for the first."""
    return bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def _check_deepspeed(args: TrainingArguments, config: dict[str, Any]) -> None:
    if args.max_grad_norm and "gradient_clipping" not in config:
        raise RecipeError(
            f"max_grad_norm={args.max_grad_norm} has no effect: DeepSpeed clips by its own gradient_clipping, which "
            'its configuration leaves out; add "gradient_clipping": "auto", or set max_grad_norm: 0'
        )
    zero = config.get("zero_optimization", {})
    if zero.get("stage") == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise RecipeError(
            "ZeRO-3 cannot save a whole model at the end of a stage: set zero3_save_16bit_model (of accelerate) or "
            "stage3_gather_16bit_weights_on_model_save (of DeepSpeed) to true"
        )
