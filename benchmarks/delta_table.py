"""The Δ tables of docs/results.md: AUC of every second look × score, from cells that `contralign ablate` has evaluated.

contralign ablate recipes/tiny/delta_table.yaml -o runs/ablate/delta_table
python benchmarks/delta_table.py runs/ablate/delta_table            # mean over seeds (95 %, t), one arm a block
python benchmarks/delta_table.py runs/ablate/delta_table --csv FILE # every number, with its interval over captions

The folder is that of the ablation, or its store; a FILE that was written so does as well.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

from contralign.evaluation.metrics.paired import mean_of

TASKS = {
    "visual_vs_filler": "visual over filler tokens",
    "visual_vs_contradictory": "visual over contradictory tokens",
    "right_vs_wrong_picture": "a caption's mean with its own picture over a wrong one",
}
NUMBERS = ("value", "low", "high")
SCORES = ("logit", "centred", "logprob", "logit_weight", "logprob_weight")


def cells(folder: Path) -> list[dict]:
    """Every number of every cell that was evaluated by `delta`."""
    lines = []
    for path in sorted((folder / "cells").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        for contrast, scores in record["results"].get("delta", {}).get("auc", {}).items():
            for score, tasks in scores.items():
                for task, found in tasks.items():
                    about = {"arm": record["arm"], "seed": record["seed"], **record["settings"]}
                    lines.append({**about, "contrast": contrast, "score": score, "task": task, **found})
    return lines


def read_csv(path: Path) -> list[dict]:
    """What `--csv` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return [line | {name: float(line[name]) if line[name] else None for name in NUMBERS} for line in lines]


def tables(lines: list[dict]) -> str:
    """One Markdown table an arm, point and task: second looks as rows, scores as columns."""
    known = ("contrast", "score", "task", "seed", "value", "low", "high", "positives", "negatives")
    blocks: dict[str, dict] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line["value"] is not None:
            place = ", ".join(f"{name} {value}" for name, value in line.items() if name not in known)
            blocks[f"{place}: AUC, {TASKS[line['task']]}"][line["contrast"], line["score"]].append(line)
    return "\n".join(_table(title, found) for title, found in blocks.items())


def _table(title: str, found: dict) -> str:
    shown = [score for score in SCORES if any(score == each for _, each in found)]
    rows = [f"**{title}**\n", f"| second look | {' | '.join(shown)} |", "|---|" + "---|" * len(shown)]
    for contrast in dict.fromkeys(contrast for contrast, _ in found):
        rows.append(f"| {contrast} | {' | '.join(_cell(found[contrast, score]) for score in shown)} |")
    return "\n".join(rows) + "\n"


def _cell(lines: list[dict]) -> str:
    """Mean over seeds with its interval; of one seed the interval over captions."""
    if len(lines) == 1:
        return _words(lines[0]["value"], lines[0]["low"], lines[0]["high"])
    over_seeds = mean_of([line["value"] for line in lines])
    return _words(over_seeds.mean, over_seeds.low, over_seeds.high)


def _words(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    source = Path(sys.argv[1])
    lines = read_csv(source) if source.suffix == ".csv" else cells(source)
    if not lines:
        sys.exit(f"{sys.argv[1]}: no cell there was evaluated by delta")
    if "--csv" in sys.argv:
        with open(sys.argv[sys.argv.index("--csv") + 1], "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for line in lines for name in line)))
            writer.writeheader()
            writer.writerows(lines)
    print(tables(lines))


if __name__ == "__main__":
    main()
