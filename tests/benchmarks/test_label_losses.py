"""The comparison of label losses: that it finds right gradients right and wrong ones wrong, and counts bytes truly."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HERE = (
    "plain",
    "torch, automatic chunks",
    "torch, 5 rows a chunk",
    "ours",
    "ours, 5 rows a chunk",
    "ours, any head",
    "ours, any head, 5 rows a chunk",
    "TRL",
)
"""Candidates that need no GPU package."""


@pytest.fixture
def losses(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("label_losses")


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("case", ["weights", "bias", "scale", "soft-cap", "tied head", "frozen head", "frozen rows"])
def test_candidates_agree_with_float64_on_every_gradient(losses, name, case):
    verdict = losses.judged(losses.CANDIDATES[name], case)
    assert verdict.startswith("yes") or (verdict == "–" and name.startswith("torch") and case == "soft-cap")


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("case", ["half", "autocast"])
def test_in_bfloat16_none_is_worse_than_plain_logits(losses, name, case):
    assert losses.judged(losses.CANDIDATES[name], case).startswith(("yes", "in float32"))


def test_who_does_not_follow_autocast_is_named(losses):
    assert losses.judged(losses.CANDIDATES["torch, 5 rows a chunk"], "autocast").startswith("in float32")
    assert losses.judged(losses.CANDIDATES["ours"], "autocast").startswith("yes")


def test_the_coefficients_of_a_case_vary(losses):
    assert losses.case_problem("weights", torch.float32).coefficients.std() > 1


@pytest.mark.parametrize("case", ["weights", "half"])
def test_a_gradient_without_the_weights_is_found_wrong(losses, case):
    def unweighted(problem):
        mean = problem.coefficients.mean().expand_as(problem.coefficients)
        return losses.CANDIDATES["plain"].total(replace(problem, coefficients=mean))

    assert losses.judged(replace(losses.CANDIDATES["plain"], total=unweighted), case).startswith("WRONG")


def test_a_package_that_raises_is_refused_and_says_why(losses, capsys):
    def broken(problem):
        raise AssertionError("no such head")

    assert losses.judged(replace(losses.CANDIDATES["plain"], total=broken), "bias") == "refused"
    assert "no such head" in capsys.readouterr().err


def test_the_matrix_has_a_row_for_every_candidate_that_is_installed(losses, capsys, monkeypatch):
    monkeypatch.setitem(losses.CANDIDATES, "absent", replace(losses.CANDIDATES["plain"], package="no-such-package"))
    monkeypatch.setattr(losses, "CASES", ("weights", "bias"))
    losses.correct(["plain", "absent", "ours"])
    out, err = capsys.readouterr()
    assert [line.split("|")[1].strip() for line in out.splitlines()] == ["candidate", "---", "plain", "ours"]
    assert "absent: no-such-package is not installed" in err


def test_peak_memory_is_what_was_held_at_once(losses):
    mib = 2**20

    def allocate():
        first = torch.empty(3 * mib, dtype=torch.uint8)
        second = torch.empty(2 * mib, dtype=torch.uint8)
        del first, second
        return torch.empty(4 * mib, dtype=torch.uint8)

    assert losses.peak_bytes(allocate) == 5 * mib


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ours_holds_the_logits_of_one_chunk_beside_the_gradients(losses, dtype):
    rows, words, hidden, chunk = 600, 1000, 8, 100
    problem = losses.random_problem(rows, words, hidden, dtype, "cpu")
    peak = losses.peak_bytes(lambda: losses.step(losses.Candidate(total=lambda p: losses.ours(p, chunk)), problem))
    logits = chunk * words * (4 if dtype == torch.float32 else 4 + 2 + 4)  # float32, raw, and raised for the product
    gradients = (rows + words) * hidden * 8
    assert logits <= peak <= logits + gradients + 60_000


def test_rounds_call_every_function_once_and_begin_with_another(losses):
    order = []
    found = losses.interleaved({name: lambda name=name: order.append(name) for name in "abc"}, repeats=3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(times) for name, times in found.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_the_median_over_rounds_with_its_extremes(losses):
    assert losses.ratios({"mine": [1.0, 6.0, 3.0], "plain": [1.0, 2.0, 2.0]}, "mine", "plain") == "1.50 (1.00–3.00)"


def test_speed_prints_a_row_for_every_candidate(losses, capsys):
    losses.main(["speed", "--shape", "6x40x8", "--repeats", "2", "--candidates", "ours", "torch, automatic chunks"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[1].strip() for row in rows[2:]] == ["plain", "ours", "torch, automatic chunks"]
    assert rows[2][2].strip() == "1.00 (1.00–1.00)" and rows[2][4].strip() == "1.00"


def test_scores_prints_what_both_scores_cost(losses, capsys):
    losses.main(["scores", "--shape", "6x40x8", "--repeats", "2"])
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()]
    assert rows == ["what", "---", "loss", "label logit", "log-probability"]


def test_scores_takes_no_candidates(losses, capsys):
    with pytest.raises(SystemExit):
        losses.main(["scores", "--candidates", "ours"])
    assert "compares no candidates" in capsys.readouterr().err
