"""Offline, one thread, one seed: every test starts from the same state.

Two variables change the arithmetic and may change no verdict. `CONTRALIGN_TEST_THREADS` is the number of threads (1).
`CONTRALIGN_TEST_MISALIGN=1` puts loaded weights at odd places and adds up linear layers in another order at every call
(`worlds/misaligned.py`); tests marked `bit_exact` are about one machine's kernels and keep theirs.
"""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from worlds.misaligned import misaligned_loads, reordered_sums

THREADS = int(os.environ.get("CONTRALIGN_TEST_THREADS", "1"))
MISALIGN = os.environ.get("CONTRALIGN_TEST_MISALIGN") == "1"
NUMERIC = ("core", "evaluation", "models", "parity", "training", "weighting", "test_reading.py", "test_scoring.py")
"""What computes with models or with their numbers; `make test` runs it once more under other kernels."""


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in NUMERIC:
            item.add_marker("numeric")


@pytest.fixture(autouse=True)
def _repeatable():
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)


@pytest.fixture(autouse=MISALIGN)
def _other_kernels(request):
    if request.node.get_closest_marker("bit_exact"):
        with misaligned_loads(offsets=(1,)):
            yield
    else:
        with misaligned_loads(), reordered_sums():
            yield
