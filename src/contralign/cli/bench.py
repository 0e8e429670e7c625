"""`contralign bench`: step time and peak memory of plain MLE, CAL and the released code's way, on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contralign.cli.user_errors import Debug, report_user_errors

if TYPE_CHECKING:
    from contralign.bench.workload import Workload

SHAPE_OPTIONS = """
hidden layers heads intermediate vocabulary image_tokens text_tokens label_tokens prefix batch text_only_rows dtype
checkpointing seed
"""


def bench(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            help="llava15, llava_next, tiny: random weights, by default at a size that 2 cores can train (hidden 512, "
            "8 layers). Or a model directory with its processor."
        ),
    ] = "llava15",
    hidden: Annotated[int | None, typer.Option(help="Width of the language model (a 7B model: 4096).")] = None,
    layers: Annotated[int | None, typer.Option(help="Its depth (7B: 32).")] = None,
    heads: Annotated[int | None, typer.Option(help="Its attention heads (7B: 32).")] = None,
    intermediate: Annotated[
        int | None, typer.Option(help="Width of its feed-forward part; default 2.6875 x hidden.")
    ] = None,
    vocabulary: Annotated[int | None, typer.Option(help="Rows of the head.")] = None,
    image_tokens: Annotated[
        int | None,
        typer.Option(help="Image tokens of a picture: a square for llava15, what anyres gives for llava_next."),
    ] = None,
    text_tokens: Annotated[
        int | None, typer.Option(help="All other tokens of a row: prefix, question, answer.")
    ] = None,
    label_tokens: Annotated[int | None, typer.Option(help="Tokens of the answer, at the end of the row.")] = None,
    prefix: Annotated[
        int | None,
        typer.Option(
            help="Text before the picture, the same in every row; default 35 of 128, as in vicuna_v1. 1: a BOS."
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Rows.")] = None,
    text_only_rows: Annotated[int | None, typer.Option(help="How many of them have no picture.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Recompute activations in the backward pass.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of weights, tokens and the order of the modes.")] = 0,
    modes: Annotated[
        str | None,
        typer.Option(
            help="Some of mle,mle_fused,cal,cal_logprob,cal_cached,released, which are the default, and cal_mean, "
            "cal_shuffle, quantile, prior, vig, tpo, vppo, pgpo, dft, rho1; mle always runs."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often every mode is timed; 5 or more.")] = 7,
    threads: Annotated[int | None, typer.Option(help="Threads of torch; default: as many as it chooses.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: cuda where there is one.")] = None,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memory too.")] = True,
    json: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time of the CAL step goes.")] = False,
    plan: Annotated[
        str | None,
        typer.Option(
            help="Measure nothing: predict this model (llava-next-13b …) on --gpus of --gpu; see docs/plan.md."
        ),
    ] = None,
    gpus: Annotated[int, typer.Option(help="With --plan: how many, in nodes of 8.")] = 8,
    gpu: Annotated[str, typer.Option(help="With --plan: a100, h100 or h200.")] = "a100",
    debug: Debug = False,
) -> None:
    """Time a training step and take its peak memory: plain MLE, CAL, CAL from cached scores, the released code's way.

    All modes run in one process, interleaved, on one model and one batch; ratios are to plain Hugging Face MLE. The
    named shapes are scaled down to what a 2-core machine can run; give --hidden, --layers and --heads for a real one.
    With --plan nothing runs: counted operations and bytes predict the same modes on GPUs that are not here.
    """
    shape = {name: context.params[name] for name in SHAPE_OPTIONS.split()}
    with report_user_errors(debug):
        refuse_unused_options(context, plan)
        if json is not None and not json.resolve().parent.is_dir():
            raise FileNotFoundError(f"--json {json}: there is no folder {json.resolve().parent}")
        if plan is not None:
            _predict_and_print(plan, gpus, gpu, json)
            return
        from contralign.bench.machine import choose_device, set_threads
        from contralign.bench.measure import check_rounds, choose_modes
        from contralign.bench.steps import DEFAULT_MODES
        from contralign.bench.workload import make_workload

        check_rounds(rounds)
        chosen = choose_modes(modes.split(",") if modes is not None else list(DEFAULT_MODES))
        set_threads(threads)
        workload = make_workload(model, choose_device(device), **shape)
        _measure_and_print(workload, chosen, context)


def command_line(context: typer.Context) -> str:
    """The options that were given, as one would type them."""
    words = ["contralign", "bench"]
    for parameter in _given(context):
        value = context.params[str(parameter.name)]
        if isinstance(value, bool):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            words += [parameter.opts[0], str(value)]
    return shlex.join(words)


def refuse_unused_options(context: typer.Context, plan: str | None) -> None:
    """Refuse options of a measurement beside --plan, and those of a plan without it.

    Raises:
        ValueError: names them.
    """
    belongs = {"gpus", "gpu"} if plan is None else {"plan", "gpus", "gpu", "json", "debug"}
    idle = [option.opts[0] for option in _given(context) if (option.name in belongs) == (plan is None)]
    if idle:
        beside = "without --plan" if plan is None else "beside --plan, which measures nothing"
        raise ValueError(f"{', '.join(idle)} has no effect {beside}: leave it out")


def _given(context: typer.Context) -> list[Any]:
    """The options on the command line."""
    sources = [(option, context.get_parameter_source(str(option.name))) for option in context.command.params]
    return [option for option, source in sources if source is not None and source.name == "COMMANDLINE"]


def _predict_and_print(name: str, gpus: int, gpu: str, path: Path | None) -> None:
    from rich.console import Console

    from contralign.bench.plan.predict import predict_all
    from contralign.bench.plan.render import plan_dict, table
    from contralign.bench.report import write_json

    plans = predict_all(name, gpus=gpus, gpu=gpu)
    console = Console()
    console.print(table(plans))
    if path is not None:
        write_json(path, plan_dict(plans))
        console.print(f"JSON: {path}", highlight=False, markup=False, soft_wrap=True)


def _measure_and_print(workload: Workload, modes: Sequence[str], context: typer.Context) -> None:
    from rich.console import Console

    from contralign.bench.machine import describe_machine
    from contralign.bench.measure import measure
    from contralign.bench.profile import profile_step
    from contralign.bench.report import as_record, mode_table, notes, profile_table, write_json

    given = context.params
    with Console(stderr=True).status("building") as status:
        measured = measure(
            workload,
            modes,
            rounds=given["rounds"],
            with_memory=given["memory"],
            seed=given["seed"],
            progress=status.update,
        )
        status.update("profiling")
        parts = profile_step(workload) if given["profile"] else []
    machine = describe_machine(str(workload.device))
    record = as_record(workload.shape, measured, machine=machine, command=command_line(context), profile=parts)
    console = Console()
    console.print(mode_table(record, modes))
    if parts:
        console.print(profile_table(parts))
    for line in notes(record):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if given["json"] is not None:
        write_json(given["json"], record)
        console.print(f"JSON: {given['json']}", highlight=False, markup=False, soft_wrap=True)
