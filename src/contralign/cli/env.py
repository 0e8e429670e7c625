"""`contralign env`: versions, devices and what is known to break, as a table or as JSON."""

import json
from typing import Annotated

import typer


def env(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Show versions, devices, offline flags and known trouble of this machine."""
    from contralign.run.environment import describe_environment

    described = describe_environment()
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", show_header=False, box=None, pad_edge=False)
    for package, version in described["versions"].items():
        table.add_row(package, version or "not installed")
    for name in ("python", "platform", "processor", "cores", "instructions", "device", "devices", "torch_threads"):
        table.add_row(name.replace("_", " "), str(described[name]))
    for library, value in described["kernels"].items():
        table.add_row(f"kernels of {library}", value or "none")
    for flag, value in {**described["kernel_settings"], **described["offline"]}.items():
        table.add_row(flag, "not set" if value is None else value)
    git = described["git"]
    table.add_row("git", "no checkout" if git is None else git["commit"] + (" with changes" if git["changed"] else ""))
    console = Console()
    console.print(table)
    for trouble in described["warnings"]:
        console.print(f"Warning: {trouble}", style="yellow", markup=False)
