"""Rows of an ablation summed up over seeds, and compared with their reference in pairs of equal seed."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from contralign.ablation.settings import ARM, Metric, Point
from contralign.ablation.summary.results import Results
from contralign.evaluation.metrics.paired import PairedDifference, mean_of, paired_difference

ANY = "any"
"""Shown for an axis that makes no difference to a row, such as β to an arm of plain training."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row against its reference.

    Attributes:
        reference: the row that it is compared with.
        by_seed: seed -> this row minus the reference, for the seeds that both have.
        difference: their mean with its intervals.
    """

    reference: Point
    by_seed: dict[int, float]
    difference: PairedDifference

    def better_seeds(self, metric: Metric) -> tuple[int, int]:
        """In how many seeds this row is better, and in how many worse, than the reference."""
        sign = 1 if metric.better == "higher" else -1
        signs = [sign * difference for difference in self.by_seed.values()]
        return sum(one > 0 for one in signs), sum(one < 0 for one in signs)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One metric of one row over its seeds.

    Attributes:
        row: axis -> label or "any", the arm among them.
        metric: what was measured.
        mean: over seeds, with its t interval.
        comparisons: one for every reference of the ablation, in order; None where the row is the reference itself, or
            where it has no seed in common with it yet.
    """

    row: Point
    metric: Metric
    mean: PairedDifference
    comparisons: tuple[Comparison | None, ...]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Time of an optimizer step of the last stage.

    Attributes:
        row: axis -> label or "any", the arm among them.
        seconds: median over seeds.
        ratio: to the first reference, median over seeds; None where the row is the reference.
        low: smallest ratio of a seed.
        high: largest.
        n: seeds.
    """

    row: Point
    seconds: float
    ratio: float | None
    low: float | None
    high: float | None
    n: int


def summaries(results: Results, metric: Metric) -> list[Summary]:
    """A metric of every row; rows that have the same results for every seed are one."""
    return [_summary(results, metric, row, shown) for row, shown in shown_rows(results)]


def costs(results: Results) -> list[Cost]:
    """Time of a step in every row; rows that have the same results for every seed are one."""
    reference = results.ablation.references[0]
    found = []
    for row, shown in shown_rows(results):
        own = _seconds_per_step(results, row)
        against = _seconds_per_step(results, {**row, **reference})
        is_reference = results.keys({**row, **reference}) == results.keys(row)
        ratios = [] if is_reference else [own[seed] / against[seed] for seed in own if against.get(seed)]
        if own:
            found.append(
                Cost(
                    row=shown,
                    seconds=statistics.median(own.values()),
                    ratio=statistics.median(ratios) if ratios else None,
                    low=min(ratios, default=None),
                    high=max(ratios, default=None),
                    n=len(own),
                )
            )
    return found


def comparison_lines(results: Results) -> Iterator[dict[str, Any]]:
    """Every summary as flat lines, for parquet: one a row, metric and reference."""
    for metric in results.ablation.metrics:
        for summary in summaries(results, metric):
            for reference, comparison in zip(results.ablation.references, summary.comparisons, strict=True):
                difference = comparison.difference if comparison else PairedDifference(mean=None, n=0)
                yield {
                    **summary.row,
                    "metric": metric.path,
                    "label": metric.title,
                    "unit": metric.unit,
                    "better": metric.better,
                    "seeds": summary.mean.n,
                    "mean": summary.mean.mean,
                    "mean_low": summary.mean.low,
                    "mean_high": summary.mean.high,
                    "reference": name_of(reference),
                    "pairs": difference.n,
                    "difference": difference.mean,
                    "t_low": difference.low,
                    "t_high": difference.high,
                    "t_p": difference.p,
                    "bootstrap_low": difference.bootstrap_low,
                    "bootstrap_high": difference.bootstrap_high,
                    "sign_flip_p": difference.sign_flip_p,
                }


def name_of(reference: Point) -> str:
    """A reference in a few words: mle, or clamp=[1, 5] arm=cal."""
    if list(reference) == [ARM]:
        return reference[ARM]
    return " ".join(f"{axis}={label}" for axis, label in reference.items())


def alike_rows(results: Results) -> list[list[Point]]:
    """Rows by what they rest on: those of one list have the same results, and are compared with the same results."""
    alike: dict[tuple[tuple[tuple[int, str], ...], ...], list[Point]] = {}
    for row in results.rows:
        compared = [row, *({**row, **reference} for reference in results.ablation.references)]
        rests_on = tuple(tuple(sorted(results.keys(one).items())) for one in compared)
        alike.setdefault(rests_on, []).append(row)
    return list(alike.values())


def shown_rows(results: Results) -> list[tuple[Point, Point]]:
    """For all rows that are alike the first of them, and how it is shown: "any" for an axis in which they differ."""
    return [
        (rows[0], {axis: label if all(row[axis] == label for row in rows) else ANY for axis, label in rows[0].items()})
        for rows in alike_rows(results)
    ]


def _summary(results: Results, metric: Metric, row: Point, shown: Point) -> Summary:
    own = results.by_seed(row, metric.path)
    comparisons = [_compare(results, metric, row, own, reference) for reference in results.ablation.references]
    return Summary(row=shown, metric=metric, mean=mean_of(list(own.values())), comparisons=tuple(comparisons))


def _compare(
    results: Results, metric: Metric, row: Point, own: dict[int, float], reference: Point
) -> Comparison | None:
    against = {**row, **reference}
    if results.keys(against) == results.keys(row):
        return None
    there = results.by_seed(against, metric.path)
    seeds = [seed for seed in own if seed in there]
    if not seeds:
        return None
    return Comparison(
        reference=against,
        by_seed={seed: own[seed] - there[seed] for seed in seeds},
        difference=paired_difference([own[seed] for seed in seeds], [there[seed] for seed in seeds]),
    )


def _seconds_per_step(results: Results, row: Point) -> dict[int, float]:
    return {one.seed: one.seconds / one.steps for one in results.measured if one.row == row and one.steps}
