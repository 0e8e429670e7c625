"""An evaluation that asks the model nothing."""

from typing import Any

from contralign.evaluation.evaluation_set import EvaluationSet


def lengths(model: Any, collator: Any, data: EvaluationSet, *, scale: float = 1.0) -> dict[str, Any]:
    words = [len(sample.turns[-1].text.split()) for sample in data.samples]
    return {"words": scale * sum(words) / len(words), "samples": len(words)}
