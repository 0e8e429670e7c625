"""What a stage takes of memory and time: by the cost model of `contralign.bench.plan`, but for what a GPU holds."""

from dataclasses import replace
from typing import Any

from contralign.bench.forecast.state import Engine, WeightCounts
from contralign.bench.forecast.tokens import PREFIXES, RecordTokens
from contralign.bench.plan.from_config import aux_tower_of, decoder_of, tower_of
from contralign.bench.plan.gpus import GIB, GPUS
from contralign.bench.plan.predict import Plan, predict
from contralign.bench.plan.shapes import Sample, Tower, VLModel
from contralign.recipe.plan import StagePlan
from contralign.recipe.recipe import Recipe
from contralign.training.config import CalConfig


def cost_of(
    recipe: Recipe,
    stage: StagePlan,
    cal: CalConfig | None,
    config: Any,
    tokens: RecordTokens,
    gpus: int,
    gpu: str,
    accumulation: int,
    weights: WeightCounts,
) -> dict[str, Any]:
    """Memory and time of a stage, under the lightest engine that takes it and whose state fits, else the heaviest."""
    try:
        model = _shape(recipe, stage, config, tokens, stage.settings.batch_size * accumulation * gpus)
    except ValueError as error:
        return {"plan": None, "plain": None, "sharding": "", "left_out": str(error)}
    mode = "mle" if cal is None or not cal.compares else ("cal" if cal.scores is None else "cal_cached")
    settings: dict[str, Any] = {
        "gpus": gpus,
        "gpu": gpu,
        "accumulation": accumulation,
        "checkpointing": bool(recipe.trainer.get("activation_checkpointing")),
    }
    for engine in _engines(recipe, cal, gpus, accumulation):
        shared = replace(model, sharding="zero3" if engine in ("zero3", "fsdp2") else "zero2")
        plan = _with_state(predict(shared, mode, **settings), weights, engine)
        plain = _with_state(predict(shared, "mle", **settings), weights, engine)
        if plan.fits is not False:
            break
    return {
        "plan": plan,
        "plain": plain,
        "sharding": "" if engine == "single" else engine,
        "left_out": "" if model.tiles else "the vision tower",
    }


def _engines(recipe: Recipe, cal: CalConfig | None, gpus: int, accumulation: int) -> tuple[Engine, ...]:
    """Files of recipes/accelerate/ under which a stage is not refused (docs/cluster.md), the lightest first."""
    if gpus == 1:
        return ("single",)
    if recipe.model.quantization != "none":
        return ("ddp",)
    if cal is not None and accumulation > 1 and cal.form != "released":
        return ("fsdp2",)
    return ("zero2", "zero3")


def weights_of(recipe: Recipe, config: Any, learning: int, frozen: int) -> WeightCounts:
    """What is held of the model; of a quantised one the matrices of the language model's layers are in few bits."""
    settings = recipe.model
    quantized = 0
    if settings.quantization != "none":
        decoder = decoder_of(config)
        quantized = decoder.layers * decoder.layer_weights
    return WeightCounts(
        learning=learning,
        frozen=frozen,
        quantized=quantized,
        dtype=settings.dtype,
        quantization=settings.quantization,
        bf16=bool(recipe.trainer.get("bf16")),
    )


def _with_state(plan: Plan, weights: WeightCounts, engine: Engine) -> Plan:
    """The plan with the state of these weights, and layer inputs as wide as the engine makes them.

    Autocast leaves the residual stream in float32, which is twice what the plan counts.
    """
    state = weights.bytes_per_gpu(engine, plan.gpus) / GIB
    wide = engine in ("single", "ddp") or not weights.bf16
    inputs = plan.inputs_gib * (2 if wide else 1)
    held = state + inputs + plan.loss_gib
    fits = None if plan.fits is None else held < GPUS[plan.gpu].memory_gib
    return replace(plan, state_gib=state, inputs_gib=inputs, fits=fits)


def _shape(recipe: Recipe, stage: StagePlan, config: Any, tokens: RecordTokens, global_batch: int) -> VLModel:
    learns = stage.settings.train
    decoder = decoder_of(config)
    tower = tower_of(config)
    text = max(1, round(tokens.text))
    labels = min(text, max(1, round(tokens.labels)))
    prefix = min(PREFIXES.get(stage.data.template, 1), text - labels)
    aux = getattr(config, "aux_config", None)
    return VLModel(
        name=recipe.name,
        decoder=decoder,
        sample=Sample(image=round(tokens.image or 0), text=text, labels=labels, prefix=prefix),
        tower=tower or Tower(),
        tiles=round(tokens.tiles) if tower is not None else 0,
        train_tower="vision_tower" in learns,
        train_decoder="language_model" in learns and recipe.model.lora is None,
        aux=aux_tower_of(config, aux.image_size) if aux is not None else None,
        global_batch=global_batch,
    )
