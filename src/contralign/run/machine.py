"""The machine record: what decides the last digits of a result.

MKL and oneDNN choose their kernels by the processor, and each kernel sums in its own order. Some hundred training steps
turn a difference in the last bit into one that is as large as between two seeds. So a result that is run again can be
asked for its last digit only where processor, kernels, threads and versions are the same.
"""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Machine = Mapping[str, str]
"""Field -> value; empty where the machine is unknown."""
CPU_INFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ("avx", "fma", "amx", "asimd", "sve")
"""Beginnings of the instruction sets that kernels are chosen by."""
KERNEL_SETTINGS = (
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
)
"""Environment variables that choose kernels."""
COMPUTING = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "pillow")
"""Packages whose version may move a number."""


def describe_kernels() -> dict[str, Any]:
    """Processor, its instruction sets, libraries of kernels and the settings that choose among them, ready for JSON."""
    import torch

    info = _cpu_info()
    flags = (info.get("flags") or info.get("Features") or "").split()
    built = torch.__config__.show()
    mkl = re.search(r"Math Kernel Library Version (\S+(?: Build \d+)?)", built)
    onednn = re.search(r"MKL-DNN v(\S+)", built)
    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    return {
        "processor": _processor(info),
        "instructions": " ".join(sorted(flag for flag in flags if flag.startswith(INSTRUCTIONS))),
        "kernels": {
            "torch": torch.backends.cpu.get_cpu_capability(),
            "mkl": mkl[1] if mkl else None,
            "onednn": onednn[1] if onednn else None,
            "cuda": torch.version.cuda,
            "cudnn": str(cudnn) if cudnn else None,
        },
        "kernel_settings": {name: os.environ.get(name) for name in KERNEL_SETTINGS},
    }


def machine_of(environment: Mapping[str, Any]) -> Machine:
    """The machine record of an environment that `describe_environment` described; empty for one without kernels."""
    if "kernels" not in environment:
        return {}
    versions = environment["versions"]
    return {
        "processor": environment["processor"],
        "instructions": environment["instructions"],
        "kernels": _words(environment["kernels"]),
        "kernel settings": _words(environment["kernel_settings"]),
        "threads": str(environment["torch_threads"]),
        "device": environment["device"],
        **{name: str(versions.get(name)) for name in COMPUTING},
    }


def joined(machines: Sequence[Machine]) -> Machine:
    """The record of what several machines made, one step each: every value of a field; empty where one is unknown."""
    if not all(machines):
        return {}
    fields = dict.fromkeys(field for machine in machines for field in machine)
    return {field: " and ".join(sorted({one.get(field, "unknown") for one in machines})) for field in fields}


def same_machine(recorded: Machine, here: Machine) -> bool:
    """True where the last digits may be compared: both machines are known, and no field differs."""
    return bool(recorded) and recorded == here


def differing_fields(recorded: Machine, here: Machine) -> dict[str, tuple[str, str]]:
    """Field -> its two values, for the fields that differ between two machine records."""
    pairs = {field: (recorded.get(field, "unknown"), here.get(field, "unknown")) for field in {**recorded, **here}}
    return {field: pair for field, pair in pairs.items() if pair[0] != pair[1]}


def _cpu_info() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _processor(info: Mapping[str, str]) -> str:
    """Name of the processor with family and model: virtual machines give one name to several generations."""
    name = info.get("model name") or platform.processor() or platform.machine()
    parts = [f"{part} {info[part]}" for part in ("cpu family", "model", "CPU implementer", "CPU part") if part in info]
    return f"{name} ({', '.join(parts)})" if parts else name


def _words(values: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None) or "none"
