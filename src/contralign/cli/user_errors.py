"""User errors become one message and exit code 2; errors of the program keep their traceback.

A `RunError` (`contralign.checkpoints.run_errors`) becomes one message too, with its own exit code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Annotated

import typer

from contralign.checkpoints.run_errors import RunError

EXIT_CODE = 2
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]
"""The option of every verb that reports user errors."""


@contextmanager
def report_user_errors(debug: bool) -> Iterator[None]:
    """Turn a user error or a `RunError` inside the block into a message and an exit code; `debug` lets it through."""
    try:
        yield
    except RunError as run_error:
        if debug:
            raise
        _say("Stopped: ", str(run_error))
        raise typer.Exit(run_error.exit_code) from None
    except Exception as error:
        if debug or not is_user_error(error):
            raise
        _say("Error: ", f"{error}\n(--debug shows where in the code)")
        raise typer.Exit(EXIT_CODE) from None


def _say(kind: str, message: str) -> None:
    typer.secho(kind, fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(message, err=True)


def is_user_error(error: BaseException) -> bool:
    """True for a ValueError raised in contralign, and for a file that is missing or not readable."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return True
    modules = ["", *(str(frame.f_globals.get("__name__", "")) for frame, _ in walk_tb(error.__traceback__))]
    return isinstance(error, ValueError) and modules[-1].split(".")[0] == "contralign"
