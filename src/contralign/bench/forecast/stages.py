"""A recipe's stages put in numbers: what learns, how many steps and tokens, what it takes of memory and time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from contralign.bench.forecast.sources import SourceForecast, look_at_projector, look_at_sources
from contralign.bench.forecast.tokens import PREFIXES, RecordTokens, measure, reckon
from contralign.bench.plan.from_config import decoder_of, fine_tower_of, tower_of
from contralign.bench.plan.gpus import GPUS
from contralign.bench.plan.names import by_name
from contralign.bench.plan.predict import Plan, predict
from contralign.bench.plan.shapes import Sample, Tower, VLModel
from contralign.training.build import load_processor, outline_model, ready_to_learn
from contralign.training.config import CalConfig
from contralign.training.parts import part_of
from contralign.training.recipe import Recipe
from contralign.training.records import make_collator
from contralign.training.schema import RecipeError
from contralign.training.settings import TINY, DataSettings, ModelSettings, Stage

SHARDING: Mapping[str, Literal["ddp", "zero2", "zero3"]] = {
    "ddp": "ddp",
    "zero2": "zero2",
    "zero3": "zero3",
    "fsdp2": "zero3",
}


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
        sharding: the engine file of recipes/accelerate/, without ".yaml", that is counted; "" on one GPU.
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
        return [*look_at_projector(self.recipe.model), *of_data]


def forecast(recipe: Recipe, gpus: int | None = None, gpu: str = "a100") -> Forecast:
    """What a recipe will do on so many GPUs; nothing is fetched, built or trained.

    Args:
        recipe: resolved.
        gpus: how many; None takes as many as share a step without accumulation.
        gpu: which; see `contralign.bench.plan.gpus.GPUS`.

    Raises:
        RecipeError: so many GPUs cannot share a stage's batch, or a part's configuration is unknown.
        ValueError: unknown GPU.
    """
    by_name(GPUS, gpu, "GPU")
    devices = _devices(recipe) if gpus is None else gpus
    model = None if recipe.model.path == TINY else outline_model(recipe.model)
    stages = [_stage(recipe, name, model, devices, gpu) for name in recipe.stages]
    parameters = None if model is None else _numel(outline_model(recipe.model) if recipe.model.lora else model)
    return Forecast(recipe=recipe, parameters=parameters, gpus=devices, gpu=gpu, stages=stages)


def _devices(recipe: Recipe) -> int:
    """As many as share a step of every stage without accumulation."""
    shares = [stage.global_batch // stage.batch_size for stage in recipe.stages.values() if stage.global_batch]
    return math.gcd(*shares) if shares else 1


def _stage(recipe: Recipe, name: str, model: Any, gpus: int, gpu: str) -> StageForecast:
    stage, data = recipe.stages[name], recipe.stage_data(name)
    try:
        accumulation = stage.accumulation(gpus)
    except ValueError as error:
        raise RecipeError(f"stages.{name}: {error}") from error
    sources = look_at_sources(data)
    counted = [source.records for source in sources]
    records = data.count if data.streaming else None if None in counted else sum(count or 0 for count in counted)
    tokens = _tokens(recipe, data, sources, model)
    cal = next((config for config in recipe.arm_configs().values() if config is not None), None) if stage.cal else None
    steps = _steps(stage, records, stage.batch_size * accumulation * gpus)
    learns, frozen = {}, 0
    found: dict[str, Any] = {"plan": None, "plain": None, "sharding": "", "left_out": ""}
    if model is not None and stage.kind == "align":
        fresh = outline_model(recipe.model) if recipe.model.lora is not None else model
        ready = ready_to_learn(fresh, recipe.model, stage)
        learns, frozen = _learners(ready, stage)
        if learns:
            found = _cost(recipe, stage, cal, ready, tokens, gpus, gpu, accumulation)
    return StageForecast(
        name=name,
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


def _steps(stage: Stage, records: int | None, global_batch: int) -> int | None:
    """As the Trainer counts them: the last, smaller batch of a pass is a step too."""
    if stage.steps is not None:
        return stage.steps
    return None if records is None else math.ceil((stage.epochs or 0) * math.ceil(records / global_batch))


def _tokens(recipe: Recipe, data: DataSettings, sources: Sequence[SourceForecast], model: Any) -> RecordTokens:
    samples = [sample for source in sources for sample in source.samples]
    path = recipe.model.path
    if path is not None and Path(path).is_dir():
        collate = make_collator(load_processor(path), replace(data, on_bad="error"))
        measured = measure(samples, collate, model.config.image_token_id)
        if measured is not None:
            return measured
    if model is None:
        return replace(reckon(samples, _NoConfig(), data.template), image=None, tiles=0.0)
    return reckon(samples, model.config, data.template)


class _NoConfig:
    model_type = "unknown"


def _learners(ready: Any, stage: Stage) -> tuple[dict[str, tuple[int, float]], int]:
    """Weights that learn, by part and with their rate, and the number of all others."""
    counts: Counter[str] = Counter()
    frozen = 0
    for name, parameter in ready.named_parameters():
        if parameter.requires_grad:
            counts[part_of(name) or "other"] += parameter.numel()
        else:
            frozen += parameter.numel()
    rates: Mapping[str, float] = stage.part_rates  # type: ignore[assignment]
    return {part: (count, rates.get(part, stage.learning_rate)) for part, count in counts.items()}, frozen


def _cost(
    recipe: Recipe,
    stage: Stage,
    cal: CalConfig | None,
    ready: Any,
    tokens: RecordTokens,
    gpus: int,
    gpu: str,
    accumulation: int,
) -> dict[str, Any]:
    """Memory and time of a stage, under the lightest engine that takes it and whose state fits, else the heaviest."""
    try:
        shape = _shape(recipe, stage, ready.config, tokens, stage.batch_size * accumulation * gpus)
    except ValueError as error:
        return {"plan": None, "plain": None, "sharding": "", "left_out": str(error)}
    mode = "mle" if cal is None or not cal.compares else ("cal" if cal.scores is None else "cal_cached")
    settings: dict[str, Any] = {
        "gpus": gpus,
        "gpu": gpu,
        "accumulation": accumulation,
        "checkpointing": bool(recipe.trainer.get("activation_checkpointing")),
    }
    for engine in _engines(recipe.model, cal, gpus, accumulation):
        model = replace(shape, sharding=SHARDING[engine], **_weights(recipe.model, ready, engine))
        plan = predict(model, mode, **settings)
        if plan.fits is not False:
            break
    return {
        "plan": plan,
        "plain": predict(model, "mle", **settings),
        "sharding": engine if gpus > 1 else "",
        "left_out": "" if model.tiles else "the vision tower",
    }


def _engines(model: ModelSettings, cal: CalConfig | None, gpus: int, accumulation: int) -> tuple[str, ...]:
    """Files of recipes/accelerate/ under which a stage is not refused (docs/cluster.md), the lightest first."""
    if gpus == 1 or model.quantization != "none":
        return ("ddp",)
    if cal is not None and accumulation > 1 and cal.form != "released":
        return ("fsdp2",)
    return ("zero2", "zero3")


def _weights(model: ModelSettings, ready: Any, engine: str) -> dict[str, Any]:
    """Mean bytes of a frozen weight, which DeepSpeed alone rounds to bfloat16, and the number of the adapters' weights.

    Quantised are the matrices of the language model's layers: 4 bits and, per 64 of them, a scale of 8; or 8 bits.
    """
    whole = 2.0 if model.dtype == "bfloat16" or engine.startswith("zero") else 4.0
    small = {"none": whole, "nf4": 0.5 + 1 / 64, "int8": 1.0}[model.quantization]
    bytes_, frozen, adapters = 0.0, 0, 0
    for name, parameter in ready.named_parameters():
        if parameter.requires_grad:
            adapters += parameter.numel() * ("lora_" in name)
            continue
        in_layers = part_of(name) == "language_model" and ".layers." in name and parameter.ndim == 2
        bytes_ += parameter.numel() * (small if in_layers else whole)
        frozen += parameter.numel()
    return {"frozen_bytes": bytes_ / frozen if frozen else whole, "adapter_weights": adapters}


def _shape(recipe: Recipe, stage: Stage, config: Any, tokens: RecordTokens, global_batch: int) -> VLModel:
    decoder = decoder_of(config)
    tower = tower_of(config)
    text = max(1, round(tokens.text))
    labels = min(text, max(1, round(tokens.labels)))
    prefix = min(PREFIXES.get(recipe_template(recipe, stage), 1), text - labels)
    aux = getattr(config, "aux_config", None)
    return VLModel(
        name=recipe.name,
        decoder=decoder,
        sample=Sample(image=round(tokens.image or 0), text=text, labels=labels, prefix=prefix),
        tower=tower or Tower(),
        tiles=round(tokens.tiles) if tower is not None else 0,
        train_tower="vision_tower" in stage.train,
        train_decoder="language_model" in stage.train and recipe.model.lora is None,
        fine=fine_tower_of(config, aux.image_size) if aux is not None else None,
        global_batch=global_batch,
    )


def recipe_template(recipe: Recipe, stage: Stage) -> str:
    """Template of a stage."""
    name = next(name for name, other in recipe.stages.items() if other is stage)
    return recipe.stage_data(name).template


def _numel(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
