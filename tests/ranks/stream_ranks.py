"""Run by test_sampling.py under torchrun: a recipe over a stream; every rank writes the ids of its batches.

Usage: stream_ranks.py FOLDER NAME STOP, where the run is FOLDER/NAME and dies at the end of step STOP; 0 never.
"""

import faulthandler
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as dist
from accelerate import PartialState
from worlds.small_recipes import STAGE, small_plan

from contralign.cli.ranks import hard_exit
from contralign.data.batches.collator import VLCollator
from contralign.run.callbacks import StageBar
from contralign.run.run import run_plan

PATIENCE = 500
SOURCES = ("a.jsonl", "b.tar", "c.parquet")


def main(folder: str, name: str, stop: str) -> None:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    torch.set_num_threads(1)
    recipe = small_plan(
        Path(folder),
        output_dir=str(Path(folder, name)),
        data={
            "train": [str(Path(folder, source)) for source in SOURCES],
            "streaming": True,
            "shuffle_buffer": 4,
            "on_bad": "skip",
        },
        stages={"it": {**STAGE, "steps": 8, "batch_size": 2, "cal": True}},
        arms=None,
        trainer={"save_steps": 3, "logging_steps": 1, "ddp_find_unused_parameters": False, "use_cpu": True},
    )
    taken: list[list[str]] = []
    original = VLCollator.encode_batch

    def remember(self, samples):
        taken.append([sample.id for sample in samples])
        return original(self, samples)

    VLCollator.encode_batch = remember
    show = StageBar.on_step_end

    def die(self, args, state, control, **kwargs):
        show(self, args, state, control, **kwargs)
        if state.global_step == int(stop):
            os._exit(9)

    StageBar.on_step_end = die
    run_plan(recipe, {}, resume=Path(folder, name).exists())
    Path(folder, f"{name}-{PartialState().process_index}.json").write_text(json.dumps(taken))
    if dist.is_initialized():
        dist.barrier()
    os._exit(0)


if __name__ == "__main__":
    with hard_exit():
        main(*sys.argv[1:])
