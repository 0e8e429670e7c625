"""A whole recipe: the sections of `model_settings`, `data_settings` and `stage_settings`, and what they must agree on.

`contralign.recipe.recipe_file` reads the YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, get_type_hints

from contralign.recipe.data_settings import DataSettings
from contralign.recipe.model_settings import TINY, ModelSettings
from contralign.recipe.schema import RecipeError, at_least, convert, from_mapping, merge, nearest
from contralign.recipe.stage_settings import ALONE, Stage
from contralign.recipe.stream_rules import check_streams
from contralign.training.config import CalConfig

OWNED_ARGUMENTS = {
    "output_dir": "output_dir",
    "run_name": "name",
    "seed": "seed",
    "data_seed": "seed",
    "learning_rate": "stages.NAME.learning_rate",
    "max_steps": "stages.NAME.steps",
    "num_train_epochs": "stages.NAME.epochs",
    "per_device_train_batch_size": "stages.NAME.batch_size",
    "gradient_accumulation_steps": "stages.NAME.grad_accumulation",
    "warmup_steps": "stages.NAME.warmup",
    "lr_scheduler_type": "stages.NAME.schedule",
    "weight_decay": "stages.NAME.weight_decay",
    "max_grad_norm": "stages.NAME.max_grad_norm",
    "resume_from_checkpoint": "--resume on the command line",
    "gradient_checkpointing": "trainer.activation_checkpointing",
    "gradient_checkpointing_kwargs": "trainer.activation_checkpointing_kwargs",
    "remove_unused_columns": "nothing; the collator needs every column, so leave it out and do not set it",
}
RESERVED_NAMES = ("start", "stages", "checkpoints", "evaluations", "shared")


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
    seed: int = 0
    model: ModelSettings
    data: DataSettings
    stages: dict[str, Stage]
    cal: CalConfig | None = None
    arms: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    evaluate: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    report: bool = True
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        if not self.stages:
            raise RecipeError("stages: empty; a recipe needs at least one")
        at_least("seed", self.seed, 0)
        for name, stage in self.stages.items():
            _check_name(f"stages.{name}", name)
            self.stage_data(name)
            if stage.kind in ALONE and self.model.path != TINY:
                raise RecipeError(
                    f"stages.{name}.kind: {stage.kind!r} is what the tiny LLaVA learns first; "
                    f"{self.model.origin} has learnt it already: leave the stage out"
                )
            if self.model.cache_features and "vision_tower" in stage.train:
                raise RecipeError(
                    f"stages.{name}.train: vision_tower cannot learn with model.cache_features, since its features "
                    "would change: leave one of them out"
                )
        for name in self.model.tokenizer_stages:
            if name not in self.stages:
                raise RecipeError(f"model.tokenizer_stages: no such stage; {nearest(name, self.stages)}")
        self._check_trainer()
        self._check_evaluations()
        self._check_cal()
        self._check_arms()
        check_streams(self)
        self._check_lora()

    def _check_lora(self) -> None:
        lora, quantization, dtype = self.model.lora, self.model.quantization, self.model.dtype
        if lora is not None and not any(part in stage.train for part in lora.parts for stage in self.stages.values()):
            raise RecipeError(f"model.lora has no effect: no stage has {' or '.join(lora.parts)} in train")
        if quantization != "none" and (lora is None or "language_model" not in lora.parts):
            raise RecipeError(
                f"model.quantization: {quantization} weights cannot learn; add model.lora, language_model in its parts"
            )
        if quantization != "none" and any(stage.kind in ALONE for stage in self.stages.values()):
            raise RecipeError("model.quantization: the tiny LLaVA learns its parts in full; set path to a trained one")
        if dtype == "bfloat16" and not self.trainer.get("bf16"):
            raise RecipeError(
                "model.dtype: bfloat16 needs trainer.bf16: true: what learns is kept in float32, since bfloat16 rounds "
                "AdamW's small steps away, and only under bf16 do layers of two dtypes meet"
            )

    def _check_trainer(self) -> None:
        if not self.trainer:
            return
        from transformers import TrainingArguments

        known = get_type_hints(TrainingArguments)
        known = {item.name: known[item.name] for item in fields(TrainingArguments) if item.name not in OWNED_ARGUMENTS}
        known["fsdp"] |= bool  # annotated as text, documented as true or false
        for name, value in self.trainer.items():
            if name in OWNED_ARGUMENTS:
                raise RecipeError(f"trainer.{name}: set {OWNED_ARGUMENTS[name]} instead")
            if name not in known:
                raise RecipeError(f"trainer.{name}: unknown setting; {nearest(name, known)}")
            convert(value, known[name], f"trainer.{name}")

    def _check_evaluations(self) -> None:
        if self.evaluate and not self.data.eval:
            raise RecipeError("evaluate: needs records that were held out; set data.eval")
        evaluates_while_training = self.trainer.get("eval_strategy", "no") != "no"
        if evaluates_while_training and not self.data.eval:
            raise RecipeError("trainer.eval_strategy: needs records that were held out; set data.eval")
        if self.data.eval and not self.evaluate and not evaluates_while_training:
            raise RecipeError(f"data.eval={list(self.data.eval)} has no effect: evaluate is empty")

    def _check_cal(self) -> None:
        cal_stages = [name for name, stage in self.stages.items() if stage.cal]
        if cal_stages and self.cal is None:
            fixes = " ".join(f"stages.{name}.cal=false" for name in cal_stages)
            raise RecipeError(f"stages.{cal_stages[0]}.cal: true needs CAL's settings: add `cal: {{}}`, or set {fixes}")
        if self.cal is not None and not cal_stages:
            raise RecipeError("cal has no effect: no stage has cal: true")

    def _check_arms(self) -> None:
        if not self.arms:
            return
        if self.cal is None:
            raise RecipeError(
                "arms: they differ in CAL alone, and this recipe has none; add `cal: {}`, or set arms=null"
            )
        if all(changes is None for changes in self.arms.values()):
            raise RecipeError("cal has no effect: every arm is null, which is plain training")
        for arm in self.arms:
            _check_name(f"arms.{arm}", arm)
            if arm in RESERVED_NAMES:
                raise RecipeError(f"arms.{arm}: the run directory keeps this name for itself; take another")
        self.arm_configs()

    @property
    def tokenizer_stages(self) -> tuple[str, ...]:
        """The stages from whose texts the tokenizer of a tiny model learns."""
        return self.model.tokenizer_stages or tuple(self.stages)

    def stage_data(self, stage: str) -> DataSettings:
        """`data` with the differences of one stage."""
        changes = self.stages[stage].data
        path = f"stages.{stage}.data"
        if "eval" in changes:
            raise RecipeError(f"{path}.eval has no effect: evaluations read data.eval")
        return from_mapping(DataSettings, merge(plain(self.data), changes), path) if changes else self.data

    def accumulation(self, stage: str, world: int) -> int:
        """Micro-batches a step of one stage on `world` devices.

        Raises:
            RecipeError: they cannot share the stage's global batch; the message says what can.
        """
        try:
            return self.stages[stage].accumulation(world)
        except ValueError as error:
            raise RecipeError(f"stages.{stage}: {error}") from error

    def arm_configs(self) -> dict[str, CalConfig | None]:
        """CAL's settings of every arm; without `arms` the one arm is "cal", or "mle" in a recipe without CAL."""
        if not self.arms:
            return {"mle" if self.cal is None else "cal": self.cal}
        base = plain(self.cal)
        return {
            arm: None if changes is None else from_mapping(CalConfig, {**base, **changes}, f"arms.{arm}")
            for arm, changes in self.arms.items()
        }

    @property
    def fork(self) -> int:
        """Index of the stage at which the arms part; with one arm it is 0, since nothing is shared."""
        if len(self.arm_configs()) == 1:
            return 0
        return [stage.cal for stage in self.stages.values()].index(True)

    def without_place(self) -> Recipe:
        """The recipe with no output folder: what two runs are compared by."""
        return replace(self, output_dir=None)


def plain(value: Any) -> Any:
    """A recipe, or a part of one, as the mappings, lists and scalars that YAML holds."""
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _check_name(path: str, name: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is None:
        raise RecipeError(f"{path}: {name!r} becomes a folder; use letters, digits, '-', '_' and '.'")
