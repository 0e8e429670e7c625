"""The Trainer's arguments of one stage, every one that matters set in plain sight."""

import math
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from contralign.nearest import one_of
from contralign.recipe.plan import RunPlan, StagePlan
from contralign.recipe.schema import RecipeError
from contralign.recipe.stage_settings import Stage
from contralign.run.engine import check_engine, check_parts

DEFAULTS: dict[str, Any] = {
    "optim": "adamw_torch",
    "ddp_find_unused_parameters": True,  # a batch of text alone; transformers looks only without checkpointing
    "logging_strategy": "steps",
    "logging_steps": 10,
    "logging_first_step": True,
    "save_total_limit": 2,  # one to go back to where the last is damaged
    "prediction_loss_only": True,
    "report_to": "none",
    "disable_tqdm": True,
}
"""Ours where the Trainer's own default does not suit; a recipe's `trainer` goes before them."""


def training_arguments(plan: RunPlan, stage: StagePlan, folder: Path) -> TrainingArguments:
    """Arguments of a stage, with checkpoints in `folder` where the recipe asks for some (`trainer.save_steps`).

    The seed of every arm is the recipe's, so arms see the same records in the same order.

    Raises:
        RecipeError: transformers refuses a setting, the devices there are cannot share a stage's global batch, or
            accelerate was launched with another setting.
    """
    settings, recipe = stage.settings, plan.recipe
    given = recipe.trainer
    saves = "save_steps" in given or "save_strategy" in given
    chosen = {
        **DEFAULTS,
        "use_cpu": not torch.accelerator.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_strategy": "steps" if saves else "no",
        **given,
    }
    try:
        args = TrainingArguments(
            output_dir=str(folder),
            seed=recipe.seed,
            data_seed=recipe.seed,
            max_steps=-1 if settings.steps is None else settings.steps,
            num_train_epochs=1.0 if settings.epochs is None else settings.epochs,
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=stage.accumulation(PartialState().num_processes),
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.schedule,
            warmup_steps=settings.warmup,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            remove_unused_columns=False,
            **chosen,
        )
    except ValueError as error:
        raise RecipeError(f"trainer: {error}") from error
    _check_sampling(args)
    _check_reporters(args)
    args.max_steps = stage.stream_steps(args.world_size) or args.max_steps
    check_engine(args)
    check_parts(args, recipe.model, settings.train, saves=args.save_strategy != "no")
    return args


def _check_sampling(args: TrainingArguments) -> None:
    if getattr(args, "train_sampling_strategy", None) == "group_by_length" or getattr(args, "group_by_length", False):
        raise RecipeError(
            "trainer: grouping by length needs the length of every sample, which transformers cannot take from samples "
            "with pictures; write data.sampler: modality_length, which groups text alone and pictures by length"
        )


def _check_reporters(args: TrainingArguments) -> None:
    """Refuse a reporter that is none, or whose package is not installed."""
    available = get_available_reporting_integrations()
    for name in args.report_to or ():
        if name not in INTEGRATION_TO_CALLBACK:
            raise RecipeError(f"trainer.report_to={name!r}: {one_of(name, ['none', *sorted(INTEGRATION_TO_CALLBACK)])}")
        if name not in available:
            raise RecipeError(
                f"trainer.report_to: {name} is not installed: pip install {name.replace('_', '-')}, or report_to: none"
            )


def count_steps(stage: Stage, num_records: int) -> int:
    """Steps of a stage without a Trainer to count them."""
    if stage.steps is not None:
        return stage.steps
    return math.ceil((stage.epochs or 0) * num_records / stage.batch_size)


def warmup_share(stage: Stage, steps: int) -> float:
    """`warmup` as a share of the steps, whichever way it was given."""
    return stage.warmup if stage.warmup < 1 else stage.warmup / steps
