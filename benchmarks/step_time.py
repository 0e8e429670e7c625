"""The tables of docs/speed.md: `contralign bench` at the shapes that the claims are about, one after another.

    python benchmarks/step_time.py                # all of them, about half an hour on 2 cores
    python benchmarks/step_time.py 576-2k         # one
    python benchmarks/step_time.py --tables       # print the tables from benchmarks/results/

Nothing else should run meanwhile: rounds are interleaved, so other work slows all modes, but it widens the ranges.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).with_name("results")
COMMON = "--model llava15 --text-tokens 128 --label-tokens 64 --batch 2 --rounds 9"
CASES = {
    "576-32k": "--image-tokens 576 --vocabulary 32000",
    "576-32k-checkpointing": "--image-tokens 576 --vocabulary 32000 --checkpointing",
    "576-2k": "--image-tokens 576 --vocabulary 2048 --profile",
    "576-2k-checkpointing": "--image-tokens 576 --vocabulary 2048 --checkpointing",
    "576-2k-lone-bos": "--image-tokens 576 --vocabulary 2048 --prefix 1",
    "576-2k-half-text": "--image-tokens 576 --vocabulary 2048 --text-only-rows 1",
    "2304-32k": "--image-tokens 2304 --vocabulary 32000",
    "2304-2k": "--image-tokens 2304 --vocabulary 2048",
}
"""Shapes by name; 2,048 words give the head the share of the parameters that it has in a 7B model."""


def main(names: list[str]) -> None:
    if names != ["--tables"]:
        for name in names or CASES:
            run(name)
    for name in CASES:
        path = RESULTS / f"{name}.json"
        if path.exists():
            print(table(name, json.loads(path.read_text())))


def run(name: str) -> None:
    """One case, in a process of its own."""
    RESULTS.mkdir(exist_ok=True)
    words = f"bench {COMMON} {CASES[name]} --json {RESULTS / f'{name}.json'}"
    print(f"contralign {words}", file=sys.stderr)
    start = "from contralign.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", start, *words.split()], check=True, stdout=sys.stderr)


def table(name: str, record: dict) -> str:
    """A case in Markdown."""
    lines = [
        f"`contralign bench {COMMON} {CASES[name]}`; floor {record['floor']:.3f}",
        "",
        "| | time over mle | over mle_fused | memory over mle |",
        "|---|---|---|---|",
    ]
    for mode in ("mle", "mle_fused", "cal", "cal_logprob", "cal_cached", "released"):
        row = record[mode]
        time = f"{row['time_ratio']:.3f} ({row['time_ratio_min']:.3f} to {row['time_ratio_max']:.3f})"
        fused = f"{row['over_mle_fused']:.3f} ({row['over_mle_fused_min']:.3f} to {row['over_mle_fused_max']:.3f})"
        lines.append(f"| {mode} | {time} | {fused} | {row['memory_ratio']:.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
