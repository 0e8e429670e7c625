"""A workload small enough to run in milliseconds, its weights large enough that Δ varies."""

import pytest
from worlds.small_models import spread

from contralign.bench.workload import make_workload

SMALL = {
    "hidden": 32,
    "layers": 2,
    "heads": 4,
    "vocabulary": 64,
    "image_tokens": 4,
    "text_tokens": 14,
    "label_tokens": 6,
    "batch": 3,
}


@pytest.fixture
def small():
    """The sizes."""
    return dict(SMALL)


@pytest.fixture
def workload():
    """Makes a workload from the small sizes and changes to them."""

    def make(model="llava15", **changes):
        made = make_workload(model, **{**SMALL, **changes})
        spread(made.model)
        return made

    return make
