"""Compare ways to take a weighted linear cross-entropy: gradients first, then time and memory.

    PYTHONPATH=src python benchmarks/label_losses.py correct
    PYTHONPATH=src python benchmarks/label_losses.py speed --shape 1024x32000x512 --dtype float32 --repeats 5
    PYTHONPATH=src python benchmarks/label_losses.py scores --shape 64x32000x512

Each prints a Markdown table; docs/losses.md holds them with what they mean.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from label_loss_candidates import CANDIDATES, MIB, Candidate, NotOffered, Problem, ours
from torch import Tensor

from contralign.core.head import LinearHead
from contralign.core.label_readings import label_scores

EXACT = 1e-5
"""Relative gradient error up to which a float32 gradient counts as right."""
AS_PLAIN, WRONG = 1.15, 0.05
"""In half precision: up to so many times the error of plain logits a gradient is as good; from this error on, wrong."""


# Correctness ---------------------------------------------------------------------------------------------------------


def case_problem(case: str, dtype: torch.dtype) -> Problem:
    """A small problem whose inputs are exact in `dtype`."""
    rng = torch.Generator().manual_seed(0)
    words, hidden, tokens = (40_000, 16, 8) if case == "flat" else (203, 32, 23)

    def normal(*shape: int, size: float = 1.0) -> Tensor:
        return (size * torch.randn(*shape, generator=rng, dtype=torch.float64)).to(dtype).requires_grad_()

    problem = Problem(
        rows=normal(tokens, hidden),
        weight=normal(words, hidden, size=0.02 if case == "flat" else 1.0),
        labels=torch.randint(words, (tokens,), generator=rng),
        coefficients=torch.rand(tokens, generator=rng, dtype=torch.float64) * 4 + 1,
        bias=normal(words) if case == "bias" else None,
        scale=0.3 if case == "scale" else 1.0,
        cap=5.0 if case == "soft-cap" else None,
    )
    if case in ("frozen head", "frozen rows"):
        (problem.weight if case == "frozen head" else problem.rows).requires_grad_(False)
    return problem


def case_gradients(candidate: Candidate, problem: Problem, case: str) -> tuple[Tensor, ...]:
    """Gradients of everything that learns, in float64."""
    learning = problem.learning
    if case == "tied head":
        learning = [problem.weight]
        embedded = F.embedding(torch.arange(problem.labels.shape[0]), problem.weight)
        problem = replace(problem, rows=torch.tanh(embedded))
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        total = candidate.total(problem)
    return tuple(gradient.double() for gradient in torch.autograd.grad(total, learning))


def gradient_error(candidate: Candidate, case: str, dtype: torch.dtype) -> float:
    """Largest relative error of a gradient against plain logits in float64 on the same inputs."""
    problem = case_problem(case, dtype)
    wide = case_problem(case, dtype)
    for name in ("rows", "weight", "bias"):
        narrow = getattr(wide, name)
        if narrow is not None:
            wide = replace(wide, **{name: narrow.detach().double().requires_grad_(narrow.requires_grad)})
    exact_case = "weights" if case == "autocast" else case
    exact = case_gradients(CANDIDATES["plain"], wide, exact_case)
    found = case_gradients(candidate, problem, case)
    return max(((mine - true).norm() / true.norm()).item() for mine, true in zip(found, exact, strict=True))


NAMES = {
    "correct": [name for name in CANDIDATES if "MiB" not in name and "as ours" not in name],
    "speed": [name for name in CANDIDATES if "MiB" not in name and "5 rows" not in name],
}
CASES = ("weights", "bias", "scale", "soft-cap", "tied head", "frozen head", "frozen rows", "flat", "half", "autocast")


def judged(candidate: Candidate, case: str) -> str:
    """One cell of the matrix."""
    dtype = candidate.dtype
    if case == "half":
        dtype = torch.float16 if candidate.triton_kernel and not torch.cuda.is_available() else torch.bfloat16
    if case == "autocast":
        dtype = torch.float32
    try:
        error = gradient_error(candidate, case, dtype)
    except NotOffered:
        return "–"
    except Exception as refusal:  # any other package's way of saying no
        print(f"{case}: {type(refusal).__name__}: {str(refusal).strip()[:160].partition(chr(10))[0]}", file=sys.stderr)
        return "refused"
    if dtype == torch.float32 and case != "autocast":
        return f"yes {error:.0e}" if error < EXACT else f"WRONG {error:.2g}"
    if error < EXACT:
        return f"in float32 {error:.0e}"
    against_plain = error / gradient_error(CANDIDATES["plain"], case, dtype)
    verdict = "yes" if against_plain <= AS_PLAIN else "coarser" if error < WRONG else "WRONG"
    return f"{verdict} {error:.0e} ({against_plain:.2f}×)"


def correct(names: list[str]) -> None:
    """Print the matrix of candidates and cases."""
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported: its kernels then run as Python
    print_row("candidate", "from", *CASES)
    print_row(*["---"] * (2 + len(CASES)))
    for name in names:
        candidate = CANDIDATES[name]
        if candidate.release is None:
            print(f"{name}: {candidate.package} is not installed", file=sys.stderr)
            continue
        print_row(name, candidate.release, *(judged(candidate, case) for case in CASES))


# Time and memory -----------------------------------------------------------------------------------------------------


def random_problem(rows: int, words: int, hidden: int, dtype: torch.dtype, device: str) -> Problem:
    """Logits of standard deviation 1, weights between 1 and 5."""
    rng = torch.Generator().manual_seed(0)
    return Problem(
        rows=torch.randn(rows, hidden, generator=rng).to(device, dtype).requires_grad_(),
        weight=(torch.randn(words, hidden, generator=rng) / hidden**0.5).to(device, dtype).requires_grad_(),
        labels=torch.randint(words, (rows,), generator=rng).to(device),
        coefficients=(torch.rand(rows, generator=rng) * 4 + 1).to(device),
    )


def step(candidate: Candidate, problem: Problem) -> None:
    """Forward and backward pass into fresh gradients."""
    for tensor in problem.learning:
        tensor.grad = None
    candidate.total(problem).backward()


def seconds(function: Callable[[], object]) -> float:
    """What one call takes: wall time with a GPU, else CPU time of this process, whoever else is at work."""
    if not torch.cuda.is_available():
        start = time.process_time()
        function()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(function: Callable[[], object]) -> int:
    """Most that torch's allocators held at once beyond what was there before, from the profiler's memory events."""
    with warnings.catch_warnings(), torch.profiler.profile(profile_memory=True) as profile:
        warnings.simplefilter("ignore")
        function()
    results = profile.profiler.kineto_results  # type: ignore[union-attr]
    events = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    held = most = 0
    for _, nbytes in events:
        held += nbytes
        most = max(most, held)
    return most


def interleaved(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every function in every round; all run once a round, beginning with another each time."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for function in functions.values():
        function()
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(seconds(functions[name]))
    return found


def ratios(found: dict[str, list[float]], name: str, to: str) -> str:
    """Median of the ratio within a round, with its extremes."""
    each = [mine / other for mine, other in zip(found[name], found[to], strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})"


def speed(names: list[str], shape: tuple[int, int, int], dtype: torch.dtype, repeats: int, device: str) -> None:
    """Print time and peak memory of forward and backward pass, as ratios to plain logits."""
    problem = random_problem(*shape, dtype, device)
    functions: dict[str, Callable[[], object]] = {}
    for name in names:
        candidate = CANDIDATES[name]
        if candidate.release is None or (candidate.triton_kernel and device == "cpu"):
            print(f"{name}: {'needs a GPU' if candidate.release else 'not installed'}", file=sys.stderr)
            continue
        functions[name] = lambda candidate=candidate: step(candidate, problem)
    found = interleaved(functions, repeats)
    memory = {}
    for name, function in functions.items():
        for tensor in problem.learning:
            tensor.grad = None
        memory[name] = peak_bytes(function)
    print(f"{'x'.join(map(str, shape))}, {dtype}, {device}, {torch.get_num_threads()} threads, {repeats} rounds\n")
    print_row("candidate", "time", "median ms", "peak memory", "MiB")
    print_row(*["---"] * 5)
    for name in functions:
        share = f"{memory[name] / memory['plain']:.2f}"
        milliseconds = f"{1e3 * statistics.median(found[name]):.0f}"
        print_row(name, ratios(found, name, "plain"), milliseconds, share, f"{memory[name] / MIB:.0f}")


def scores(shape: tuple[int, int, int], repeats: int) -> None:
    """Print what a score of the second pass costs beside the loss of the first."""
    problem = random_problem(*shape, torch.float32, "cpu")
    head = LinearHead(weight=problem.weight.detach())
    rows = problem.rows.detach()
    functions: dict[str, Callable[[], object]] = {
        "loss": lambda: step(Candidate(total=ours), problem),
        "label logit": lambda: head.label_logits(rows, problem.labels),
        "log-probability": lambda: label_scores(rows, problem.labels, head),
    }
    found = interleaved(functions, repeats)
    print_row("what", "time / loss", "median ms", "peak MiB")
    print_row(*["---"] * 4)
    for name, function in functions.items():
        milliseconds = 1e3 * statistics.median(found[name])
        print_row(name, ratios(found, name, "loss"), f"{milliseconds:.1f}", f"{peak_bytes(function) / MIB:.1f}")


# Command line --------------------------------------------------------------------------------------------------------


def print_row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def shape_of(text: str) -> tuple[int, int, int]:
    """ROWSxVOCABULARYxHIDDEN."""
    rows, words, hidden = map(int, text.split("x"))
    return rows, words, hidden


def main(arguments: list[str] | None = None) -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["correct", "speed", "scores"])
    parser.add_argument("--candidates", nargs="+", choices=list(CANDIDATES))
    parser.add_argument("--shape", type=shape_of, default=(1024, 32000, 512), help="ROWSxVOCABULARYxHIDDEN")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args(arguments)
    if chosen.what == "scores" and chosen.candidates:
        parser.error("scores compares no candidates")
    names = chosen.candidates or NAMES.get(chosen.what, [])
    if chosen.what == "correct":
        correct(names)
    elif chosen.what == "speed":
        speed(
            ["plain", *(name for name in names if name != "plain")],
            chosen.shape,
            getattr(torch, chosen.dtype),
            chosen.repeats,
            chosen.device,
        )
    else:
        scores(chosen.shape, chosen.repeats)


if __name__ == "__main__":
    main()
