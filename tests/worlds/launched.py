"""Scripts started as users start them: by Python, or by torchrun on several ranks of this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "ranks"
ABORTED = "Signal 6 (SIGABRT)"  # as torchrun puts it
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None,
    reason="deepspeed is not installed: DS_ACCELERATOR=cpu DS_BUILD_OPS=0 pip install deepspeed",
)


def start(script, ranks, folder, *words, **variables):
    """Run a script of tests/ranks on some ranks.

    gloo itself now and then aborts a rank between two collectives (docs/log.md).
    What was killed so, and only that, is started once more, and prints where it stood; a wrong number or a rank that
    waits for ever is neither.
    """
    torchrun = ["-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--standalone"]
    launcher = [sys.executable, *(torchrun if ranks > 1 else [])]
    variables = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
        "PYTHONWARNINGS": "ignore",
        "PYTHONFAULTHANDLER": "1",
    } | variables
    for attempt in (1, 2):
        done = subprocess.run(
            [*launcher, str(HERE / script), *map(str, (folder, *words))],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if ABORTED not in done.stderr or attempt == 2:
            return done
        print(f"{script} {words} was aborted and starts again:\n{done.stderr[:6000]}")
        shutil.rmtree(folder)
        folder.mkdir()
