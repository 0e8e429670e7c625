"""Every weighting through the whole step, from pixels to gradient, against loops over full logits in float64."""

import math

import pytest
import torch
from torch.utils.data import Dataset
from transformers import TrainingArguments
from worlds.same_numbers import assert_near
from worlds.small_models import build_llava, collate, mixed_batch, training_rows

from contralign import CalConfig, CALTrainer, ContrastiveAlignment
from contralign.core.reference import reference_delta, reference_kl, reference_loss, reference_weights
from contralign.weighting.registry import WEIGHTINGS

CONFIGS = {
    "cal": {"score": "centred"},
    "uniform": {},
    "quantile": {"alpha": 0.5, "options": {"low": 0.1}},
    "prior": {"options": {"power": 2}},
    "vig": {"options": {"keep": 0.6}},
    "tpo": {"score": "logprob"},
    "vppo": {"options": {"keep": 0.3}},
    "pgpo": {},
    "rho1": {"options": {"keep": 0.5}, "scores": "a file"},
    "dft": {},
}
KEEP = {"vig": 0.6, "vppo": 0.3, "rho1": 0.5}


def gentle_llava():
    """Words that the model half expects: probabilities near 0 or 1 alone would make some rules constant."""
    model = build_llava(torch.float64)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.3)
    return model


def both_looks(model, inputs):
    """Full logits with the image keys there, and with them hidden."""
    shown = {name: value for name, value in inputs.items() if name != "labels"}
    hidden = inputs["attention_mask"] * (inputs["input_ids"] != model.config.image_token_id).long()
    with torch.no_grad():
        without = model(**(shown | {"attention_mask": hidden})).logits
    return model(**shown).logits[:, :-1], without[:, :-1]


def expected_words(model, inputs):
    """The batch with, in turn, the word that the model expects with the picture, without it, and the one it had."""
    logits, without = both_looks(model, inputs)
    labels = inputs["labels"].clone()
    for number, (row, column) in enumerate((labels[:, 1:] != -100).nonzero().tolist()):
        if number % 3 < 2:
            labels[row, column + 1] = (logits, without)[number % 3][row, column].argmax()
    return inputs | {"labels": labels}


class Slow:
    """Readings of every label token from full logits, and the rules over them, one token at a time."""

    def __init__(self, logits, without, labels, reference_nll=None):
        self.valid = (labels != -100).tolist()
        self.picked = labels.clamp(min=0)
        self.delta = {
            score: reference_delta(logits, without, self.picked, score) for score in ("logit", "centred", "logprob")
        }
        self.kl = reference_kl(logits, without)
        self.nll = (-logits.log_softmax(-1).gather(-1, self.picked.unsqueeze(-1)).squeeze(-1)).tolist()
        self.reference_nll = reference_nll

    def weights(self, name, config, has_image):
        places = [
            (row, t) for row, flags in enumerate(self.valid) for t, flag in enumerate(flags) if flag and has_image[row]
        ]
        found = [[float(flag) for flag in row] for row in self.valid]
        rule = getattr(self, name)
        for (row, t), weight in rule(config, places).items():
            found[row][t] = weight
        window = config.window if name in ("cal", "quantile") else 1
        return reference_weights(found, self.valid, 0.0, math.inf, window, "exact")

    def at(self, values, places):
        return {place: values[place[0]][place[1]] for place in places}

    def top(self, values, count):
        last = sorted(values.values(), reverse=True)[count - 1]
        return {place: float(value >= last) for place, value in values.items()}

    def cal(self, config, places):
        return {place: min(max(value, 1.0), 5.0) for place, value in self.at(self.delta["centred"], places).items()}

    def uniform(self, config, places):
        return dict.fromkeys(places, 1.0)

    def quantile(self, config, places):
        delta = self.at(self.delta["logit"], places)
        low, high = torch.tensor(list(delta.values()), dtype=torch.float64).quantile(
            torch.tensor([0.1, 0.95], dtype=torch.float64)
        )
        share = {place: (min(max(value, low), high) - low) / (high - low) for place, value in delta.items()}
        return {place: float(0.5 + 4.5 * value) for place, value in share.items()}

    def prior(self, config, places):
        nll, gain = self.at(self.nll, places), self.at(self.delta["logprob"], places)
        return {place: (1 - math.exp(-nll[place] - gain[place])) ** 2 for place in places}

    def vig(self, config, places):
        return self.top(self.at(self.delta["logprob"], places), math.ceil(0.6 * len(places)))

    def tpo(self, config, places):
        return {
            place: 0.5 + 1 / (1 + math.exp(-value)) for place, value in self.at(self.delta["logprob"], places).items()
        }

    def vppo(self, config, places):
        found = {}
        for row in {row for row, _ in places}:
            own = self.at(self.kl, [place for place in places if place[0] == row])
            found |= self.top(own, math.ceil(0.3 * len(own)))
        return found

    def pgpo(self, config, places):
        found = {}
        for row in {row for row, _ in places}:
            own = {p: math.log(1 + v) for p, v in self.at(self.kl, [p for p in places if p[0] == row]).items()}
            low, high = min(own.values()), max(own.values())
            share = {place: (value - low) / (high - low) for place, value in own.items()}
            gate = {p: v / 0.4 if v < 0.4 else 1 + 2 * (v - 0.4) / 0.6 for p, v in share.items()}
            found |= {place: value * len(gate) / sum(gate.values()) for place, value in gate.items()}
        return found

    def rho1(self, config, places):
        own, other = self.at(self.nll, places), self.at(self.reference_nll, places)
        return self.top({place: own[place] - other[place] for place in places}, math.ceil(0.5 * len(places)))

    def dft(self, config, places):
        return {place: math.exp(-value) for place, value in self.at(self.nll, places).items()}


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("form", ["exact", "paper"])
@pytest.mark.parametrize("name", WEIGHTINGS)
def test_loss_weights_and_gradient_equal_slow_loops_over_full_logits(name, form):
    ours, theirs = gentle_llava(), gentle_llava()
    inputs = expected_words(ours, mixed_batch(dtype=torch.float64))
    config = CalConfig(weighting=name, form=form, **CONFIGS[name])
    rng = torch.Generator().manual_seed(3)
    reference_nll = 3 * torch.rand(inputs["labels"].shape, generator=rng, dtype=torch.float64)
    cached = {"cached_delta": reference_nll} if name == "rho1" else {}
    alignment = ContrastiveAlignment(ours, config)
    out = alignment(inputs | cached)
    out.loss.backward()

    logits, without = both_looks(theirs, inputs)
    slow = Slow(logits, without, inputs["labels"][:, 1:], reference_nll[:, 1:].tolist())
    weights = slow.weights(name, config, out.has_image.tolist())
    nll = -logits.log_softmax(-1).gather(-1, slow.picked.unsqueeze(-1)).squeeze(-1)
    wanted = reference_loss(nll, weights, slow.valid, form)
    wanted.backward()
    pictured = out.valid & out.has_image.unsqueeze(1)
    assert name == "uniform" or out.weights[pictured].std() > 0.2 * out.weights[pictured].mean()
    torch.testing.assert_close(out.weights, torch.tensor(weights, dtype=torch.float64), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(out.loss, wanted, rtol=1e-10, atol=0)
    mine, reference = gradients(ours), gradients(theirs)
    assert (mine - reference).norm() <= 1e-9 * reference.norm()
    assert (alignment.contrast is None) == (name in ("uniform", "rho1", "dft")), "a second pass that nobody reads"


@pytest.mark.parametrize(
    ("name", "main"),
    [("prior", "nll_without"), ("vppo", "kl"), ("tpo", "delta_logprob"), ("dft", None), ("uniform", None)],
)
def test_delta_shows_what_the_weighting_reads_of_two_looks(name, main):
    model = gentle_llava()
    inputs = expected_words(model, mixed_batch(dtype=torch.float64))
    out = ContrastiveAlignment(model, CalConfig(weighting=name, **CONFIGS[name]))(inputs)
    slow = Slow(*both_looks(model, inputs), inputs["labels"][:, 1:])
    values = {
        "nll_without": torch.tensor(slow.nll) + torch.tensor(slow.delta["logprob"]),
        "kl": torch.tensor(slow.kl),
        "delta_logprob": torch.tensor(slow.delta["logprob"]),
        None: torch.zeros(out.delta.shape),
    }
    torch.testing.assert_close(out.delta.double(), (values[main] * out.valid).double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["vppo", "prior"])
def test_packed_rows_are_lined_up_like_rows_of_their_own(name):
    """The second pass packs rows into one: what it says must land on its own labels."""
    model = gentle_llava()
    inputs = expected_words(model, mixed_batch(images=(2, 1, 0, 1, 1), dtype=torch.float64))
    fronts = {"input_ids": torch.arange(10, 22), "labels": torch.full((12,), -100), "attention_mask": torch.ones(12)}
    for field, prompt in fronts.items():
        inputs[field] = torch.cat([prompt.long().expand(5, -1), inputs[field]], dim=1)
    packed, alone = (ContrastiveAlignment(model, CalConfig(weighting=name, **CONFIGS[name])) for _ in range(2))
    alone.contrast = type(packed.contrast)(pack=False)
    assert packed.contrast(packed.adapter.prepare(inputs)).packed
    found, wanted = packed(inputs), alone(inputs)
    assert found.delta[found.valid].std() > 0.3
    torch.testing.assert_close(found.delta, wanted.delta, rtol=1e-9, atol=1e-9)


def test_a_batch_that_nobody_sees_a_picture_in_is_plain_mle_under_every_weighting():
    for name in WEIGHTINGS:
        model = build_llava(torch.float64)
        inputs = mixed_batch(images=(0, 0), dtype=torch.float64)
        cached = {"cached_delta": torch.zeros(inputs["labels"].shape)} if name == "rho1" else {}
        out = ContrastiveAlignment(model, CalConfig(weighting=name, **CONFIGS[name]))(inputs | cached)
        torch.testing.assert_close(out.loss, model(**inputs).loss.double(), rtol=1e-6, atol=0, msg=name)
        assert not out.delta.any() or name == "prior"


def test_uniform_is_the_models_own_loss_and_gradient():
    ours, theirs = build_llava(), build_llava()
    inputs = mixed_batch()
    out = ContrastiveAlignment(ours, CalConfig(weighting="uniform"))(inputs)
    out.loss.backward()
    plain = theirs(**inputs).loss
    plain.backward()
    torch.testing.assert_close(out.loss, plain, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-4, atol=1e-5)


def test_cal_is_what_it_was_to_the_last_bit():
    """Named or not, and against the functions of the paper on the step's own Δ."""
    from contralign import cal_loss, cal_weights

    inputs = mixed_batch(dtype=torch.float64)
    out = ContrastiveAlignment(build_llava(torch.float64), CalConfig())(inputs)
    named = ContrastiveAlignment(build_llava(torch.float64), CalConfig(weighting="cal"))(inputs)
    assert_near(out.weights, named.weights)
    assert_near(out.loss, named.loss)
    assert torch.equal(out.weights, cal_weights(out.delta, out.valid, has_image=out.has_image))
    torch.testing.assert_close(out.loss, cal_loss(out.nll, out.weights, out.valid), rtol=1e-6, atol=0)


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def trainer_of(folder, config, batch_size=8, accumulation=1):
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=0.1,
        optim="sgd",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rows = Rows(training_rows(dtype=torch.float32))
    return CALTrainer(
        model=build_llava(), args=args, train_dataset=rows, data_collator=collate, eval_dataset=rows, cal=config
    )


@pytest.mark.parametrize("name", [name for name in WEIGHTINGS if name != "rho1"])
def test_the_trainer_trains_logs_and_evaluates_with_it(name, tmp_path):
    config = CalConfig(weighting=name, **CONFIGS[name])
    trainer = trainer_of(tmp_path, config)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert math.isfinite(logged["loss"]) and logged["weight_mean"] > 0
    assert ("share_at_alpha" in logged) == (name == "cal")
    assert ("delta_q50" in logged) == config.compares == (name not in ("uniform", "dft"))
    evaluated = trainer.evaluate()
    assert evaluated["eval_loss"] > 0 and ("eval_delta_q50" in evaluated) == config.compares


@pytest.mark.parametrize("name", ["uniform", "prior", "tpo", "vppo", "pgpo", "dft"])
def test_weights_that_are_made_token_by_token_or_in_a_sample_do_not_depend_on_the_split(name, tmp_path):
    config = CalConfig(weighting=name, **CONFIGS[name])
    losses = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        trainer = trainer_of(tmp_path, config, batch_size, accumulation)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
