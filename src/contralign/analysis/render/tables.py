"""Results as tables: one column an arm, one row a number, each with its 95 % interval."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Mapping[str, Any]]
Path = tuple[str, ...]
Show = Callable[[float], str]

KINDS = {
    "visual": "visual tokens",
    "filler": "filler tokens",
    "contradictory": "contradictory tokens",
    "all": "all label tokens",
}
PICTURES = {"right": "own picture", "wrong": "wrong picture", "none": "no picture", "wrong_minus_right": "wrong − own"}
TASKS = {
    "visual_vs_filler": "visual over filler tokens",
    "visual_vs_contradictory": "visual over contradictory tokens",
    "right_vs_wrong_picture": "held-out captions: own over wrong picture",
    "right_vs_swapped_training": "training captions: kept over swapped picture",
}
SCORES = {
    "logit": "Δ logit",
    "centred": "Δ centred logit",
    "logprob": "Δ log-probability",
    "logit_weight": "weight from Δ logit",
    "centred_weight": "weight from Δ centred logit",
    "logprob_weight": "weight from Δ log-probability",
}
CONTRASTS = {
    "drop": ("no picture", "no picture but the words {!r}"),
    "mask": ("hidden picture", ""),
    "shuffle": ("another picture", ""),
    "mean": ("mean picture", "mean picture, tokens kept: {}"),
    "patches": ("covered patches", "covered patches, share {}"),
    "blur": ("blurred picture", "blurred picture, σ = {}"),
}
"""Title of a contrast alone, and with its setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number of one arm, written out; `interval` and `count` are "" where there is none."""

    value: str
    interval: str = ""
    count: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line: group and name of a number, and a cell for every arm, None where the arm lacks it."""

    group: str
    name: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTable:
    """A table.

    Attributes:
        title: its heading.
        note: how to read it.
        arms: heads of its columns.
        rows: top to bottom; may be empty.
        folded: long and secondary, shown on demand.
    """

    title: str
    note: str
    arms: tuple[str, ...]
    rows: tuple[Row, ...]
    folded: bool = False


def result_tables(results: Results) -> list[ResultTable]:
    """The tables of all evaluations that some arm has; none at all where nothing was evaluated.

    Args:
        results: arm -> evaluation -> nested numbers, as `contralign.evaluation` returns them.
    """
    names = dict.fromkeys(name for evaluations in results.values() for name in evaluations)
    tables: list[ResultTable] = []
    for name in names:
        arms = {arm: evaluations.get(name, {}) for arm, evaluations in results.items()}
        layout = _LAYOUTS.get(name)
        tables += layout(arms) if layout else _unknown_evaluation(name, arms)
    return [table for table in tables if table.rows]


def _grounding(arms: Results) -> list[ResultTable]:
    return [
        _table(
            "Does it say what is there?",
            "Share of held-out label tokens that are the model's most likely token, the true words before them given. "
            "A wrong picture is another held-out sample's.",
            arms,
            _rows(arms, KINDS, PICTURES, "accuracy", _share),
        ),
        _table(
            "Loss with the right picture, a wrong one and none",
            "Nats per label token. No picture: image tokens are taken out and the text keeps its positions, as in the "
            "second pass of CAL. A loss that rises without a picture may only show that captions are not plain text; "
            "one that rises with a wrong picture shows that the picture is read.",
            arms,
            _rows(arms, KINDS, PICTURES, "nll", _number),
        ),
        _table(
            "What Δ tells apart",
            "Area under the ROC curve; 0.5 is chance, 1 is perfect. Of tokens: Δ as it comes, and as a weight, clamped "
            "to [1, 5] and averaged over 3. Of captions: their mean Δ. An area of exactly 0 or 1 has no interval.",
            arms,
            _rows(arms, TASKS, SCORES, "auc", _number),
        ),
    ]


def _delta(arms: Results) -> list[ResultTable]:
    """A table a task: contrasts from top to bottom, scores from left to right, arms below one another."""
    tables: list[ResultTable] = []
    for task, told_apart in TASKS.items():
        scores = [score for score in SCORES if _has_area(arms, task, score)]
        rows = [
            Row(
                group=arm if len(arms) > 1 else "",
                name=_contrast_title(contrast),
                cells=tuple(_cell(_value_at(by_score, (score, task)), _number) for score in scores),
            )
            for arm, found in arms.items()
            for contrast, by_score in found.get("auc", {}).items()
        ]
        tables.append(
            ResultTable(
                title=f"Contrasts compared: {told_apart}",
                note="Area under the ROC curve; 0.5 is chance, 1 is perfect. Rows: what the second pass sees. Columns: "
                "Δ as it comes, and as a weight, clamped to [1, 5] and averaged over 3. An area of exactly 0 or 1 has "
                "no interval.",
                arms=tuple(SCORES[score] for score in scores),
                rows=tuple(row for row in rows if any(row.cells)),
            )
        )
    return tables


def _has_area(arms: Results, task: str, score: str) -> bool:
    """Whether some arm has an area of this task and score under some contrast."""
    looks = [by_score for found in arms.values() for by_score in found.get("auc", {}).values()]
    return any(_cell(_value_at(by_score, (score, task)), _number) for by_score in looks)


def _contrast_title(name: str) -> str:
    """A contrast such as "blur:10" in words; a name that nothing is known about as it is."""
    word, colon, setting = name.partition(":")
    alone, with_setting = CONTRASTS.get(word, (name, name))
    return with_setting.format(setting) if colon else alone


def _answers(arms: Results) -> list[ResultTable]:
    summary = [
        _row(arms, "", "exact match", ("accuracy",), _share),
        _row(arms, "without looking", "most frequent answer", ("majority",), _share),
        _row(arms, "without looking", "most frequent answer to the type of question", ("type_majority",), _share),
    ]
    types = sorted({kind for found in arms.values() for kind in found.get("types", {})})
    by_type = [
        _row(arms, kind, title, ("types", kind, section), _share)
        for kind in types
        for section, title in (("accuracy", "exact match"), ("majority", "most frequent answer"))
    ]
    return [
        _table("Answers", "Greedy answers to held-out questions that equal the reference.", arms, summary),
        _table("Answers by type of question", "", arms, by_type, folded=True),
    ]


def _retrieval(arms: Results) -> list[ResultTable]:
    rules = {
        "sum": "by log-likelihood",
        "mean": "by log-likelihood per token",
        "gain": "by what the picture adds to the log-likelihood",
    }
    accuracies = [_row(arms, "", title, ("accuracy", rule), _share) for rule, title in rules.items()]
    return [
        _table(
            "Which caption is the picture's?",
            "Share of held-out pictures whose own caption scores highest among several, the others being those of "
            "other samples or one visual word off.",
            arms,
            [*accuracies, _row(arms, "", "chance", ("chance",), _share)],
        )
    ]


def _unknown_evaluation(name: str, arms: Results) -> list[ResultTable]:
    """Every number of an evaluation that nothing is known about."""
    paths = dict.fromkeys(path for found in arms.values() for path in _paths(found))
    rows = [_row(arms, ".".join(path[:-1]), path[-1], path, _number) for path in paths]
    return [_table(name, "", arms, rows)]


def _paths(numbers: Mapping[str, Any], above: Path = ()) -> Iterator[Path]:
    for name, value in numbers.items():
        path = (*above, str(name))
        if isinstance(value, Mapping) and "value" not in value:
            yield from _paths(value, path)
        elif isinstance(value, (int, float, Mapping)) and not isinstance(value, bool):
            yield path


# The gallery of a run has a section of its own.
_LAYOUTS: dict[str, Callable[[Results], list[ResultTable]]] = {
    "grounding": _grounding,
    "delta": _delta,
    "answers": _answers,
    "retrieval": _retrieval,
    "gallery": lambda arms: [],
}


def _table(title: str, note: str, arms: Results, rows: Sequence[Row | None], folded: bool = False) -> ResultTable:
    kept = tuple(row for row in rows if row is not None)
    return ResultTable(title=title, note=note, arms=tuple(arms), rows=kept, folded=folded)


def _rows(
    arms: Results, groups: Mapping[str, str], names: Mapping[str, str], section: str, show: Show
) -> list[Row | None]:
    return [
        _row(arms, group_title, title, (section, group, name), show)
        for group, group_title in groups.items()
        for name, title in names.items()
    ]


def _row(arms: Results, group: str, name: str, path: Path, show: Show) -> Row | None:
    """None where no arm has a value."""
    cells = tuple(_cell(_value_at(found, path), show) for found in arms.values())
    return Row(group=group, name=name, cells=cells) if any(cells) else None


def _value_at(numbers: Any, path: Path) -> Any:
    for name in path:
        numbers = numbers.get(name) if isinstance(numbers, Mapping) else None
    return numbers


def _cell(found: Any, show: Show) -> Cell | None:
    if isinstance(found, (int, float)):
        return Cell(value=str(found) if isinstance(found, int) else show(found))
    if not isinstance(found, Mapping) or found.get("value") is None:
        return None
    low, high = found.get("low"), found.get("high")
    interval = f"{show(low)} to {show(high)}" if low is not None and high is not None else ""
    return Cell(value=show(found["value"]), interval=interval, count=_count(found))


def _count(found: Mapping[str, Any]) -> str:
    if "positives" in found:
        return f"{found['positives']:,} against {found['negatives']:,}"
    return f"n = {found['n']:,}" if "n" in found else ""


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _number(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")  # + 0.0: a rounded −0.0 loses its sign
