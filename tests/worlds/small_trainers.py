"""Trainers of a small LLaVA that save every second step."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer
from worlds.small_arguments import arguments
from worlds.small_models import build_llava, collate, training_rows

from contralign import CalConfig, CALTrainer, with_cal
from contralign.checkpoints.resuming_trainer import ResumingTrainer


def model_of(peft):
    if not peft:
        return build_llava(attention_dropout=0.1)
    torch.manual_seed(0)
    return get_peft_model(build_llava(), LoraConfig(r=4, target_modules=r".*language_model.*q_proj", lora_dropout=0.1))


def trainer_of(kind, folder, steps=7, contrast="drop", peft=False, rows=8, evaluation=None, **changes):
    """A step takes four records; epochs end between checkpoints and at them."""
    settings = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": steps,
        "save_strategy": "steps",
        "save_steps": 2,
        "logging_steps": 3,
        "optim": "adamw_torch",
        "lr_scheduler_type": "cosine",
        "learning_rate": 1e-2,
        "train_sampling_strategy": "random",
    }
    classes = {"ours": ResumingTrainer, "cal": CALTrainer, "user's": with_cal(TheirTrainer)}
    extra = {} if kind == "ours" else {"cal": CalConfig(contrast=contrast)}
    return classes[kind](
        model=model_of(peft),
        args=arguments(folder, **(settings | changes)),
        train_dataset=training_rows(count=rows, dtype=torch.float32),
        eval_dataset=evaluation,
        data_collator=collate,
        **extra,
    )


class TheirTrainer(Trainer):
    """A user's own, which leaves something beside the checkpoints."""

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        Path(self.args.output_dir, "card.md").write_text("x")
