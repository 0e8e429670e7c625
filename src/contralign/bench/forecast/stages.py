"""A recipe's stages put in numbers: what learns, how many steps and tokens, what it takes of memory and time."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from contralign.bench.forecast.cost import cost_of, weights_of
from contralign.bench.forecast.sources import SourceForecast, check_projector, inspect_sources
from contralign.bench.forecast.tokens import RecordTokens, estimate, measure
from contralign.bench.plan.gpus import GPUS
from contralign.bench.plan.lookup import by_name
from contralign.bench.plan.predict import Plan
from contralign.recipe.data_settings import DataSettings
from contralign.recipe.model_settings import TINY
from contralign.recipe.plan import RunPlan, StagePlan
from contralign.recipe.recipe import Recipe
from contralign.recipe.stage_settings import Stage
from contralign.run.arguments import count_steps
from contralign.run.build import check_vocabulary, load_processor, outline_model, ready_to_learn
from contralign.run.learning.trainable_parts import part_of
from contralign.run.preflight import cal_configs
from contralign.run.records import make_collator
from contralign.training.config import CalConfig


@dataclass(frozen=True, kw_only=True)
class StageForecast:
    """One stage.

    Attributes:
        name: of the stage.
        kind: of the stage.
        cal: CAL's settings in it; None is plain maximum likelihood.
        learns: part -> weights that learn, and their peak learning rate; empty where the shapes are not known.
        frozen: weights that do not learn.
        sources: where the records come from.
        records: of all sources; None where nobody knows.
        steps: optimizer steps; None where the records are not counted.
        batch_size: records of a micro-batch.
        accumulation: micro-batches a step.
        gpus: devices.
        tokens: mean lengths of a record.
        plan: memory and time; None where the shapes are not known.
        plain: the same without CAL.
        sharding: the file of recipes/accelerate/, without ".yaml", that is counted; "" on one device.
        left_out: parts of the model that time and memory do not count.
    """

    name: str
    kind: str
    cal: CalConfig | None
    learns: Mapping[str, tuple[int, float]]
    frozen: int
    sources: Sequence[SourceForecast]
    records: int | None
    steps: int | None
    batch_size: int
    accumulation: int
    gpus: int
    tokens: RecordTokens
    plan: Plan | None
    plain: Plan | None
    sharding: str
    left_out: str

    @property
    def global_batch(self) -> int:
        """Records of a step."""
        return self.batch_size * self.accumulation * self.gpus

    @property
    def hours(self) -> float | None:
        """Of the whole stage."""
        return None if self.plan is None or self.steps is None else self.plan.step_seconds * self.steps / 3600


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A whole recipe.

    Attributes:
        recipe: what was forecast.
        parameters: of the model; None where the shapes are not known.
        gpus: devices.
        gpu: their kind.
        stages: in order.
    """

    recipe: Recipe
    parameters: int | None
    gpus: int
    gpu: str
    stages: Sequence[StageForecast]

    @property
    def problems(self) -> list[str]:
        """What is to be done before training, once each."""
        found = [source.problem for stage in self.stages for source in stage.sources]
        of_data = dict.fromkeys(problem for problem in found if problem is not None)
        return [*check_projector(self.recipe.model), *of_data]


def forecast(run: RunPlan, gpus: int | None = None, gpu: str = "a100") -> Forecast:
    """What a recipe will do on so many GPUs; nothing is fetched, built or trained.

    Args:
        run: the plan of a recipe.
        gpus: how many; None takes as many as share a step without accumulation.
        gpu: which; see `contralign.bench.plan.gpus.GPUS`.

    Raises:
        RecipeError: so many GPUs cannot share a stage's batch, or a part's configuration is unknown.
        ValueError: unknown GPU.
    """
    by_name(GPUS, gpu, "GPU")
    recipe = run.recipe
    devices = _devices(recipe) if gpus is None else gpus
    model = None if recipe.model.path == TINY else outline_model(recipe.model)
    stages = [_stage(run, stage, model, devices, gpu) for stage in run.stages.values()]
    parameters = None if model is None else _numel(outline_model(recipe.model) if recipe.model.lora else model)
    return Forecast(recipe=recipe, parameters=parameters, gpus=devices, gpu=gpu, stages=stages)


def _devices(recipe: Recipe) -> int:
    """As many as share a step of every stage without accumulation."""
    shares = [stage.global_batch // stage.batch_size for stage in recipe.stages.values() if stage.global_batch]
    return math.gcd(*shares) if shares else 1


def _stage(run: RunPlan, planned: StagePlan, model: Any, gpus: int, gpu: str) -> StageForecast:
    recipe, stage, data = run.recipe, planned.settings, planned.data
    accumulation = planned.accumulation(gpus)
    sources = inspect_sources(data)
    counted = [source.records for source in sources]
    records = data.count if data.streaming else None if None in counted else sum(count or 0 for count in counted)
    tokens = _tokens(recipe, data, sources, model)
    cal = next((config for config in cal_configs(run).values() if config is not None), None) if stage.cal else None
    steps = _steps(recipe, planned, records, gpus, accumulation)
    learns, frozen = {}, 0
    found: dict[str, Any] = {"plan": None, "plain": None, "sharding": "", "left_out": ""}
    if model is not None and stage.kind == "align":
        fresh = outline_model(recipe.model) if recipe.model.lora is not None else model
        learns, frozen = _learners(ready_to_learn(fresh, recipe.model, stage), stage)
    if model is not None and learns:
        weights = weights_of(recipe, model.config, sum(count for count, _ in learns.values()), frozen)
        found = cost_of(recipe, planned, cal, model.config, tokens, gpus, gpu, accumulation, weights)
    return StageForecast(
        name=planned.name,
        kind=stage.kind,
        cal=cal,
        learns=learns,
        frozen=frozen,
        sources=sources,
        records=records,
        steps=steps,
        batch_size=stage.batch_size,
        accumulation=accumulation,
        gpus=gpus,
        tokens=tokens,
        **found,
    )


def _steps(recipe: Recipe, planned: StagePlan, records: int | None, gpus: int, accumulation: int) -> int | None:
    """As they are counted in training: by the Trainer, for a stream by its plan, for one part by `count_steps`.

    To the Trainer the last, smaller batch of a pass is a step too, unless it is told to drop it.
    """
    stage = planned.settings
    if stage.steps is not None:
        return stage.steps
    if records is None:
        return None
    if stage.kind != "align":
        return count_steps(stage, records)
    if planned.data.streaming:
        return planned.stream_steps(gpus)
    whole, rest = divmod(records, stage.batch_size * gpus)
    batches = whole if recipe.trainer.get("dataloader_drop_last") or not rest else whole + 1
    return math.ceil((stage.epochs or 0) * math.ceil(batches / accumulation))


def _tokens(recipe: Recipe, data: DataSettings, sources: Sequence[SourceForecast], model: Any) -> RecordTokens:
    samples = [sample for source in sources for sample in source.samples]
    path = recipe.model.path
    if path is not None and Path(path).is_dir():
        processor = load_processor(path)
        check_vocabulary(path, processor)
        collate = make_collator(processor, replace(data, on_bad="error"))
        measured = measure(samples, collate, model.config.image_token_id)
        if measured is not None:
            return measured
    if model is None:
        return replace(
            estimate(samples, SimpleNamespace(model_type="unknown"), data.template, data.max_length),
            image=None,
            tiles=0.0,
        )
    return estimate(samples, model.config, data.template, data.max_length)


def _learners(ready: Any, stage: Stage) -> tuple[dict[str, tuple[int, float]], int]:
    """WeightCounts that learn, by part and with their rate, and the number of all others."""
    counts: Counter[str] = Counter()
    frozen = 0
    for name, parameter in ready.named_parameters():
        if parameter.requires_grad:
            counts[part_of(name) or "other"] += parameter.numel()
        else:
            frozen += parameter.numel()
    rates: Mapping[str, float] = stage.part_rates  # type: ignore[assignment]
    return {part: (count, rates.get(part, stage.learning_rate)) for part, count in counts.items()}, frozen


def _numel(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
