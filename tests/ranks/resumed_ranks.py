"""Run by test_faulty_ranks.py under torchrun: steps of CAL with checkpoints, one of the ranks killed on the way.

Usage: resumed_ranks.py FOLDER ENGINE WHAT, where WHAT is `whole`, `die` (rank 1 is killed in step 4), `term` (rank 1
alone gets SIGTERM in step 3), `full` (the disk of rank 0 refuses the checkpoint of step 2) or `resume`.
"""

import faulthandler
import json
import os
import resource
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from accelerate import PartialState
from rank_engines import ENGINES
from rank_roles import rows_by_role
from transformers import TrainerCallback, TrainingArguments
from worlds.small_models import build_llava, collate

from contralign import CalConfig, CALTrainer
from contralign.checkpoints.stopping import StopCallback, StopRequest
from contralign.cli.ranks import hard_exit
from contralign.run.learning.trainable_parts import freeze_unread_layers

PATIENCE = 500


class Fate(TrainerCallback):
    """What befalls one rank."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_step_begin(self, args, state, control, **kwargs):
        rank = args.process_index
        if self.what == "die" and (rank, state.global_step) == (1, 3):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "term" and (rank, state.global_step) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)

    def on_step_end(self, args, state, control, **kwargs):
        if self.what == "full" and args.process_index == 0:
            limit = 20_000 if state.global_step == 2 else resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def main(folder: str, engine: str, what: str) -> None:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    torch.set_num_threads(1)
    model = build_llava()  # before the arguments: under ZeRO-3 transformers would shard it while it is made
    freeze_unread_layers(model)  # torch reads no optimizer state for a parameter that never had a gradient
    args = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=2,
        max_steps=6,
        learning_rate=0.01,
        optim="adamw_torch",
        logging_steps=4,
        save_steps=2,
        save_total_limit=1,
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        **ENGINES[engine](),
    )
    rows = rows_by_role("mixed", torch.float32, 4)
    trainer = CALTrainer(
        model=model, args=args, train_dataset=rows, data_collator=collate, cal=CalConfig(contrast="mean")
    )
    request = StopRequest()
    trainer.add_callback(Fate(what))
    trainer.add_callback(StopCallback(request))
    with request.listening():
        trainer.train(resume_from_checkpoint=what == "resume")
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        flat = torch.cat([weights[name].detach().float().flatten() for name in sorted(weights)])
        result = {
            "step": trainer.state.global_step,
            "failed": trainer.failed_checkpoints,
            "sketch": flat[:: max(flat.numel() // 500, 1)].tolist(),
            "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        }
        Path(folder, "result.json").write_text(json.dumps(result))
    PartialState().wait_for_everyone()
    os._exit(0)


if __name__ == "__main__":
    with hard_exit():
        main(*sys.argv[1:])
