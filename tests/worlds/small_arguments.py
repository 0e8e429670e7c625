"""Arguments of a Trainer on the CPU that trains a few steps and writes nothing."""

from __future__ import annotations

from transformers import TrainingArguments


def arguments(folder, **changes) -> TrainingArguments:
    settings = {
        "output_dir": str(folder),
        "max_steps": 2,
        "learning_rate": 0.1,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.5,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "train_sampling_strategy": "sequential",
    }
    return TrainingArguments(**(settings | changes))
