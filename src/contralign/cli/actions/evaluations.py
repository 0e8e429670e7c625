"""The evaluations that a recipe may name; here training, evaluation and analysis meet."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from contralign.analysis.gallery import gallery_samples, write_gallery
from contralign.analysis.run_report import GALLERY_FILE
from contralign.analysis.token_delta import token_delta
from contralign.data.batches.collator import VLCollator
from contralign.evaluation.evaluation_set import EvaluationSet, draw
from contralign.evaluation.generation import generate
from contralign.evaluation.registry import EVALUATIONS
from contralign.nearest import nearest
from contralign.recipe.recipe import Recipe
from contralign.recipe.schema import RecipeError, check_keywords
from contralign.run.steps import Evaluation, TrainedArm

GALLERY = "gallery"


def gallery(
    model: Any, collator: VLCollator, data: EvaluationSet, folder: Path, *, samples: int = 12, max_new_tokens: int = 64
) -> dict[str, Any]:
    """Write some held-out samples for the report: captions with Δ of every word, and the model's own captions.

    Args:
        model: a model that `adapter_for` serves.
        collator: of its processor.
        data: held-out samples; every arm shows the same ones.
        folder: of gallery.jsonl.
        samples: number of samples.
        max_new_tokens: longest generated caption.

    Returns:
        No numbers.
    """
    chosen = draw(data.samples, samples, data.seed, GALLERY)
    shown = gallery_samples(
        chosen, token_delta(model, collator, chosen), generate(model, collator, chosen, max_new_tokens=max_new_tokens)
    )
    write_gallery(folder / GALLERY_FILE, shown)
    return {}


def bind_evaluations(recipe: Recipe) -> dict[str, Evaluation]:
    """The evaluations that a recipe names, with their settings bound.

    Raises:
        RecipeError: an unknown evaluation, or a setting that it does not have.
    """
    bound: dict[str, Evaluation] = {}
    for name, settings in recipe.evaluate.items():
        if name != GALLERY and name not in EVALUATIONS:
            raise RecipeError(f"evaluate.{name}: unknown evaluation; {nearest(name, [*EVALUATIONS, GALLERY])}")
        function = gallery if name == GALLERY else EVALUATIONS[name]
        check_keywords(function, settings or {}, f"evaluate.{name}", given=("model", "collator", "data", "folder"))
        bound[name] = _on_arm(name, function, settings or {})
    return bound


def _on_arm(name: str, function: Callable[..., dict[str, Any]], settings: Mapping[str, Any]) -> Evaluation:
    def evaluate(arm: TrainedArm, folder: Path) -> dict[str, Any]:
        data = EvaluationSet(
            samples=arm.held_out.samples, train=arm.train.samples, swapped_ids=arm.swapped_ids, seed=arm.seed
        )
        place = (folder,) if name == GALLERY else ()
        return function(arm.model, arm.collate, data, *place, **settings)

    return evaluate
