"""A step with a NaN is not taken: it is named with its records, and stopped at or left out."""

import math

import pytest
import torch
from worlds.small_arguments import arguments
from worlds.small_models import build_llava, collate, training_rows

from contralign import CalConfig, CALTrainer
from contralign.checkpoints.nan_guard import RECORD_IDS, RecordIdCollator
from contralign.checkpoints.resuming_trainer import ResumingTrainer
from contralign.checkpoints.run_errors import NotFinite


def named_rows(bad=()):
    """Eight records; the pictures of the bad ones hold a NaN."""
    rows = training_rows(dtype=torch.float32)
    for number, row in enumerate(rows):
        row["id"] = f"r{number}"
        if number in bad:
            row["pixel_values"] = torch.full_like(row["pixel_values"], math.nan)
    return rows


def without_ids(rows):
    return collate([{name: value for name, value in row.items() if name != "id"} for row in rows])


def trainer_of(kind, folder, rows, **changes):
    on_nan = changes.pop("on_nan", "stop")
    settings = {"per_device_train_batch_size": 2, "max_steps": 4, "learning_rate": 0.01, **changes}
    extra = {"cal": CalConfig()} if kind is CALTrainer else {}
    return kind(
        model=build_llava(),
        args=arguments(folder, **settings),
        train_dataset=rows,
        data_collator=without_ids,
        on_nan=on_nan,
        **extra,
    )


def with_picture(rows, after):
    """Number of the first record from `after` on that has a picture."""
    return next(number for number, row in enumerate(rows) if number >= after and len(row["pixel_values"]))


@pytest.mark.parametrize("kind", [CALTrainer, ResumingTrainer])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_nan_stops_the_run_before_the_weights_move_and_names_the_records(kind, workers, tmp_path):
    bad = with_picture(named_rows(), after=4)
    step = bad // 2
    trainer = trainer_of(
        kind, tmp_path, named_rows([bad]), save_strategy="steps", save_steps=1, dataloader_num_workers=workers
    )
    with pytest.raises(NotFinite) as stopped:
        trainer.train()
    said = str(stopped.value)
    assert f"step {step + 1}: the loss is nan; its records: r{2 * step}, r{2 * step + 1}\n" in said
    assert f"The last checkpoint is of step {step}" in said
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())
    assert not (tmp_path / f"checkpoint-{step + 1}").exists()


def test_only_the_micro_batch_that_broke_is_named(tmp_path):
    bad = with_picture(named_rows(), after=6)
    trainer = trainer_of(
        CALTrainer, tmp_path, named_rows([bad]), per_device_train_batch_size=1, gradient_accumulation_steps=4
    )
    with pytest.raises(NotFinite, match=rf"step 2: the loss is nan; its records: r{bad}\n"):
        trainer.train()


def test_a_gradient_that_is_infinite_with_a_finite_loss_is_named_with_its_parameter(tmp_path):
    trainer = trainer_of(ResumingTrainer, tmp_path, named_rows())
    weight = trainer.model.lm_head.weight
    weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(
        NotFinite, match=r"gradient is inf, that of lm_head.weight and 0 more,.*r0, r1\n.*learning rate"
    ):
        trainer.train()


@pytest.mark.bit_exact
def test_skipping_leaves_the_step_out_and_counts_it(tmp_path):
    rows = named_rows()
    bad = with_picture(rows, after=2)
    kept = [row for number, row in enumerate(rows) if number // 2 != bad // 2]
    settings = {"lr_scheduler_type": "constant", "logging_steps": 1}
    skipping = trainer_of(CALTrainer, tmp_path, named_rows([bad]), on_nan="skip", **settings)
    skipping.train()
    without = trainer_of(CALTrainer, tmp_path, kept, max_steps=3, **settings)
    without.train()
    assert skipping.state.global_step == 4
    assert [entry.get("skipped_steps") for entry in skipping.state.log_history if "loss" in entry][-1] == 1
    pairs = zip(skipping.model.parameters(), without.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_skipping_gives_up_after_five_in_a_row(tmp_path):
    rows = named_rows(range(8))
    trainer = trainer_of(
        CALTrainer, tmp_path, [row for row in rows if len(row["pixel_values"])], on_nan="skip", max_steps=20
    )
    with pytest.raises(NotFinite, match="the 6th such step in a row"):
        trainer.train()
    assert trainer.state.global_step == 5


def test_weights_that_overflowed_are_not_saved(tmp_path):
    trainer = trainer_of(
        ResumingTrainer,
        tmp_path,
        named_rows(),
        save_strategy="steps",
        save_steps=1,
        learning_rate=math.inf,
        max_grad_norm=0.0,
    )
    with pytest.raises(NotFinite, match="step 1: the weights are no longer finite"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_batches_that_are_no_dictionary_stay_as_they_are():
    assert RecordIdCollator(lambda samples: samples)([1, 2]) == [1, 2]
    assert RecordIdCollator(lambda samples: {"n": 2})([{"id": 7}, {}])[RECORD_IDS] == ["7", None]


def test_another_word_is_refused(tmp_path):
    with pytest.raises(ValueError, match="on_nan='ignore': wanted 'stop' or 'skip'"):
        trainer_of(ResumingTrainer, tmp_path, named_rows(), on_nan="ignore")


def test_infinite_gradients_are_left_to_a_scaler_and_a_loss_is_not(tmp_path):
    trainer = trainer_of(ResumingTrainer, tmp_path, named_rows())
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    trainer.model.lm_head.weight.grad = torch.full_like(trainer.model.lm_head.weight, math.inf)
    trainer._losses = [torch.tensor(1.0)]
    assert not math.isfinite(trainer._get_grad_norm(trainer.model))
    trainer._losses = [torch.tensor(math.inf)]
    with pytest.raises(NotFinite, match="the loss is inf"):
        trainer._get_grad_norm(trainer.model)
