"""fsync is asked of the system, for files and for folders."""

from __future__ import annotations

import os

import pytest

from contralign.atomic_write import fsync


def test_a_file_and_a_folder_are_both_synced_and_closed_again(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("x")
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    fsync(tmp_path / "a")
    fsync(tmp_path)
    assert len(synced) == 2
    for descriptor in synced:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fsync(tmp_path / "gone")
