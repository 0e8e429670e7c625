"""A run directory, read as one record for its report.

A run directory holds (see `contralign.run.run_directory`) recipe.yaml, environment.json, metrics.jsonl,
results.json, bad_records.json and evaluations/ARM/gallery/gallery.jsonl; any of them may be missing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contralign.analysis.caption_delta import read_json_lines
from contralign.analysis.gallery import GallerySample, read_gallery

GALLERY_FILE = "gallery.jsonl"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a report shows.

    Attributes:
        title: of the run.
        recipe: the resolved recipe, as YAML.
        environment: versions, machine, seed, command line.
        results: arm -> evaluation -> its nested numbers.
        events: log events of training: arm, stage, step and numbers.
        galleries: arm -> what it makes of some held-out samples, the same ones for every arm.
        bad_records: stage -> what was left out.
    """

    title: str
    recipe: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    events: Sequence[Mapping[str, Any]] = ()
    galleries: Mapping[str, Sequence[GallerySample]] = field(default_factory=dict)
    bad_records: Mapping[str, Any] = field(default_factory=dict)


def report_of_run(folder: Path) -> Report:
    """Read a run directory, finished or not.

    Raises:
        ValueError: there is no such folder, or a file in it is not what a run writes.
    """
    if not folder.is_dir():
        raise ValueError(f"no run directory {folder}: wanted the folder that `contralign train` wrote")
    results = _json(folder / "results.json")
    metrics = folder / "metrics.jsonl"
    recipe = folder / "recipe.yaml"
    galleries = sorted(folder.glob(f"evaluations/*/gallery/{GALLERY_FILE}"))
    arms = results.get("arms", {})
    found = {path.parent.parent.name: read_gallery(path) for path in galleries}
    return Report(
        title=results.get("name", folder.name),
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        environment=_json(folder / "environment.json"),
        results=arms,
        events=read_json_lines(metrics) if metrics.is_file() else [],
        galleries={arm: found[arm] for arm in [*arms, *found] if arm in found},
        bad_records=_json(folder / "bad_records.json"),
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: wanted a JSON object")
    return content
