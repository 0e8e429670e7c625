"""What bears its name is whole, and a disk that refuses is named with what is free."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from contralign import atomic_write
from contralign.atomic_write import is_partial, partial_path
from contralign.checkpoints.run_errors import CannotWrite
from contralign.checkpoints.saving import format_bytes, is_write_failure, safe_write, write_text

REAL_FAILURES = """
import resource, signal, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from contralign.checkpoints.run_errors import CannotWrite
from contralign.checkpoints.saving import is_write_failure, write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
folder, big = Path(sys.argv[1]), torch.zeros(100_000)
for work in (
    lambda: torch.save(big, folder / "big.pt"),
    lambda: save_file({"big": big}, folder / "big.safetensors"),
    lambda: (folder / "big.txt").write_text("x" * 100_000),
):
    try:
        work()
    except Exception as error:
        print(is_write_failure(error))
try:
    write_text(folder / "kept.txt", "x" * 100_000)
except CannotWrite as error:
    print(error)
"""


def test_a_file_is_there_when_the_block_has_ended_and_not_before(tmp_path):
    with safe_write(tmp_path / "a.txt") as partial:
        partial.write_text("new")
        assert not (tmp_path / "a.txt").exists()
        assert is_partial(partial)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt()])
def test_what_fails_half_way_leaves_the_old_and_nothing_else(error, tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(type(error)), safe_write(tmp_path / "a.txt") as partial:
        partial.write_text("ne")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_is_written_over(tmp_path):
    left = partial_path(tmp_path / "model")
    left.mkdir()
    (left / "half.bin").write_bytes(b"x")
    with safe_write(tmp_path / "model") as partial:
        partial.mkdir()
        (partial / "whole.bin").write_bytes(b"xy")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["whole.bin"]


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    replace = os.replace
    monkeypatch.setattr(atomic_write, "fsync", lambda path: done.append(path.name))
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append("renamed"), replace(old, new)))
    with safe_write(tmp_path / "model") as partial:
        (partial / "inner").mkdir(parents=True)
        (partial / "inner" / "a.bin").write_bytes(b"x")
    assert {*done[: done.index("renamed")]} == {".model.writing", "inner", "a.bin"}
    assert done[-1] == tmp_path.name


def test_a_disk_that_really_refuses_is_named_and_the_old_file_stays(tmp_path):
    (tmp_path / "kept.txt").write_text("old")
    told = subprocess.run(
        [sys.executable, "-c", REAL_FAILURES, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert told[:3] == ["True"] * 3
    assert "kept.txt could not be written: [Errno 27] File too large (it takes" in told[3]
    assert "are free there)" in told[3]
    assert (tmp_path / "kept.txt").read_text() == "old"
    assert not any(is_partial(path) for path in tmp_path.iterdir())


def test_a_folder_that_is_missing_is_no_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "gone" / "a.txt", "x")
    assert not is_write_failure(RuntimeError("size mismatch"))
    assert not is_write_failure(CannotWrite("said already"))


@pytest.mark.parametrize(
    ("size", "words"), [(5, "5 bytes"), (2048, "2 KiB"), (3 * 2**30, "3.0 GiB"), (1.5e12, "1397.0 GiB")]
)
def test_amounts_are_for_people(size, words):
    assert format_bytes(size) == words


def test_what_is_written_is_as_readable_as_the_umask_says(tmp_path):
    """safetensors writes files that nobody else may read, and a run directory belongs to a team."""
    with safe_write(tmp_path / "model") as partial:
        partial.mkdir()
        save_file({"a": torch.zeros(2)}, partial / "model.safetensors")
    with safe_write(tmp_path / "one.safetensors") as partial:
        save_file({"a": torch.zeros(2)}, partial)
    plain = tmp_path / "plain"
    plain.touch()
    for path in (tmp_path / "model" / "model.safetensors", tmp_path / "one.safetensors"):
        assert path.stat().st_mode == plain.stat().st_mode
