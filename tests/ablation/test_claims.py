"""One holder at a time; what a dead or silent process held is free again."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from contralign.ablation.claims import Claims


@pytest.fixture
def claims(tmp_path):
    return Claims(tmp_path, stale_seconds=60, beat_seconds=0.05)


def gone_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave_claim(claims, key="a", host=None, pid=None, age=0.0):
    """What a process that did not clean up left behind."""
    content = {"host": host or socket.gethostname(), "pid": pid or os.getpid(), "token": "theirs"}
    (claims.folder / key).write_text(json.dumps(content))
    then = time.time() - age
    os.utime(claims.folder / key, (then, then))


def test_a_claim_has_one_holder(claims):
    with claims.hold("a") as mine:
        assert mine
        assert claims.is_held("a")
        with claims.hold("a") as again, claims.hold("b") as other:
            assert not again
            assert other
        assert claims.is_held("a")
    assert not claims.is_held("a")
    assert list(claims.folder.iterdir()) == []


def test_a_claim_is_given_back_when_the_work_fails(claims):
    with pytest.raises(OSError, match="disk full"), claims.hold("a"):
        raise OSError("disk full")
    assert not claims.is_held("a")


def test_only_one_of_many_processes_gets_it(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from contralign.ablation.claims import Claims\n"
        "with Claims(Path(sys.argv[1])).hold('a') as mine:\n"
        "    print(mine, flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    many = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) for _ in range(3)
    ]
    said = [process.stdout.readline().strip() for process in many]
    for process in many:
        process.communicate("")
    assert sorted(said) == ["False", "False", "True"]


def test_a_dead_holder_on_this_machine_is_taken_over_at_once(claims):
    leave_claim(claims, pid=gone_process())
    assert not claims.is_held("a")
    with claims.hold("a") as mine:
        assert mine
    assert list(claims.folder.iterdir()) == []


@pytest.mark.parametrize(("age", "free"), [(1, False), (120, True)])
def test_another_machine_holds_it_while_its_heart_beats(age, free, claims):
    leave_claim(claims, host="elsewhere", pid=1, age=age)
    assert claims.is_held("a") is not free
    with claims.hold("a") as mine:
        assert mine is free


def test_a_living_process_that_is_silent_for_long_is_taken_over(claims):
    leave_claim(claims, age=120)
    with claims.hold("a") as mine:
        assert mine


def test_the_heart_beats_while_the_work_goes_on(claims):
    with claims.hold("a"):
        long_ago = time.time() - 1000
        os.utime(claims.folder / "a", (long_ago, long_ago))
        deadline = time.time() + 60
        while (claims.folder / "a").stat().st_mtime < long_ago + 500 and time.time() < deadline:
            time.sleep(0.02)
        assert claims.is_held("a")


def test_a_claim_that_was_taken_over_is_not_given_back_by_the_first(claims):
    with claims.hold("a"):
        leave_claim(claims)
    assert json.loads((claims.folder / "a").read_text())["token"] == "theirs"


def test_a_claim_that_another_has_just_taken_over_is_put_back(claims, monkeypatch):
    """Two see the same stale claim; the slower one must not remove the claim of the faster."""
    leave_claim(claims, pid=gone_process())
    rename = os.rename

    def faster(self, target):
        leave_claim(claims, host="elsewhere", pid=1)
        rename(self, target)

    monkeypatch.setattr("pathlib.Path.rename", faster)
    stale = iter([True])
    monkeypatch.setattr(claims, "_is_stale", lambda key: next(stale))
    with claims.hold("a") as mine:
        assert not mine
    assert json.loads((claims.folder / "a").read_text())["host"] == "elsewhere"
    assert len(list(claims.folder.iterdir())) == 1


def test_a_half_written_claim_counts_as_held_until_it_is_old(claims):
    (claims.folder / "a").write_text("")
    assert claims.is_held("a")
    os.utime(claims.folder / "a", (1, 1))
    with claims.hold("a") as mine:
        assert mine
