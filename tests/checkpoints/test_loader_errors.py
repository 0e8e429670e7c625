"""What a loader process raises is told by the training process as it is; no loader process outlives a run."""

import multiprocessing
import os

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset
from worlds.small_recipes import small_plan

from contralign.checkpoints.loader_errors import CarryingStream, FailedLoad, collate_or_carry, end_workers, raising
from contralign.data.records.bad_record import BadRecord
from contralign.run.run import run_plan


def cut_picture(path):
    """The header is whole, pixels are not: found when a batch is made."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize("streaming", [False, True])
def test_a_bad_record_is_told_in_the_same_words_with_workers_and_without(streaming, tmp_path):
    said = []
    for workers in (0, 2):
        changes = {"trainer": {"dataloader_num_workers": workers}, "output_dir": str(tmp_path / f"run{workers}")}
        if streaming:
            records = tmp_path / "small.jsonl"
            changes["data"] = {"streaming": True, "train": [str(records)]}
        plan = small_plan(tmp_path, **changes)
        pictures = sorted(path for path in tmp_path.iterdir() if path.suffix in (".png", ".jpg"))
        if streaming:
            import json

            listed = json.loads(next(tmp_path.glob("*.json")).read_text())
            records.write_text("\n".join(map(json.dumps, listed)) + "\n")
        for picture in pictures:
            cut_picture(picture)
        with pytest.raises(BadRecord) as bad:
            run_plan(plan, {})
        said.append((str(bad.value).partition(": ")[2].partition(" cannot")[2], bad.value.reason))
        assert bad.value.record
    assert said[0] == said[1]
    assert said[0][1] == "corrupt_picture"
    assert multiprocessing.active_children() == []


class Numbers(IterableDataset):
    def __init__(self, error):
        self.error = error

    def __iter__(self):
        yield from range(3)
        raise self.error


def rethrown(error):
    """Raised by contralign, as far as its traceback says."""
    loader = DataLoader(CarryingStream(Numbers(error)), batch_size=2, num_workers=1, collate_fn=Collate())
    return list(raising(iter(loader)))


class Collate:
    def __call__(self, samples):
        return collate_or_carry(list, samples)


def test_an_error_that_is_not_ours_keeps_its_type_and_its_traceback():
    with pytest.raises(ZeroDivisionError, match=r"Caught ZeroDivisionError in DataLoader worker process 0"):
        rethrown(ZeroDivisionError("of a library"))
    end_workers()


def test_in_the_process_itself_nothing_is_carried():
    with pytest.raises(BadRecord):
        list(CarryingStream(Numbers(BadRecord("a_reason", "a message", "a record"))))


def test_a_carried_error_is_raised_where_batches_are_taken():
    error = BadRecord("a_reason", "a message", "a record")
    with pytest.raises(BadRecord) as raised:
        list(raising(iter([{}, FailedLoad(error)])))
    assert raised.value is error


class Sleeper(IterableDataset):
    """Its worker ignores SIGTERM and is busy for ever."""

    def __iter__(self):
        import signal
        import time

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        yield os.getpid()
        time.sleep(600)
        yield 0


def test_a_loader_process_that_does_not_end_by_itself_is_killed():
    batches = iter(DataLoader(Sleeper(), batch_size=None, num_workers=1, prefetch_factor=1))
    pid = int(next(batches))
    end_workers()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
