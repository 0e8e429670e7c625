"""Run by test_launched.py under accelerate launch: the real command, on ranks that have no GPU.

Usage: launched.py ENGINE WORDS OF THE COMMAND…, where ENGINE is one of rank_engines.py. With DIE_AT in the environment
every rank dies at the end of that step. Rank 0 says at the end how parameters were sharded.
"""

import faulthandler
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rank_engines import ENGINES
from transformers import Trainer, TrainerCallback

from contralign.cli.main import main
from contralign.core.sharding import sharding_of

PATIENCE = 500


class DieAt(TrainerCallback):
    """kill -9 on oneself."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            os.kill(os.getpid(), 9)


class SayHow(TrainerCallback):
    """What the engine made of the model, which is gone when the command ends."""

    def on_train_end(self, args, state, control, model=None, **_):
        if state.is_world_process_zero:
            print(f"engine: {sharding_of(model)}, {args.mixed_precision}", flush=True)


def with_callbacks(*callbacks):
    plain = Trainer.__init__

    def init(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        for callback in callbacks:
            self.add_callback(callback)

    Trainer.__init__ = init


if __name__ == "__main__":
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    ENGINES[sys.argv[1]]()
    with_callbacks(SayHow(), *([DieAt(int(os.environ["DIE_AT"]))] if "DIE_AT" in os.environ else []))
    sys.argv = ["contralign", *sys.argv[2:]]
    main()
