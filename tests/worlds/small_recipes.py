"""Recipes that train in seconds, and the pictures and records they may read."""

from __future__ import annotations

import json

from PIL import Image

from contralign.recipe.plan import RunPlan
from contralign.recipe.planning import plan_of
from contralign.recipe.recipe import Recipe
from contralign.recipe.schema import from_mapping, merge

TINY = {
    "image_size": 32,
    "hidden": 32,
    "layers": 1,
    "tower_hidden": 32,
    "tower_layers": 1,
    "heads": 2,
    "vocab_size": 400,
}
STAGE = {"train": ["projector", "language_model"], "steps": 2, "learning_rate": 1e-2, "batch_size": 4}
COLOURS = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (30, 50, 220), "black": (5, 5, 5)}


def small_plan(folder, **changes) -> RunPlan:
    """Two arms on eight records in `folder`, two steps each, output in `folder`/run."""
    values = {
        "name": "small",
        "output_dir": str(folder / "run"),
        "model": {"path": "tiny", "tiny": TINY},
        "data": {"train": [str(write_records(folder))], "image_root": [str(folder)]},
        "stages": {"it": {**STAGE, "cal": True}},
        "cal": {},
        "arms": {"mle": None, "cal": {}},
        "trainer": {"logging_steps": 1},
    }
    return plan_of(from_mapping(Recipe, merge(values, changes)))


def write_records(folder, count=8, name="records.json"):
    """LLaVA records of plain coloured pictures; the picture of record n is n.png."""
    records = []
    for number in range(count):
        colour = list(COLOURS)[number % len(COLOURS)]
        Image.new("RGB", (32, 32), COLOURS[colour]).save(folder / f"{number}.png")
        turns = [
            {"from": "human", "value": "<image>\nwhat colour?"},
            {"from": "gpt", "value": f"it is {colour} {number}"},
        ]
        records.append({"id": f"r{number}", "image": f"{number}.png", "conversations": turns})
    (folder / name).write_text(json.dumps(records))
    return folder / name
