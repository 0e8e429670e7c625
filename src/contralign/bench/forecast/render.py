"""A forecast for the terminal."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from contralign.bench.forecast.stages import Forecast, StageForecast
from contralign.bench.plan.gpus import GPUS

UNKNOWN = "known once the start model is built"


def printed(forecast: Forecast) -> Iterator[Table | str]:
    """Head, one table a stage, and what is to be done before training."""
    yield _head(forecast)
    for stage in forecast.stages:
        yield _table(stage, forecast.gpu)
    hours = {stage.name: stage.hours for stage in forecast.stages if stage.hours is not None}
    if hours:
        whole = "in all" if len(hours) == len(forecast.stages) else f"for {' and '.join(hours)}, the rest unknown,"
        yield (
            f"{_hours(sum(hours.values()))} {whole} on {forecast.gpus} x {forecast.gpu}, counted from operations and "
            "bytes (docs/plan.md): read it as a ratio, and as hours within a quarter."
        )
    yield from (f"To do: {escape(problem)}" for problem in forecast.problems)
    if not forecast.problems:
        yield "Data: every source is here."


def _head(forecast: Forecast) -> str:
    recipe, model = forecast.recipe, forecast.recipe.model
    if model.family is None:
        what = str(model.path)
    else:
        parts = [name for name in (model.language_model, model.vision_tower, model.aux_tower) if name]
        what = f"{model.family}{' in tiny shape' if model.shape == 'tiny' else ''}: {' + '.join(parts)}"
    size = UNKNOWN if forecast.parameters is None else f"{_count(forecast.parameters)} parameters"
    arms = "" if len(recipe.arms) < 2 else f"; arms: {', '.join(recipe.arms)}"
    return escape(f"{recipe.name}\nModel: {what}; {size}{arms}")


def _table(stage: StageForecast, gpu: str) -> Table:
    lines = Table(title=f"stage {stage.name}", title_justify="left", title_style="bold", box=None, show_header=False)
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    for name, words in _rows(stage, gpu):
        lines.add_row(name, escape(words))
    return lines


def _rows(stage: StageForecast, gpu: str) -> Iterator[tuple[str, str]]:
    yield "loss", _loss(stage)
    if stage.kind != "align":
        yield "learns", f"{stage.kind} alone"
    elif stage.learns:
        learns = ", ".join(f"{part} {_count(count)} at {rate:g}" for part, (count, rate) in stage.learns.items())
        yield "learns", f"{learns}; frozen {_count(stage.frozen)}"
    else:
        yield "learns", UNKNOWN
    for source in stage.sources:
        number = "? records" if source.records is None else f"{source.records:,} records"
        yield "data", f"{source.name}: {number} ({source.found})"
    share = f"{stage.gpus} x {stage.batch_size} x {stage.accumulation} (devices, records, accumulation)"
    steps = "? steps (records not counted)" if stage.steps is None else f"{stage.steps:,} steps"
    yield "steps", f"{steps} of {stage.global_batch:,} records = {share}"
    yield "tokens", _tokens(stage)
    if stage.plan is not None:
        yield "memory", _memory(stage, gpu)
        yield "time", _time(stage)
    elif stage.left_out:
        yield "time", f"not predicted: {stage.left_out}"


def _loss(stage: StageForecast) -> str:
    cal = stage.cal
    if cal is None:
        return "plain maximum likelihood"
    if cal.weighting != "cal":
        return f"weighting {cal.weighting}, contrast {cal.contrast}, score {cal.score}, form {cal.form}"
    return (
        f"CAL: clamp [{cal.alpha:g}, {cal.beta:g}], window {cal.window}, contrast {cal.contrast}, score {cal.score}, "
        f"form {cal.form}"
    )


def _tokens(stage: StageForecast) -> str:
    tokens = stage.tokens
    image = "? image" if tokens.image is None else f"{tokens.image:,.0f} image"
    whole = "" if tokens.image is None else f"; {stage.global_batch * tokens.all:,.0f} a step"
    return f"{image} + {tokens.text:,.0f} text ({tokens.labels:,.0f} labels) a record, {tokens.how}{whole}"


def _memory(stage: StageForecast, gpu: str) -> str:
    plan = stage.plan
    assert plan is not None
    held = plan.state_gib + plan.inputs_gib + plan.loss_gib
    room = GPUS[gpu].memory_gib
    verdict = {True: "fits", False: "does not fit", None: "all activations are kept besides, and not counted"}
    sharding = f"; with recipes/accelerate/{stage.sharding}.yaml" if stage.sharding else ""
    return (
        f"{_gib(held)} of {room:.0f} GiB a GPU: state {_gib(plan.state_gib)}, layer inputs {_gib(plan.inputs_gib)}, "
        f"logits {_gib(plan.loss_gib)}{sharding}; {verdict[plan.fits]}"
    )


def _time(stage: StageForecast) -> str:
    plan, plain = stage.plan, stage.plain
    assert plan is not None and plain is not None
    ratio = "" if stage.cal is None else f"; {plan.step_seconds / plain.step_seconds:.2f} of plain Hugging Face"
    left = f"; without {stage.left_out}" if stage.left_out else ""
    whole = "" if stage.hours is None else f"{_hours(stage.hours)}: "
    return f"{whole}{plan.step_seconds:.3g} s a step{ratio}{left}"


def _hours(hours: float) -> str:
    """5.2 h, 12.0 min, 8.1 s."""
    for unit, size in (("h", 1.0), ("min", 1 / 60)):
        if hours >= size:
            return f"{hours / size:,.1f} {unit}"
    return f"{3600 * hours:.2g} s"


def _gib(gib: float) -> str:
    return f"{gib:.1f}" if gib >= 0.1 else f"{gib:.2g}"


def _count(weights: int) -> str:
    """13.4 B, 21.0 M, 4,096."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if weights >= size:
            return f"{weights / size:.2f} {unit}"
    return f"{weights:,}"
