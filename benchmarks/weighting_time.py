"""The cost of every weighting (docs/results.md): `contralign bench` with all of them, steps interleaved.

    python benchmarks/weighting_time.py             # about ten minutes on 2 cores
    python benchmarks/weighting_time.py --table     # print the table from benchmarks/results/weightings.json

Nothing else should run meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from contralign.bench.steps import MODES

RECORD = Path(__file__).with_name("results") / "weightings.json"
SHAPE = "--model llava15 --image-tokens 576 --text-tokens 128 --label-tokens 64 --batch 2 --vocabulary 32000 --rounds 7"


def main() -> None:
    if sys.argv[1:] != ["--table"]:
        words = f"bench {SHAPE} --no-memory --modes {','.join(MODES)} --json {RECORD}"
        print(f"contralign {words}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "contralign", *words.split()], check=True, stdout=sys.stderr)
    record = json.loads(RECORD.read_text())
    print("| mode | time over mle_fused, median (range over rounds) | over plain Hugging Face |\n|---|---|---|")
    for mode in MODES:
        row = record[mode]
        fused = f"{row['over_mle_fused']:.3f} ({row['over_mle_fused_min']:.3f} to {row['over_mle_fused_max']:.3f})"
        print(f"| {mode} | {fused} | {row['time_ratio']:.3f} |")


if __name__ == "__main__":
    main()
