"""Kill a run at random moments, go on each time with the same command, and compare what comes out with an unbroken run.

    python benchmarks/kill_resume.py --kills 20 --seed 0

Every process is a real one, `contralign train RECIPE --resume`, and every kill is SIGKILL, after a time drawn from the
whole of the run; every second one then waits for the next checkpoint, model or file that is being written. A run that
comes to its end is compared, byte by byte, and a new one is begun until all kills are spent. The table says where each
kill fell, as the folder shows it afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from contralign.run.callbacks import MetricsFile

RECIPE = """
name: killed
seed: 3
model:
  path: tiny
  tiny: {image_size: 32, hidden: 64, layers: 2, tower_hidden: 32, tower_layers: 2, heads: 2, vocab_size: 400}
  lora: {r: 4, dropout: 0.1}
data:
  train: ["scenes:train"]
  eval: ["scenes:heldout"]
  settings: {"scenes:train": {count: 40}, "scenes:heldout": {count: 8}}
stages:
  text: {kind: text, steps: 8, learning_rate: 3.0e-3, batch_size: 8}
  pt: {train: [projector], steps: 16, learning_rate: 1.0e-2, batch_size: 4}
  it:
    train: [projector, language_model]
    steps: 36
    learning_rate: 3.0e-3
    batch_size: 2
    grad_accumulation: 2
    cal: true
cal: {alpha: 0}
arms:
  mean: {contrast: mean}
  patches: {contrast: patches}
evaluate:
  grounding: {batch_size: 8}
trainer: {logging_steps: 3, save_steps: 4, eval_strategy: steps, eval_steps: 8}
report: true
"""
"""Adapters with dropout, a running mean, draws, accumulation, epochs of ten steps, evaluations between them."""
TIMES = ("train_runtime", "_per_second", "eval_runtime", "train_loss")
"""What a log says of the process and not of the training; `train_loss` is the mean over the steps of the process."""


@dataclass(frozen=True)
class Kill:
    """Where one fell."""

    run: int
    seconds: float
    place: str


def command(folder: Path) -> list[str]:
    """What is typed, the first time and every time after."""
    return [
        sys.executable,
        "-m",
        "contralign",
        "train",
        str(folder / "recipe.yaml"),
        f"output_dir={folder / 'run'}",
        "--resume",
    ]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Begin, or go on with, the run of a folder, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command(folder), stdout=log, stderr=log, env=environment)


def fresh(root: Path, name: str) -> Path:
    """A folder with the recipe and nothing else."""
    folder = root / name
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def whole(process: subprocess.Popen[bytes], folder: Path, seconds: float) -> None:
    """Wait for the end, which must be a good one."""
    if process.wait(timeout=seconds) != 0:
        raise SystemExit(f"the run in {folder} failed:\n{(folder / 'log.txt').read_text()[-4000:]}")


def written_now(run: Path) -> dict[Path, tuple[int, int]]:
    """What bears the name of something unfinished, and which folder or file it is."""
    found = {}
    for pattern in ("checkpoints/*/_writing/checkpoint-*", ".*.writing", "*/.*.writing"):
        for path in run.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                found[path] = (path.stat().st_ino, path.stat().st_ctime_ns)
    return found


def kill(
    process: subprocess.Popen[bytes], run: Path, after: float, early: bool, aimed: bool, draw: random.Random
) -> tuple[float, str] | None:
    """SIGKILL after a time, or a little into the next writing after it.

    Args:
        process: the run.
        run: its directory.
        after: seconds, from when Python has loaded and the run goes on; `early`: from the very start.
        early: see `after`.
        aimed: wait for the next writing.
        draw: of what else is random.

    Returns:
        The seconds it took, and where it fell; None where the run ended before.
    """
    began, goes_on, left = time.monotonic(), 0.0 if early else None, written_now(run)
    opened = _opened(run)
    while process.poll() is None:
        passed = time.monotonic() - began
        if goes_on is None and _opened(run) != opened:
            goes_on = passed
        due = goes_on is not None and passed - goes_on > after
        if due and (not aimed or written_now(run).items() - left.items()):
            time.sleep(draw.uniform(0, 0.01) if aimed else 0)
            process.send_signal(signal.SIGKILL)
            process.wait()
            unfinished = [path for path, _ in written_now(run).items() - left.items()]
            return None if process.returncode == 0 else (passed, where(run, unfinished))
        time.sleep(0.0005 if aimed and due else 0.005)
    return None


def _opened(run: Path) -> int:
    """Changes when a process goes on with the run."""
    place = run / "environment.json"
    return place.stat().st_ino if place.exists() else 0


def where(run: Path, unfinished: list[Path]) -> str:
    """What the folder says of the moment of the kill."""
    if not (run / "recipe.yaml").is_file():
        return "before the run began"
    for path in unfinished:
        if path.parent.name == "_writing":
            return f"{path.parents[1].name}: writing {path.name} ({len(list(path.iterdir()))} files so far)"
        return f"writing {path.name.removeprefix('.').removesuffix('.writing')}"
    if (run / "results.json").is_file():
        return "after the results"
    last = MetricsFile(run / "metrics.jsonl").read()[-1:]
    ended = [
        path.name for path in (*run.glob("stages/*"), run / "start", run / "mean", run / "patches") if path.is_dir()
    ]
    if (run / "patches").is_dir():
        return "evaluation at the end"
    if not last:
        return f"before the first log (there: {', '.join(ended) or 'nothing'})"
    step = f"{last[0]['arm']}-{last[0]['stage']}, after step {last[0]['step']} was logged"
    saved = last[0]["arm"] in ended or f"{last[0]['arm']}-{last[0]['stage']}" in ended
    return f"{step}{' (stage saved)' if saved else ''}"


def digests(run: Path) -> dict[str, str]:
    """Of all weights of a finished run."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.glob("*/*.safetensors"))
    }


def numbers(run: Path) -> list[dict[str, object]]:
    """All events of a finished run, without times."""
    events = MetricsFile(run / "metrics.jsonl").read()
    return [
        {name: value for name, value in event.items() if not any(word in name for word in TIMES)} for event in events
    ]


def differences(run: Path, unbroken: Path) -> list[str]:
    """What two finished runs do not share: weights by file, events, results."""
    mine, theirs = digests(run), digests(unbroken)
    found = [name for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)]
    if numbers(run) != numbers(unbroken):
        found.append("metrics.jsonl")
    if json.loads((run / "results.json").read_text()) != json.loads((unbroken / "results.json").read_text()):
        found.append("results.json")
    return found


def main(kills: int, seed: int, root: Path) -> list[str]:
    """Kill, go on, compare; the differences found."""
    draw = random.Random(seed)
    unbroken = fresh(root, "unbroken")
    began = time.monotonic()
    process = start(unbroken)
    while process.poll() is None and not (unbroken / "run" / "environment.json").exists():
        time.sleep(0.02)
    starting = time.monotonic() - began
    whole(process, unbroken, 900)
    took = time.monotonic() - began
    weights = len(digests(unbroken / "run"))
    print(
        f"unbroken: {took:.1f} s, of which {starting:.1f} s until the run began; {weights} files of weights", flush=True
    )
    done: list[Kill] = []
    found: list[str] = []
    number = 0
    while len(done) < kills:
        number += 1
        folder = fresh(root, f"killed-{number}")
        ended, last = False, took - starting
        while not ended and len(done) < kills:
            process = start(folder)
            early = len(done) % 7 == 6
            after = draw.uniform(0, starting if early else last)
            fell = kill(process, folder / "run", after, early, len(done) % 2 == 1, draw)
            last = (took - starting) / 2  # what is left is less
            ended = process.returncode == 0
            if fell is not None:
                done.append(Kill(number, *fell))
                print(f"| {len(done)} | {number} | {fell[0]:.1f} | {fell[1]} |", flush=True)
            elif not ended:
                whole(process, folder, 1)
        if not ended:
            whole(start(folder), folder, 900)
        came = differences(folder / "run", unbroken / "run")
        found += [f"run {number}: {name}" for name in came]
        print(
            f"run {number} came to its end: {'DIFFERS in ' + ', '.join(came) if came else 'equal to the bit'}",
            flush=True,
        )
        shutil.rmtree(folder) if not came else None
    writing = sum("writing" in one.place for one in done)
    print(f"{len(done)} kills, {writing} of them while something was written, {number} runs: {len(found)} differences")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="where the runs lie; default a temporary folder, removed at the end"
    )
    given = parser.parse_args()
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
        sys.exit(bool(main(given.kills, given.seed, given.folder)))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(bool(main(given.kills, given.seed, Path(temporary))))
