"""What is brought to the disk is asked of the system, for files and for folders."""

from __future__ import annotations

import os

import pytest

from contralign.data.to_disk import to_disk


def test_a_file_and_a_folder_are_both_synced_and_closed_again(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("x")
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    to_disk(tmp_path / "a")
    to_disk(tmp_path)
    assert len(synced) == 2
    for descriptor in synced:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        to_disk(tmp_path / "gone")
