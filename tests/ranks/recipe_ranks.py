"""Run by test_ranks.py under torchrun: a whole recipe with adapters, merged and saved by rank 0.

Usage: recipe_ranks.py FOLDER ENGINE
"""

import faulthandler
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as dist
from rank_engines import ENGINES
from worlds.small_recipes import small_plan

from contralign.cli.ranks import hard_exit
from contralign.run.run import run_plan

PATIENCE = 500


def main(folder: str, engine: str) -> None:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    torch.set_num_threads(1)
    trainer = {"logging_steps": 1, "optim": "sgd", "ddp_find_unused_parameters": False, **ENGINES[engine]()}
    recipe = small_plan(
        Path(folder),
        stages={"it": {"batch_size": 8 // int(os.environ.get("WORLD_SIZE", 1)), "learning_rate": 0.1}},
        model={"lora": {"r": 4}},
        trainer=trainer,
    )
    run_plan(recipe, {})
    if dist.is_initialized():
        dist.barrier()
    os._exit(0)


if __name__ == "__main__":
    with hard_exit():
        main(*sys.argv[1:])
