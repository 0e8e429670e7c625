"""The command `contralign`: one verb a file. Importing this is fast; a verb imports what it needs when it runs."""

import typer

from contralign.cli.ablate import ablate
from contralign.cli.bench import bench
from contralign.cli.build import build
from contralign.cli.convert import convert
from contralign.cli.demo import demo
from contralign.cli.env import env
from contralign.cli.ranks import hard_exit
from contralign.cli.schema import schema
from contralign.cli.score import score
from contralign.cli.train import train

app = typer.Typer(
    name="contralign",
    help="Train vision-language models to look at the image (contrastive alignment, CAL).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (demo, train, ablate, score, convert, bench, env, schema):
    app.command()(verb)
app.add_typer(build)


def main() -> None:
    """Entry point of the command line."""
    with hard_exit():
        app()
