"""CAL in the Trainer: the same numbers however a step is cut, and every feature users of the Trainer expect."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer
from worlds.same_numbers import assert_says_the_same
from worlds.small_arguments import arguments
from worlds.small_models import build_llava, collate, training_rows

from contralign import CalConfig, CALTrainer, with_cal
from contralign.checkpoints.resuming_trainer import ResumingTrainer

TOLERANCE = 1e-5


class Gradients:
    """Remembers the gradients of the first step as the optimizer gets them, and before they are clipped."""

    def __init__(self, trainer):
        self.norms, self.first = [], None
        clip = trainer.accelerator.clip_grad_norm_

        def remember(parameters, *rest):
            parameters = list(parameters)
            if self.first is None:
                self.first = torch.cat([p.grad.flatten().clone() for p in parameters if p.grad is not None])
            return clip(parameters, *rest)

        trainer.accelerator.clip_grad_norm_ = remember


def trained(folder, batch_size, accumulation, cal=None, trainer_class=CALTrainer, dtype=torch.float64, **changes):
    model = build_llava(dtype)
    args = arguments(
        folder, per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation, **changes
    )
    extra = {} if trainer_class is Trainer else {"cal": cal or CalConfig()}
    trainer = trainer_class(
        model=model, args=args, train_dataset=training_rows(dtype=dtype), data_collator=collate, **extra
    )
    gradients = Gradients(trainer)
    trainer.train()
    losses = torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return trainer, losses, gradients.first, weights


@pytest.mark.parametrize("form", ["exact", "paper"])
def test_a_step_is_the_same_however_it_is_cut_into_micro_batches(form, tmp_path):
    whole, *wanted = trained(tmp_path, 8, 1, CalConfig(form=form))
    spread = whole.state.log_history[0]
    assert spread["share_at_alpha"] < 0.9
    assert spread["weight_mean"] > 1.2
    for batch_size, accumulation in ((4, 2), (2, 4), (1, 8)):
        _, *cut = trained(tmp_path, batch_size, accumulation, CalConfig(form=form))
        for name, one, other in zip(("loss", "gradient", "weights"), wanted, cut, strict=True):
            assert (one - other).norm() <= TOLERANCE * one.norm(), (name, batch_size)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(8, 1), (2, 4)])
def test_no_contrast_is_plain_mle_through_our_loss_and_logs_no_delta(batch_size, accumulation, tmp_path):
    fused, *ours = trained(tmp_path, batch_size, accumulation, CalConfig(contrast="none"))
    _, *theirs = trained(tmp_path, batch_size, accumulation, trainer_class=Trainer)
    for name, one, other in zip(("loss", "gradient", "weights"), ours, theirs, strict=True):
        assert (one - other).norm() <= TOLERANCE * other.norm(), name
    logged = fused.state.log_history[0]
    assert logged["weight_mean"] == 1.0
    assert not [name for name in logged if name.startswith(("share_at_", "delta_"))]


def test_a_step_of_fewer_micro_batches_at_the_end_of_an_epoch_is_right_too(tmp_path):
    """8 rows in micro-batches of 2, three to a step: the second step of the epoch has one."""
    trainer, losses, _, _ = trained(tmp_path, 2, 3)
    _, whole, _, _ = trained(tmp_path, 6, 1)
    assert losses[0] == pytest.approx(whole[0].item(), rel=TOLERANCE)
    assert trainer.state.global_step == 2


def test_released_form_averages_micro_batches_as_they_come(tmp_path):
    _, cut, _, _ = trained(tmp_path, 4, 2, CalConfig.released(), max_steps=1, learning_rate=0.0)
    model = build_llava(torch.float64)
    from contralign import ContrastiveAlignment

    cal, rows = ContrastiveAlignment(model, CalConfig.released()), training_rows()
    halves = [cal(collate(rows[:4])).loss.item(), cal(collate(rows[4:])).loss.item()]
    assert abs(halves[0] - halves[1]) > 1e-3
    assert cut[0] == pytest.approx(sum(halves) / 2, rel=TOLERANCE)


@pytest.mark.parametrize("batch_size, accumulation", [(8, 1), (4, 2)])
def test_equal_bounds_are_plain_mle_through_the_trainer(batch_size, accumulation, tmp_path):
    _, *plain = trained(tmp_path, batch_size, accumulation, trainer_class=Trainer)
    _, *ours = trained(tmp_path, batch_size, accumulation, CalConfig(alpha=2.0, beta=2.0))
    for one, other in zip(plain, ours, strict=True):
        assert (one - other).norm() <= 1e-6 * one.norm()


def test_what_is_logged_says_what_the_weights_did(tmp_path):
    trainer, _, _, _ = trained(tmp_path, 8, 1, CalConfig(alpha=0.5, beta=2))
    logged = trainer.state.log_history[0]
    assert {"loss", "nll", "weight_mean", "token_accuracy", "share_at_alpha", "share_at_beta"} <= set(logged)
    quantiles = [logged[f"delta_q{q:02d}"] for q in (5, 25, 50, 75, 95)]
    assert quantiles == sorted(quantiles)
    assert quantiles[0] < quantiles[-1]
    model, rows = build_llava(torch.float64), training_rows()
    plain = model(**collate(rows)).loss
    assert logged["nll"] == pytest.approx(plain.item(), rel=1e-6)
    assert 0 < logged["share_at_beta"] < 1


def test_the_evaluation_loss_does_not_depend_on_the_batch_size(tmp_path):
    losses = []
    for batch_size in (8, 3, 1):
        trainer = CALTrainer(
            model=build_llava(torch.float64),
            args=arguments(tmp_path, per_device_eval_batch_size=batch_size),
            eval_dataset=training_rows(),
            data_collator=collate,
        )
        metrics = trainer.evaluate()
        losses.append(metrics["eval_loss"])
        assert metrics["eval_nll"] != metrics["eval_loss"]
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-9)


def test_compute_metrics_gets_full_logits(tmp_path):
    def share(prediction):
        right = prediction.predictions[:, :-1].argmax(-1) == prediction.label_ids[:, 1:]
        return {"right": float(right[prediction.label_ids[:, 1:] != -100].mean())}

    trainer = CALTrainer(
        model=build_llava(),
        args=arguments(tmp_path, per_device_eval_batch_size=4),
        eval_dataset=training_rows(dtype=torch.float32),
        data_collator=collate,
        compute_metrics=share,
    )
    metrics = trainer.evaluate()
    assert metrics["eval_right"] == pytest.approx(metrics["eval_token_accuracy"])


def test_lora_checkpointing_and_bf16_train_together(tmp_path):
    model = build_llava()
    lora = LoraConfig(r=4, target_modules=r".*language_model.*(q_proj|v_proj)", lora_dropout=0.0)
    peft_model = get_peft_model(model, lora)
    trainer = CALTrainer(
        model=peft_model,
        args=arguments(
            tmp_path,
            per_device_train_batch_size=4,
            max_steps=3,
            bf16=True,
            activation_checkpointing=True,
            activation_checkpointing_kwargs={"use_reentrant": False},
        ),
        train_dataset=training_rows(dtype=torch.float32),
        data_collator=collate,
    )
    before = {name: p.detach().clone() for name, p in peft_model.named_parameters()}
    trainer.train()
    moved = {name for name, p in peft_model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)


def test_with_uniform_weights_lora_equals_the_plain_trainer(tmp_path):
    losses = []
    for trainer_class, extra in ((Trainer, {}), (CALTrainer, {"cal": CalConfig(alpha=1, beta=1)})):
        torch.manual_seed(0)
        model = get_peft_model(build_llava(), LoraConfig(r=4, target_modules=r".*language_model.*q_proj"))
        trainer = trainer_class(
            model=model,
            args=arguments(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=3),
            train_dataset=training_rows(dtype=torch.float32),
            data_collator=collate,
            **extra,
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.bit_exact
@pytest.mark.parametrize("trainer_class", [CALTrainer, ResumingTrainer])
def test_a_resumed_run_ends_with_the_same_weights(trainer_class, tmp_path):
    def run(folder, steps, resume=None):
        model = build_llava()
        trainer = trainer_class(
            model=model,
            args=arguments(
                folder,
                per_device_train_batch_size=2,
                gradient_accumulation_steps=2,
                max_steps=steps,
                save_strategy="steps",
                save_steps=2,
                optim="adamw_torch",
                learning_rate=1e-2,
                train_sampling_strategy="random",
            ),
            train_dataset=training_rows(dtype=torch.float32),
            data_collator=collate,
        )
        trainer.train(resume_from_checkpoint=resume)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "broken", 2)
    assert torch.equal(run(tmp_path / "broken", 4, resume=str(tmp_path / "broken" / "checkpoint-2")), whole)


def test_the_saved_model_is_an_ordinary_one(tmp_path):
    from transformers import AutoModelForImageTextToText

    trainer, _, _, _ = trained(tmp_path / "run", 8, 1, dtype=torch.float32)
    trainer.save_model(str(tmp_path / "model"))
    again = AutoModelForImageTextToText.from_pretrained(str(tmp_path / "model"))
    inputs = collate(training_rows(dtype=torch.float32))
    assert_says_the_same(trainer.model.eval(), again, inputs)


@pytest.mark.parametrize(
    "changes, message", [({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0.1 has no effect")]
)
def test_settings_without_effect_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        CALTrainer(model=build_llava(), args=arguments(tmp_path, **changes), data_collator=collate)


def test_a_loss_function_of_the_users_own_is_refused(tmp_path):
    with pytest.raises(ValueError, match="compute_loss_func has no effect"):
        CALTrainer(
            model=build_llava(), args=arguments(tmp_path), data_collator=collate, compute_loss_func=lambda *_, **__: 0
        )


def test_with_cal_wants_a_trainer_class(tmp_path):
    with pytest.raises(ValueError, match="wanted a subclass of"):
        with_cal(dict)
    assert with_cal(Trainer) is CALTrainer
    assert CALTrainer.__name__ == "CALTrainer"


def test_shuffled_pictures_train_in_batches_of_two_or_more(tmp_path):
    trainer, losses, *_ = trained(tmp_path, 3, 1, CalConfig(contrast="shuffle"), max_steps=3)
    assert torch.isfinite(losses).all()
    assert trainer.state.log_history[0]["share_at_alpha"] < 0.9
    with pytest.raises(ValueError, match="contrast='shuffle' with batch_size=1"):
        trained(tmp_path, 1, 2, CalConfig(contrast="shuffle"))


def test_evaluation_does_not_move_the_mean_picture_of_training(tmp_path):
    trainer, *_ = trained(tmp_path, 4, 1, CalConfig(contrast="mean"))
    running = trainer.alignment.contrast.running
    assert running.batches == 2
    before = running.value.clone()
    assert torch.isfinite(torch.tensor(trainer.evaluate(training_rows(4, seed=1))["eval_loss"]))
    assert running.batches == 2
    assert torch.equal(running.value, before)
