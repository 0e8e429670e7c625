"""Worker processes: started, watched, and missed when they die."""

import sys
from collections import Counter

import pytest
from worlds.small_ablations import made_directory

from contralign.ablation import launch
from contralign.ablation.directory import write_json
from contralign.ablation.launch import run_workers


@pytest.fixture
def pretend(monkeypatch):
    """Runs the words given as Python instead of the command."""

    def start(directory, words, number):
        log = (directory.logs / f"worker-{number}.log").open("ab")
        with log:
            return launch.subprocess.Popen([sys.executable, "-c", words[0], str(directory.path)], stderr=log)

    monkeypatch.setattr(launch, "_start", start)


def finishing(planned):
    """A worker that gives every cell its result."""
    return (
        "import sys, pathlib, time\n"
        f"for key in {[one.key for one in planned]}:\n"
        "    (pathlib.Path(sys.argv[1]) / 'cells' / f'{key}.json').write_text('{}')\n"
    )


def test_no_more_workers_than_open_results_and_everything_is_tidied(tmp_path, pretend):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    seen = []
    run_workers(directory, planned, [finishing(planned)], 8, seen.append, poll_seconds=0.05)
    assert seen[-1] == Counter(done=2)
    assert len(list(directory.logs.iterdir())) == 2
    assert not directory.work.exists()
    assert not directory.claims.exists()


def test_what_failed_before_is_tried_again(tmp_path, pretend):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    (directory.steps / f"{planned[0].steps[0].key}.error").write_text("x")
    run_workers(directory, planned, [finishing(planned)], 1, lambda counts: None, poll_seconds=0.05)
    assert {directory.state(one) for one in planned} == {"done"}


def test_workers_that_die_are_no_silence(tmp_path, pretend):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    with pytest.raises(RuntimeError, match=r"worker 0 ended with 1 before all cells were done(.|\n)*out of memory"):
        run_workers(directory, planned, ["raise SystemExit('out of memory')"], 1, lambda counts: None, 0.05)


def test_work_of_a_living_worker_is_not_removed(tmp_path, pretend):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    (directory.work / "half").mkdir()
    with launch.Claims(directory.claims).hold(planned[0].key):
        run_workers(directory, planned, ["pass"], 1, lambda counts: None, 0.05)
        assert (directory.work / "half").is_dir()
    run_workers(directory, planned, ["pass"], 1, lambda counts: None, 0.05)
    assert not (directory.work / "half").exists()


def test_nothing_is_started_where_everything_is_done(tmp_path, pretend):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    for one in planned:
        write_json(directory.cells / f"{one.key}.json", {})
    run_workers(directory, planned, ["raise SystemExit(3)"], 4, lambda counts: None, 0.05)
    assert not list(directory.logs.iterdir())


def test_the_end_of_an_ablation_leaves_alone_what_another_in_the_same_folder_works_on(tmp_path, pretend):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    (directory.work / "half").mkdir()
    with launch.Claims(directory.claims).hold("of another ablation"):
        run_workers(directory, planned, [finishing(planned)], 1, lambda counts: None, 0.05)
        assert (directory.work / "half").is_dir()
        assert (directory.claims / "of another ablation").is_file()
    run_workers(directory, planned, [finishing(planned)], 1, lambda counts: None, 0.05)
    assert not directory.work.exists()
