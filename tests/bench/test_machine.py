"""Device, threads, and the machine in one line."""

import pytest
import torch
import transformers

from contralign.bench.machine import choose_device, describe_machine, machine_line, set_threads


def test_without_a_wish_cuda_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(None) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(None) == "cuda"
    assert choose_device("cuda:0") == "cuda:0"


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda"])
def test_a_device_that_is_not_there_is_refused(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="wanted cpu"):
        choose_device(device)


def test_threads_are_set_and_reported():
    set_threads(2)
    assert describe_machine("cpu")["torch_threads"] == 2
    set_threads(None)
    assert torch.get_num_threads() == 2
    with pytest.raises(ValueError, match="--threads 0: wanted 1 or more"):
        set_threads(0)


def test_the_line_names_processor_threads_and_versions():
    line = machine_line(describe_machine("cpu"))
    assert line.startswith("cpu; ")
    assert f"torch threads {torch.get_num_threads()}" in line
    assert f"transformers {transformers.__version__}" in line
