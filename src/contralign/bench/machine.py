"""The machine that a benchmark ran on."""

from collections.abc import Mapping
from typing import Any

import torch

from contralign.run.environment import describe_environment


def choose_device(device: str | None) -> str:
    """The device asked for, else CUDA where there is one.

    Raises:
        ValueError: no such device here.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"--device {device!r}: wanted cpu or cuda") from error
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"--device {device!r}: wanted cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device!r}: torch {torch.__version__} sees no CUDA device here; wanted cpu")
    return device


def set_threads(threads: int | None) -> None:
    """Let torch use this many threads; None leaves its choice.

    Raises:
        ValueError: fewer than 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"--threads {threads}: wanted 1 or more")
    torch.set_num_threads(threads)


def describe_machine(device: str) -> dict[str, Any]:
    """Versions and machine of `contralign env`, with the device that the run uses."""
    used = torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
    return {**describe_environment(), "device": used}


def machine_line(machine: Mapping[str, Any]) -> str:
    """The machine in one line."""
    versions = machine["versions"]
    return (
        f"{machine['device']}; {machine['processor']}, {machine['cores']} cores, torch threads "
        f"{machine['torch_threads']}; torch {versions['torch']}, transformers {versions['transformers']}, "
        f"python {machine['python']}"
    )
