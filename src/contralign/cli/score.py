"""`contralign score`: Δ of every label token of a data set into a score file, for `cal.scores=FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contralign.cli.mistakes import readable_mistakes
from contralign.cli.train import Debug

if TYPE_CHECKING:
    from contralign.training.config import CalConfig
    from contralign.training.settings import DataSettings, ModelSettings

Model = Annotated[str, typer.Argument(help="A model directory (an arm of a run directory), or a name on the hub.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DATA]...",
        help="What data.train of a recipe takes: LLaVA JSON or chat files, or SET:SPLIT of a built-in set. With "
        "--recipe: changes to the recipe, as for `contralign train`.",
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="The score file; its parts lie beside it until it is done.")
]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="Score just what this recipe trains on with CAL: its data, noise, template, cal."),
]
StageOption = Annotated[str | None, typer.Option("--stage", help="Which stage of the recipe, where several have CAL.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--setting", metavar="SET.KEY=VALUE", help="Of a built-in set, such as scenes.count=200; repeatable."),
]
ImageRoot = Annotated[
    list[str] | None, typer.Option("--image-root", help="Picture folder of all files, or one for each; repeatable.")
]
Template = Annotated[str | None, typer.Option(help="chat (default), plain, vicuna_v1 or gemma.")]
ImageAspect = Annotated[str | None, typer.Option(help="processor (default), pad or square.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens of a record, image tokens included; longer ones are cut.")]
OnBad = Annotated[str | None, typer.Option(help="error (default) or skip: what a broken record does.")]
ContrastOption = Annotated[str | None, typer.Option("--contrast", help="drop (default), mask, patches or blur.")]
ScoreOption = Annotated[str, typer.Option("--score", help="logit, logprob, or both, which cost one pass together.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Samples at a time.")]
PartSize = Annotated[int, typer.Option(min=1, help="Samples a part: what a kill loses at most.")]
Dtype = Annotated[str | None, typer.Option(help="float32 (default) or bfloat16, of the weights.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …; default: the accelerator where there is one.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew: throw away parts, replace an older score file.")]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is scored, and how: from options or from a recipe.

    Attributes:
        data: the records; their `train` is scored.
        seed: of swaps.
        model: dtype and attention.
        cal: contrast.
    """

    data: DataSettings
    seed: int
    model: ModelSettings
    cal: CalConfig


def score(
    model: Model,
    data: Words = None,
    output: Output = Path("scores.parquet"),
    recipe: RecipeOption = None,
    stage: StageOption = None,
    setting: Setting = None,
    image_root: ImageRoot = None,
    template: Template = None,
    image_aspect: ImageAspect = None,
    max_length: MaxLength = None,
    on_bad: OnBad = None,
    contrast: ContrastOption = None,
    score: ScoreOption = "both",
    batch_size: BatchSize = 16,
    part_size: PartSize = 2048,
    dtype: Dtype = None,
    device: Device = None,
    fresh: Fresh = False,
    debug: Debug = False,
) -> None:
    """Write Δ of every label token; what was killed goes on where it stopped when the command is given again."""
    with readable_mistakes(debug):
        options = {
            "settings": setting,
            "image_root": image_root,
            "template": template,
            "image_aspect": image_aspect,
            "max_length": max_length,
            "on_bad": on_bad,
        }
        given = {name: value for name, value in options.items() if value is not None}
        work = (
            _from_recipe(
                recipe, data or (), stage, {**given, **({"contrast": contrast} if contrast else {})}, model, dtype
            )
            if recipe
            else _from_options(data or (), given, stage, model, dtype, contrast)
        )
        _score(work, model, output, score, batch_size, part_size, device, fresh)


def _from_options(
    sources: Sequence[str],
    given: dict[str, Any],
    stage: str | None,
    model: str,
    dtype: str | None,
    contrast: str | None,
) -> Work:
    from contralign.training.config import CalConfig
    from contralign.training.recipe_file import apply_override
    from contralign.training.schema import RecipeError, from_mapping
    from contralign.training.settings import DataSettings, ModelSettings

    if stage is not None:
        raise RecipeError(f"--stage {stage} has no effect without --recipe")
    if not sources:
        raise RecipeError("nothing to score: name files or built-in sets (scenes:train), or give --recipe")
    values: dict[str, Any] = {**given, "train": list(sources)}
    settings: dict[str, Any] = {}
    for change in values.pop("settings", ()):
        settings = apply_override(settings, change)
    return Work(
        data=from_mapping(DataSettings, values | {"settings": settings}, "data"),
        seed=0,
        model=from_mapping(ModelSettings, {"path": model, "dtype": dtype or "float32"}, "model"),
        cal=from_mapping(CalConfig, {"contrast": contrast or "drop"}, "cal"),
    )


def _from_recipe(
    name: str, changes: Sequence[str], stage: str | None, given: dict[str, Any], model: str, dtype: str | None
) -> Work:
    from contralign.training.recipe import plain
    from contralign.training.recipe_file import find_recipe, load_recipe
    from contralign.training.schema import RecipeError, from_mapping
    from contralign.training.settings import ModelSettings

    if given:
        option = next(iter(given))
        place = "cal.contrast" if option == "contrast" else f"data.{option}"
        raise RecipeError(
            f"--{option.removesuffix('s') if option == 'settings' else option.replace('_', '-')} with --recipe: the "
            f"recipe says it; change it there, or with {place}=… as for `contralign train`"
        )
    recipe = load_recipe(find_recipe(name), changes)
    staged = [each for each, settings in recipe.stages.items() if settings.cal]
    if recipe.cal is None or not staged:
        raise RecipeError(f"{name} trains nothing with CAL: give the data themselves instead of --recipe")
    if stage is not None and stage not in staged:
        raise RecipeError(f"--stage {stage}: {name} has CAL in {', '.join(staged)}")
    if stage is None and len(staged) > 1:
        raise RecipeError(f"{name} has CAL in the stages {', '.join(staged)}: say which one with --stage")
    weights = {"path": model, "dtype": dtype or recipe.model.dtype}
    return Work(
        data=recipe.stage_data(stage or staged[0]),
        seed=recipe.seed,
        model=from_mapping(ModelSettings, {**plain(recipe.model), "tiny": {}, "lora": None, **weights}, "model"),
        cal=recipe.cal,
    )


def _score(
    work: Work, path: str, output: Path, score: str, batch_size: int, part_size: int, device: str | None, fresh: bool
) -> None:
    """Everything that is named is looked at before the model is loaded."""
    from dataclasses import replace
    from typing import get_args

    from contralign import __version__
    from contralign.analysis.scoring import score_samples
    from contralign.core.delta import Score
    from contralign.data.score_digest import model_digest
    from contralign.training.alignment import contrast_of
    from contralign.training.build import load_model, load_processor, model_folder
    from contralign.training.recipe import plain
    from contralign.training.records import RecordReader, make_collator, with_swaps
    from contralign.training.schema import RecipeError
    from contralign.training.scores import noise_settings

    if score not in (*get_args(Score), "both"):
        raise RecipeError(f"--score {score}: wanted {', '.join(get_args(Score))} or both")
    contrast = contrast_of(replace(work.cal, scores=None))
    if contrast is None:
        raise RecipeError("contrast='none' takes no second look: there is nothing to score")
    where = _device(device)
    collator = make_collator(load_processor(path), work.data, keep_pictures=contrast.reencodes)
    samples = RecordReader().read(work.data, work.data.train, "data", collator.check)
    samples, _ = with_swaps(samples, work.data, work.seed)
    folder = model_folder(path)
    about = {
        "version": __version__,
        "model": str(folder),
        "model_digest": model_digest(folder),
        "dtype": work.model.dtype,
        "data": {
            name: value for name, value in plain(work.data).items() if name in ("train", "image_root", "settings")
        },
        **noise_settings(work.data, work.seed),
    }
    summary = score_samples(
        lambda: load_model(path, work.model).eval().to(where),
        collator,
        samples,
        output,
        about,
        contrast=contrast,
        scores=get_args(Score) if score == "both" else (score,),
        batch_size=batch_size,
        part_size=part_size,
        fresh=fresh,
    )
    _print(summary)


def _device(name: str | None) -> Any:
    import torch
    from accelerate import PartialState

    from contralign.training.schema import RecipeError

    if name is None:
        return PartialState().device
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device


def _print(summary: Any) -> None:
    from rich.console import Console

    console = Console()

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    earlier = f", {summary.found:,} of them found from an earlier run" if summary.found else ""
    say(f"Scored {summary.samples:,} samples, {summary.tokens:,} label tokens, in {summary.seconds:.0f} s{earlier}.")
    if summary.bad:
        reasons = ", ".join(f"{reason} {count}" for reason, count in summary.bad.items())
        say(f"Left out {sum(summary.bad.values()):,} bad records: {reasons}. The file's metadata names them.")
    say(f"Score file: {summary.path}")
