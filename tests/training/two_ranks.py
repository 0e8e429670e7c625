"""Run by test_ranks.py under torchrun: a few steps of CAL, and what came out, written by rank 0.

Usage: two_ranks.py FOLDER FORM BATCH_SIZE ACCUMULATION MIXED
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from small_models import build_llava, collate, training_rows
from transformers import TrainingArguments

from contralign import CalConfig, CALTrainer


def main(folder: str, form: str, batch_size: str, accumulation: str, mixed: str) -> None:
    torch.set_num_threads(1)
    rows = training_rows(16)
    if mixed == "text_rank":
        # Batches of four: the second rank has text alone.
        empty = rows[1]
        rows = [row if index % 8 < 4 else empty for index, row in enumerate(rows)]
    model = build_llava(torch.float64)
    args = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=int(batch_size),
        gradient_accumulation_steps=int(accumulation),
        max_steps=4,
        learning_rate=0.05,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.5,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
        disable_tqdm=True,
        train_sampling_strategy="sequential",
        ddp_find_unused_parameters=True,
        dataloader_pin_memory=False,
    )
    config = CalConfig.released() if form == "released" else CalConfig(form=form)
    trainer = CALTrainer(model=model, args=args, train_dataset=rows, data_collator=collate, cal=config)
    trainer.train()
    if trainer.is_world_process_zero():
        logged = [entry for entry in trainer.state.log_history if "loss" in entry]
        flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        result = {
            "ranks": trainer.accelerator.num_processes,
            "loss": [entry["loss"] for entry in logged],
            "nll": [entry["nll"] for entry in logged],
            "delta_q95": [entry["delta_q95"] for entry in logged],
            "norm": flat.norm().item(),
            "sketch": flat[:: max(flat.numel() // 500, 1)].tolist(),
        }
        Path(folder, "result.json").write_text(json.dumps(result))
    # Every number is written; gloo's own teardown at the end of the interpreter now and then aborts or hangs.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
