"""A rank that has said its last word ends, whatever its threads are doing."""

import subprocess
import sys

import pytest

# A thread that waits for ever, and is not a daemon: the interpreter would wait for it.
RANK = """
import sys, threading
from contralign.cli.ranks import hard_exit
threading.Thread(target=threading.Event().wait).start()
with hard_exit():
    print("said")
    {end}
"""


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ("pass", 0, ""),
        ("raise SystemExit(75)", 75, ""),
        ("raise SystemExit('no')", 1, "no"),
        ("raise SystemExit(None)", 0, ""),
        ("raise RuntimeError('a fault')", 1, "RuntimeError: a fault"),
    ],
)
def test_one_of_two_ranks_ends_with_its_code_and_all_that_it_said(end, code, told, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    ended = subprocess.run([sys.executable, "-c", RANK.format(end=end)], capture_output=True, text=True, timeout=600)
    assert (ended.returncode, ended.stdout) == (code, "said\n")
    assert told in ended.stderr


def test_a_process_alone_ends_as_python_does(monkeypatch):
    from contralign.cli.ranks import hard_exit

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SystemExit) as end, hard_exit():
        raise SystemExit(3)
    assert end.value.code == 3
