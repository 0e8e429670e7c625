"""A process that dies is named, with the step and what to type."""

import os
import signal

import pytest
import torch
from worlds.small_arguments import arguments
from worlds.small_models import build_llava, collate, training_rows

from contralign import CALTrainer
from contralign.checkpoints.run_errors import RankDied, RunError, WorkerDied, as_run_error


class Deadly(torch.utils.data.Dataset):
    """Its loader is killed at one record, as by a system that is out of memory."""

    def __init__(self, rows, at):
        self.rows, self.at = rows, at

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        if number == self.at and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.rows[number]


def test_a_loader_that_is_killed_at_any_moment_is_named_with_the_last_checkpoint(tmp_path):
    trainer = CALTrainer(
        model=build_llava(),
        args=arguments(
            tmp_path,
            per_device_train_batch_size=1,
            max_steps=8,
            save_strategy="steps",
            save_steps=1,
            dataloader_num_workers=1,
            dataloader_prefetch_factor=1,
        ),
        train_dataset=Deadly(training_rows(dtype=torch.float32), at=6),
        data_collator=collate,
    )
    with pytest.raises(
        WorkerDied, match=r"The last checkpoint is of step \d, in|No checkpoint has been written"
    ) as died:
        trainer.train()
    said = str(died.value)
    assert "a process that loads data died: DataLoader worker (pid" in said
    assert "trainer.dataloader_num_workers=0" in said


@pytest.mark.parametrize(
    ("error", "ranks", "kind"),
    [
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), 1, None),
        (RuntimeError("Caught BadRecord in DataLoader worker process 0."), 1, None),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242"), 2, RankDied),
        (RuntimeError("Connection closed by peer"), 1, None),
        (RuntimeError("shapes do not fit"), 2, None),
    ],
)
def test_errors_of_torch_are_told_apart(error, ranks, kind):
    found = as_run_error(error, ranks, step=7, checkpoint="No checkpoint.")
    assert (found is None) if kind is None else type(found) is kind
    if found is not None:
        assert str(found).startswith("step 7: ")
        assert str(found).endswith("No checkpoint.")


def test_a_loader_that_was_killed_is_known_by_its_exit_code():
    assert type(as_run_error(RuntimeError("anything"), 1, 7, "No checkpoint.", killed=[-9])) is WorkerDied
    assert as_run_error(ValueError("of our own"), 1, 7, "No checkpoint.", killed=[-9]) is None


def test_every_mishap_has_an_exit_code_of_its_own_kind():
    codes = {kind.__name__: kind.exit_code for kind in RunError.__subclasses__()}
    assert codes.pop("Stopped") == 75
    assert set(codes.values()) == {3}
