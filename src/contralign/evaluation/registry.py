"""Evaluations that a recipe can name: (model, collator, EvaluationSet, its own settings by name) -> numbers.

What they return is nested dicts and lists of numbers and strings, as JSON holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contralign.evaluation.answers import answer_accuracy
from contralign.evaluation.delta_table import delta_table
from contralign.evaluation.grounding import grounding
from contralign.evaluation.retrieval import retrieval

EVALUATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "grounding": grounding,
    "answers": answer_accuracy,
    "retrieval": retrieval,
    "delta": delta_table,
}
