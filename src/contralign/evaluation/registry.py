"""Evaluations that a recipe can name: (model, collator, EvaluationSet, its own settings by name) -> numbers.

What they return is nested dicts and lists of numbers and strings, as JSON holds them.
"""

from contralign.plugins import Registry

EVALUATIONS = Registry(
    "contralign.evaluations",
    "evaluation",
    {
        "grounding": "contralign.evaluation.grounding:grounding",
        "answers": "contralign.evaluation.answers:answer_accuracy",
        "retrieval": "contralign.evaluation.retrieval:retrieval",
        "delta": "contralign.evaluation.delta_table:delta_table",
    },
)
