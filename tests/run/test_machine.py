"""What decides the last digits: described, compared, joined."""

import json
import re

import pytest
import torch
import transformers

from contralign.run import machine
from contralign.run.environment import describe_environment
from contralign.run.machine import differing_fields, joined, machine_of, same_machine

XEON = """\
processor\t: 0
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu sse2 avx512f avx avx2 amx_tile fma

processor\t: 1
model name\t: another
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd sve aes\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """Let /proc/cpuinfo hold a text."""

    def write(text):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")

    return write


def test_a_record_names_processor_kernels_threads_and_versions(cpu, monkeypatch):
    cpu(XEON)
    for name in machine.KERNEL_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    record = machine_of(json.loads(json.dumps(describe_environment())))
    assert record["processor"] == "Intel(R) Xeon(R) Processor (cpu family 6, model 143)"
    assert record["instructions"] == "amx_tile avx avx2 avx512f fma"
    assert record["kernels"].startswith(f"torch {torch.backends.cpu.get_cpu_capability()}")
    assert record["kernel settings"] == "MKL_CBWR AVX2,STRICT"
    assert record["threads"] == str(torch.get_num_threads())
    assert (record["torch"], record["transformers"]) == (torch.__version__, transformers.__version__)


def test_mkl_and_onednn_are_named_by_their_versions():
    kernels = describe_environment()["kernels"]
    assert (kernels["mkl"] is not None) == torch.backends.mkl.is_available()
    assert (kernels["onednn"] is not None) == torch.backends.mkldnn.is_available()
    assert kernels["onednn"] is None or re.match(r"\d+\.\d+", kernels["onednn"])


def test_a_processor_without_a_model_name_is_told_by_its_part(cpu):
    cpu(ARM)
    described = describe_environment()
    assert described["processor"].endswith("(CPU implementer 0x41, CPU part 0xd40)")
    assert described["instructions"] == "asimd sve"


def test_without_cpuinfo_the_system_says_what_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "none")
    described = describe_environment()
    assert described["processor"]
    assert described["instructions"] == ""


def test_threads_versions_and_settings_make_another_machine(monkeypatch):
    environment = describe_environment()
    here = machine_of(environment)
    assert same_machine(here, machine_of(environment))
    assert differing_fields(here, here) == {}
    other = {**environment, "torch_threads": 64, "versions": {**environment["versions"], "numpy": "0.1"}}
    assert not same_machine(here, machine_of(other))
    assert set(differing_fields(here, machine_of(other))) == {"threads", "numpy"}
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "another")
    assert set(differing_fields(here, machine_of(describe_environment()))) == {"kernel settings"}


def test_a_machine_that_was_not_recorded_is_the_same_as_none():
    old = {name: value for name, value in describe_environment().items() if name != "kernels"}
    assert machine_of(old) == {}
    assert not same_machine(machine_of(old), machine_of(old))


def test_what_two_machines_made_names_both_and_is_unknown_where_one_is():
    first, second = {"processor": "b", "threads": "1"}, {"processor": "a", "threads": "1"}
    assert joined([first, second, first]) == {"processor": "a and b", "threads": "1"}
    assert joined([first, first]) == first
    assert joined([first, {}]) == {}
