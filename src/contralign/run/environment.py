"""Where a run happened: versions, machine, code. Written beside the weights, so that a number can be traced."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from contralign import __version__
from contralign.run.machine import describe_kernels

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "tokenizers",
    "datasets",
    "peft",
    "trl",
    "deepspeed",
    "easy-vqa",
    "safetensors",
    "numpy",
    "pillow",
)
OFFLINE_FLAGS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def describe_environment() -> dict[str, Any]:
    """Versions, interpreter, processor, kernels, torch devices, offline flags and the code's git commit, for JSON.

    A package that is not installed has version None; `git` is None where contralign does not run from a checkout.
    """
    import torch

    return {
        "versions": {"contralign": __version__, **{name: installed_version(name) for name in PACKAGES}},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        **describe_kernels(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "devices": torch.cuda.device_count(),
        "torch_threads": torch.get_num_threads(),
        "offline": {flag: os.environ.get(flag) for flag in OFFLINE_FLAGS},
        "git": git_commit(),
        "warnings": find_trouble(installed_version("torch"), installed_version("torchvision")),
    }


def installed_version(package: str) -> str | None:
    """Version of an installed package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def find_trouble(torch_version: str | None, torchvision_version: str | None) -> list[str]:
    """What in this environment is known to break training, in sentences.

    Args:
        torch_version: of the installed torch.
        torchvision_version: of the installed torchvision, None for none.
    """
    if torch_version is None or torchvision_version is None:
        return []
    if ("+cpu" in torch_version) == ("+cpu" in torchvision_version):
        return []
    return [
        f"torchvision {torchvision_version} stands beside torch {torch_version}: builds that do not match make "
        "`import transformers` fail. contralign needs no torchvision: pip uninstall torchvision"
    ]


def git_commit() -> dict[str, Any] | None:
    """Commit of the checkout that contralign is imported from, and whether files differ from it; None elsewhere."""
    package = Path(__file__).resolve().parent.parent
    try:
        root = _git(package, "rev-parse", "--show-toplevel")
        if Path(root) / "src" / "contralign" != package:
            return None
        return {"commit": _git(package, "rev-parse", "HEAD"), "changed": bool(_git(package, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
