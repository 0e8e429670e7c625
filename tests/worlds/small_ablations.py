"""Ablations over recipes that train in seconds, and results that were made up by hand."""

from __future__ import annotations

import os

import yaml
from worlds.small_recipes import STAGE, small_plan, write_records

from contralign.ablation.ablation_file import load_ablation
from contralign.ablation.cells import expand
from contralign.ablation.directory import AblationDirectory
from contralign.ablation.plan import plan
from contralign.ablation.settings import Ablation
from contralign.ablation.summary.results import Measured, Results
from contralign.recipe.recipe_file import dump_recipe
from contralign.recipe.schema import from_mapping

MACHINE = {"processor": "made up", "threads": "1"}
VALUES = {
    "recipe": "world.yaml",
    "seeds": [0, 1],
    "grid": {"noise": {"key": "stages.last.data.swap_noise", "values": [0, 0.5]}},
    "arms": {"mle": None, "cal": {"alpha": 0}},
    "reference": "mle",
    "metrics": [
        {"path": "look.right", "label": "tokens right", "unit": "%", "better": "higher"},
        {"path": "look.loss", "unit": "nats", "better": "lower"},
    ],
}


def write_ablation(folder, evaluate=None, **changes):
    """noise.yaml and world.yaml (a shared stage, a last one with CAL, 8 records) in `folder`; the path of the first."""
    held_out = write_records(folder, 4, "eval.json")
    plan = small_plan(
        folder,
        output_dir=None,
        data={"eval": [str(held_out)]},
        stages={"it": {"cal": False, "steps": 1}, "last": {**STAGE, "cal": True}},
        evaluate=evaluate or {"look": None},
    )
    (folder / "world.yaml").write_text(dump_recipe(plan.recipe))
    (folder / "noise.yaml").write_text(yaml.safe_dump({**VALUES, **changes}, sort_keys=False))
    for records in (held_out, folder / "records.json"):
        os.utime(records, (1_000_000, 1_000_000))  # written anew by every call, and yet the same to keys
    return folder / "noise.yaml"


def planned_cells(folder, *overrides, **changes):
    """The plan of `write_ablation`."""
    ablation = load_ablation(write_ablation(folder, **changes), overrides)
    return plan(expand(ablation, folder))


def made_directory(folder, **changes):
    """An empty directory with its ablation and plan."""
    ablation = load_ablation(write_ablation(folder, **changes))
    directory = AblationDirectory(folder / "out")
    directory.create(ablation)
    return directory, ablation, plan(expand(ablation, folder))


def looks(seen=None):
    """Evaluations that need no reading: numbers of the weights, so that equal models have equal ones."""

    def look(arm, folder):
        if seen is not None:
            seen.append((arm.name, arm.seed))
        weights = [parameter.double().abs().mean().item() for parameter in arm.model.parameters()]
        return {"right": {"value": sum(weights) % 1, "n": len(arm.held_out)}, "loss": sum(weights)}

    return lambda recipe: {"look": look}


def made_results(numbers, reference="mle", axes=("noise",), seconds=None, **metric):
    """Results from {(labels…, arm): [a value a seed]}; equal lists of one arm get keys of their own all the same."""
    labels = {axis: sorted({row[place] for row in numbers}) for place, axis in enumerate(axes)}
    ablation = from_mapping(
        Ablation,
        {
            "name": "made",
            "recipe": "world.yaml",
            "seeds": list(range(max(map(len, numbers.values())))),
            "grid": {axis: {"values": {label: {} for label in found}} for axis, found in labels.items()},
            "reference": reference,
            "metrics": [{"path": "look.right", "better": "higher", **metric}],
        },
    )
    measured = [
        Measured(
            row=dict(zip((*axes, "arm"), row, strict=True)),
            seed=seed,
            key=f"{row}-{seed}",
            path="look.right",
            value=value,
            stage="last",
            steps=10,
            seconds=(seconds or {}).get(row[-1], 1.0),
            threads=1,
            machine=MACHINE,
            commit="c0ffee",
            finished="2026-01-01",
        )
        for row, values in numbers.items()
        for seed, value in enumerate(values)
    ]
    return Results(ablation=ablation, measured=tuple(measured), machine={"device": "cpu", "cores": 2, "versions": {}})
