"""`contralign score`: Δ of every label token of a data set into a score file, for `cal.scores=FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contralign.cli.user_errors import Debug, report_user_errors

if TYPE_CHECKING:
    from contralign.scoring import ScoringSummary


def score(
    model: Annotated[str, typer.Argument(help="A model directory (an arm of a run directory), or a name on the hub.")],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA]...",
            help="What data.train of a recipe takes: LLaVA JSON or chat files, or SET:SPLIT of a built-in set. With "
            "--recipe: changes to the recipe, as for `contralign train`.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The score file; its parts lie beside it until it is done.")
    ] = Path("scores.parquet"),
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", help="Score just what this recipe trains on with CAL: its data, noise, template, cal."
        ),
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="Which stage of the recipe, where several have CAL.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--setting", metavar="SET.KEY=VALUE", help="Of a built-in set, such as scenes.count=200; repeatable."
        ),
    ] = None,
    image_root: Annotated[
        list[str] | None, typer.Option("--image-root", help="Picture folder of all files, or one for each; repeatable.")
    ] = None,
    template: Annotated[str | None, typer.Option(help="chat (default), plain, vicuna_v1 or gemma.")] = None,
    image_aspect: Annotated[str | None, typer.Option(help="processor (default), pad or square.")] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens of a record, image tokens included; longer ones are cut.")
    ] = None,
    on_bad: Annotated[str | None, typer.Option(help="error (default) or skip: what a broken record does.")] = None,
    contrast: Annotated[
        str | None,
        typer.Option(
            "--contrast", help="drop (default), mask, patches, blur, shuffle, mean, or NAME:SETTING: blur:10."
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="As --contrast 'drop:TEXT': a short text in the picture's place.")
    ] = None,
    score: Annotated[
        str,
        typer.Option(
            "--score", help="logit, centred, logprob, or both (logit and logprob), which cost one pass together."
        ),
    ] = "both",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at a time.")] = 16,
    part_size: Annotated[int, typer.Option(min=1, help="Samples a part: what a kill loses at most.")] = 2048,
    dtype: Annotated[str | None, typer.Option(help="float32 (default) or bfloat16, of the weights.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 …; default: the accelerator where there is one.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew: throw away parts, replace an older score file.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Write Δ of every label token; what was killed goes on where it stopped when the command is given again.

    Under torchrun the processes share the work between them.
    """
    with report_user_errors(debug):
        from contralign.cli.actions.scoring_job import job_from_options, job_from_recipe, run_job

        named = {"image_root": image_root, "template": template, "image_aspect": image_aspect}
        named |= {"max_length": max_length, "on_bad": on_bad}
        given = {name: value for name, value in named.items() if value is not None}
        spelled = contrast if prompt is None else {"name": contrast or "drop", "prompt": prompt}
        cal = {} if spelled is None else {"contrast": spelled}
        if recipe is None:
            if stage is not None:
                raise ValueError(f"--stage {stage} has no effect without --recipe")
            job = job_from_options(model, data or (), given, setting or (), dtype or "float32", cal)
        else:
            beside = {**given, **({"settings": setting} if setting else {})}
            places = [*(f"data.{name}" for name in beside), *(f"cal.{name}" for name in cal)]
            if places:
                raise ValueError(
                    f"{', '.join(places)}: the recipe says so already; change it as for `contralign train`, with "
                    f"{places[0]}=VALUE instead of an option"
                )
            job = job_from_recipe(model, recipe, data or (), stage, dtype)
        summary = run_job(
            job, output, score=score, batch_size=batch_size, part_size=part_size, device=device, fresh=fresh
        )
        if summary is not None:  # of several processes the last one has it
            _print(summary)


def _print(summary: ScoringSummary) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    earlier = f", {summary.found:,} of them by an earlier run" if summary.found else ""
    console.print(
        f"Scored {summary.samples:,} samples, {summary.tokens:,} label tokens{earlier}; took {summary.seconds:.1f} s."
    )
    if summary.bad:
        reasons = ", ".join(f"{reason} {count}" for reason, count in summary.bad.items())
        console.print(f"Left out {sum(summary.bad.values()):,} bad records: {reasons}. The file's metadata names them.")
    console.print(f"Score file: {summary.path}")
