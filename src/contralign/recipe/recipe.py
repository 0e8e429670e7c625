"""A whole recipe as values: its sections, each in a module of its own, and what they share.

`recipe_file` reads the YAML, `checks` says what the sections must agree on, `plan` what a run of it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any

from annotated_types import Ge

from contralign.recipe.data_settings import DataSettings
from contralign.recipe.model_settings import ModelSettings
from contralign.recipe.stage_settings import Stage
from contralign.training.cal_settings import CalSettings


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run: from a model and records to one trained model an arm, with its evaluations.

    Attributes:
        name: of the run; the folder under runs/ where `output_dir` is not given.
        output_dir: the run directory.
        seed: of new weights, of the order of the records and of every draw.
        model: where training starts.
        data: the records.
        stages: run in the order they stand in.
        cal: settings of contrastive alignment; None is plain training.
        arms: name -> settings of `cal` that differ in this arm; null is an arm of plain training. All arms start the
            first stage with `cal: true` from the same weights and see the same records in the same order.
        evaluate: evaluation -> its settings; run at the end on every arm.
        report: write report.html.
        trainer: any other argument of transformers.TrainingArguments, for every stage.
    """

    name: str
    output_dir: str | None = None
    seed: Annotated[int, Ge(0)] = 0
    model: ModelSettings
    data: DataSettings
    stages: dict[str, Stage]
    cal: CalSettings | None = None
    arms: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    evaluate: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    report: bool = True
    trainer: dict[str, Any] = field(default_factory=dict)


def plain(value: Any) -> Any:
    """A recipe, or a part of one, as the mappings, lists and scalars that YAML holds."""
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value
