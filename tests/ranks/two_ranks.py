"""Run by test_ranks.py under torchrun: steps of CAL in the Trainer, and what came out, written by rank 0.

Usage: two_ranks.py FOLDER CASE, where CASE is JSON; see `CASE` for its keys.
"""

import faulthandler
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from accelerate import PartialState
from rank_engines import ENGINES
from rank_roles import rows_by_role
from transformers import TrainingArguments
from worlds.small_models import build_llava, collate

from contralign import CalConfig, CALTrainer
from contralign.cli.ranks import hard_exit
from contralign.run.learning.trainable_parts import freeze_unread_layers

PATIENCE = 500
CASE = {
    "engine": "ddp",
    "form": "exact",
    "score": "logit",
    "contrast": "drop",
    "batch_size": 4,
    "accumulation": 1,
    "steps": 4,
    "roles": "mixed",
    "rows_per_role": 4,
    "unread_layers": "learn",  # or freeze
    "dtype": "float64",
    "learning_rate": 0.05,
    "evaluate": False,
    "save": False,
    "arguments": {},
}


class RememberingTrainer(CALTrainer):
    """Keeps what the last forward returned."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, self.returned = super().compute_loss(model, inputs, True, num_items_in_batch)
        return (loss, self.returned) if return_outputs else loss


def main(folder: str, given: str) -> None:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)  # a rank that waits for ever says where
    torch.set_num_threads(1)
    case = CASE | json.loads(given)
    dtype = getattr(torch, case["dtype"])
    rows = rows_by_role(case["roles"], dtype, case["rows_per_role"])
    engine = ENGINES[case["engine"]]()
    model = build_llava(dtype)
    if case["unread_layers"] == "freeze":
        freeze_unread_layers(model)
    args = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=case["batch_size"],
        per_device_eval_batch_size=case["batch_size"],
        gradient_accumulation_steps=case["accumulation"],
        max_steps=case["steps"],
        learning_rate=case["learning_rate"],
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.5,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        train_sampling_strategy="sequential",
        dataloader_pin_memory=False,
        **engine,
        **case["arguments"],
    )
    config = (
        CalConfig.released()
        if case["form"] == "released"
        else CalConfig(form=case["form"], score=case["score"], contrast=case["contrast"])
    )
    trainer = RememberingTrainer(
        model=model, args=args, train_dataset=rows, eval_dataset=rows, data_collator=collate, cal=config
    )
    trainer.train()
    result = {
        name: [entry[name] for entry in trainer.state.log_history if name in entry]
        for name in ("loss", "nll", "delta_q95", "grad_norm")
    }
    if case["evaluate"]:
        evaluated = trainer.evaluate()
        result["evaluated"] = [evaluated[f"eval_{name}"] for name in ("loss", "nll", "delta_q95")]
    result["head"] = type(trainer.alignment.adapter.head()).__name__
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if case["save"]:
        trainer.save_model(str(Path(folder, "saved")))
    if trainer.is_world_process_zero():
        flat = torch.cat([weights[name].detach().flatten() for name in sorted(weights)])
        result |= {
            "ranks": trainer.accelerator.num_processes,
            "returned_dtype": str(trainer.returned.denominator.dtype),
            "sharding": trainer.alignment.adapter.sharding,
            "norm": flat.norm().item(),
            "sketch": flat[:: max(flat.numel() // 500, 1)].tolist(),
        }
        Path(folder, "result.json").write_text(json.dumps(result))
    PartialState().wait_for_everyone()
    # Every number is written; gloo's own teardown at the end of the interpreter now and then aborts or hangs.
    os._exit(0)


if __name__ == "__main__":
    with hard_exit():
        main(*sys.argv[1:])
