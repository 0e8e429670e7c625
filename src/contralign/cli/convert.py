"""`contralign convert`: original checkpoints of LLaVA and Mini-Gemini to the Hugging Face layout, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contralign.cli.user_errors import Debug, report_user_errors

if TYPE_CHECKING:
    from contralign.models.convert.conversion import Conversion


def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder, or a hub name that is in the cache.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The directory to write.")],
    to: Annotated[
        str | None, typer.Option("--to", help="hf or original; left out, the layout that SOURCE has not.")
    ] = None,
    tower_root: Annotated[Path | None, typer.Option(help="The directory that mm_vision_tower is relative to.")] = None,
    base: Annotated[
        str | None, typer.Option(help="The language model of a SOURCE that holds mm_projector.bin alone.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16; left out, that of SOURCE.")] = None,
    keep_vocabulary: Annotated[
        bool, typer.Option("--keep-vocabulary", help="Add no row for the image token; for training by us.")
    ] = False,
    tokenizer: Annotated[str | None, typer.Option(help="Directory with tokenizer.model, if SOURCE has none.")] = None,
    weight_format: Annotated[
        str | None, typer.Option("--format", help="safetensors or bin, for --to original.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, write nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Convert an original LLaVA or Mini-Gemini checkpoint to the Hugging Face layout, or back."""
    with report_user_errors(debug):
        from transformers.utils.logging import disable_progress_bar

        from contralign.models.convert.checkpoint import read_json
        from contralign.models.convert.conversion import DTYPES, layout_of, to_hugging_face, to_original
        from contralign.models.convert.sources import find_source

        disable_progress_bar()
        layout = layout_of(read_json(find_source(source) / "config.json"))
        if to not in (None, "hf", "original"):
            raise ValueError(f"--to {to}: wanted hf or original")
        if to == layout:
            raise ValueError(f"{source} is in the layout {to} already: leave --to out to convert it to the other")
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"--dtype {dtype}: wanted {', '.join(DTYPES)}")
        shared: dict[str, Any] = {"dtype": None if dtype is None else DTYPES[dtype], "tokenizer": tokenizer}
        shared |= {"overwrite": overwrite, "dry_run": dry_run}
        if layout == "original":
            _refuse({"--format": weight_format}, "the Hugging Face layout is safetensors")
            done = to_hugging_face(
                source, out, tower_root=tower_root, base=base, keep_vocabulary=keep_vocabulary, **shared
            )
        else:
            given = {"--tower-root": tower_root, "--base": base, "--keep-vocabulary": keep_vocabulary}
            _refuse(given, "a Hugging Face model is whole")
            done = to_original(source, out, weight_format=weight_format, **shared)
        _print(done, out, dry_run)


def _refuse(given: dict[str, object], reason: str) -> None:
    """A setting that has no effect in this direction is a mistake."""
    useless = [name for name, value in given.items() if value]
    if useless:
        raise ValueError(f"{', '.join(useless)} has no effect here ({reason}): leave it out")


def _print(done: Conversion, out: Path, dry_run: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("part", "tensors", "parameters", box=None, pad_edge=False)
    for part, (tensors, parameters) in done.parts.items():
        table.add_row(part, str(tensors), f"{parameters:,}")
    console = Console()
    console.print(table)
    for line in (
        f"{done.family} -> {done.to}: all {done.num_tensors} tensors have their place; {done.dtype}",
        f"derived from the config, left out: {', '.join(done.derived) or 'none'}",
        *done.notes,
        f"nothing written (--dry-run); OUT would be {out}" if dry_run else f"written: {out}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
