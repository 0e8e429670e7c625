"""Weightings and contrasts given as objects: those of contralign, and those of classes that inherit from nothing."""

import copy
import math
import pickle
from dataclasses import dataclass, field, replace

import pytest
import torch
from worlds.same_numbers import assert_near, in_float64
from worlds.small_arguments import arguments
from worlds.small_models import build_llava, collate, training_rows
from worlds.small_scores import mixed_samples, scored, spread_pair

from contralign import CalConfig, CALTrainer, ContrastiveAlignment
from contralign.contrast import BlurPicture, DropImage, MaskImage, MaskPatches, MeanPicture
from contralign.data.records.mixture import load_samples
from contralign.data.scores.score_file import ScoreMismatch
from contralign.weighting import Cal, Quantile, Rho1, Vig


@dataclass(frozen=True)
class Doubled:
    """2 where the picture helps, 1 elsewhere."""

    above: float = 0.0

    readings = ("delta_logit",)

    def __call__(self, tokens):
        return tokens.beside_text(1.0 + (tokens["delta_logit"] > self.above).float())


class Hidden:
    """What "mask" does, for some of the layers of a name."""

    name = "hidden"
    reencodes = False

    def __init__(self, depth=1, table=None):
        self.depth = depth
        if table is not None:
            self.table = table

    def __call__(self, batch):
        return MaskImage()(batch)


@pytest.mark.parametrize(
    ("objects", "names"),
    [
        ({"weighting": Quantile(low=0.1, beta=2.0)}, {"weighting": "quantile", "beta": 2.0, "options": {"low": 0.1}}),
        ({"weighting": Cal(alpha=0, score="logprob")}, {"alpha": 0, "score": "logprob"}),
        (
            {"weighting": Vig(keep=0.5), "form": "paper"},
            {"weighting": "vig", "options": {"keep": 0.5}, "form": "paper"},
        ),
        ({"contrast": BlurPicture(sigma=3.0)}, {"contrast": "blur:3"}),
        ({"contrast": MaskPatches(ratio=0.7, seed=3)}, {"contrast": {"name": "patches", "ratio": 0.7, "seed": 3}}),
        ({"contrast": DropImage(prompt="a: b")}, {"contrast": {"name": "drop", "prompt": "a: b"}}),
    ],
)
def test_objects_and_names_say_the_same(objects, names):
    given, named = CalConfig(**objects), CalConfig(**names)
    assert given.token_weighting() == named.token_weighting()
    assert given.second_look() == named.second_look() and given.contrast_name == named.contrast_name
    assert given.described() == named.described() and given.compares == named.compares


def test_a_configuration_of_objects_can_be_compared_hashed_and_copied():
    config = CalConfig(weighting=Quantile(low=0.1), contrast=BlurPicture(sigma=3.0))
    assert config == CalConfig(weighting=Quantile(low=0.1), contrast=BlurPicture(sigma=3.0))
    assert config != replace(config, contrast=BlurPicture(sigma=4.0))
    assert hash(config) == hash(replace(config))
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == CalConfig.of(config) == config
    assert CalConfig(contrast={"name": "patches", "fill": [1, 2, 3]}) == CalConfig(
        contrast={"name": "patches", "fill": (1, 2, 3)}
    )
    assert Quantile(low=0.1) in {CalConfig(weighting=Quantile(low=0.1)).weighting}


def test_what_is_learnt_in_one_alignment_is_seen_in_no_other():
    config = CalConfig(contrast=MeanPicture(tokens=2))
    one, other = config.second_look(), config.second_look()
    assert one == other == MeanPicture(tokens=2)
    assert one.running is not other.running and one.running is not config.contrast.running


def test_a_reference_model_s_weighting_is_evaluated_as_plain_mle():
    config = CalConfig(weighting=Rho1(keep=0.5), scores="a", form="paper")
    assert config.without_scores() == CalConfig(weighting="uniform", form="paper")
    with pytest.raises(ValueError, match="compares with the loss of a reference model"):
        CalConfig(weighting=Rho1())


class NoCall:
    readings = ("nll",)


class NoReadings:
    def __call__(self, tokens):
        return tokens.valid.float()


class WrongReadings(NoReadings):
    readings = ("surprise",)


class NoName:
    reencodes = False

    def __call__(self, batch):
        return batch


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weighting": Quantile}, r"weighting=Quantile is a class: give an instance of it, Quantile\(\.\.\.\)"),
        ({"weighting": NoCall()}, r"lacks __call__\(tokens: TokenReadings\) -> weights: see contralign.weighting"),
        ({"weighting": NoReadings()}, "lacks readings, a tuple of names"),
        ({"weighting": WrongReadings()}, r"readings=\('surprise',\): wanted a tuple of some of delta_logit"),
        ({"weighting": 3}, "weighting=3 lacks"),
        ({"contrast": BlurPicture}, "contrast=BlurPicture is a class: give an instance"),
        ({"contrast": NoName()}, "lacks name, a text: see contralign.contrast.Contrast"),
        ({"contrast": None}, "contrast=None lacks name, a text and reencodes, True or False and __call__"),
        ({"weighting": Cal(), "alpha": 0}, "alpha=0 has no effect beside weighting=Cal"),
        ({"weighting": Vig(), "options": {"keep": 0.5}}, "options={'keep': 0.5} has no effect beside weighting=Vig"),
        ({"weighting": Cal(form="released")}, r"CalConfig\.released\(\)"),
        ({"weighting": Doubled(), "contrast": "none"}, "which compares two looks: set another contrast"),
        (
            {"weighting": "uniform", "contrast": MaskImage()},
            "contrast=MaskImage.* has no effect with weighting='uniform'",
        ),
    ],
)
def test_what_is_no_weighting_or_contrast_is_refused_with_what_is_missing(settings, message):
    with pytest.raises(ValueError, match=message):
        CalConfig(**settings)


def test_former_keywords_are_answered_with_today_s_spelling():
    with pytest.raises(ValueError, match="mean_tokens: 2 is written with the contrast now: contrast='mean:2'"):
        CalConfig(contrast="mean", mean_tokens=2)
    with pytest.raises(ValueError, match="contrast='drop:an image'"):
        CalConfig(prompt="an image")
    with pytest.raises(TypeError, match="unexpected keyword argument 'alpah'"):
        CalConfig(alpah=1)


def test_a_class_of_ones_own_weighs_and_looks_in_a_step():
    inputs = in_float64(collate(training_rows()[:3]))
    own = ContrastiveAlignment(build_llava(torch.float64), CalConfig(weighting=Doubled(), contrast=Hidden()))(inputs)
    masked = ContrastiveAlignment(build_llava(torch.float64), CalConfig(contrast="mask"))(inputs)
    assert_near(own.delta, masked.delta)
    assert own.delta.std() > 0
    seen = own.valid & own.has_image.unsqueeze(1)
    assert torch.equal(own.weights[seen], (1 + (own.delta[seen] > 0)).to(own.weights.dtype))


def trainer_of(folder, cal, **changes):
    args = arguments(folder, per_device_train_batch_size=4, **changes)
    return CALTrainer(model=build_llava(), args=args, train_dataset=training_rows(), data_collator=collate, cal=cal)


def test_classes_of_ones_own_train_and_are_counted(tmp_path):
    trainer = trainer_of(tmp_path, CalConfig(weighting=Doubled(), contrast=Hidden()))
    trainer.train()
    logged = trainer.state.log_history[0]
    assert 1 <= logged["weight_mean"] <= 2 and "delta_q50" in logged and "share_at_alpha" not in logged
    clamped = trainer_of(tmp_path, CalConfig(weighting=Cal(alpha=0.5), contrast=Hidden()))
    clamped.train()
    assert "share_at_alpha" in clamped.state.log_history[0] and math.isfinite(clamped.state.log_history[0]["loss"])


def test_a_checkpoint_is_gone_on_with_by_the_same_settings_alone(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 1}
    trainer_of(tmp_path, CalConfig(weighting=Doubled(), contrast=Hidden(depth=2)), **saving).train()
    place = str(tmp_path / "checkpoint-1")
    for cal, message in (
        (
            CalConfig(weighting=Doubled(above=1.0), contrast=Hidden(depth=2)),
            r"weighting was Doubled .*0\.0.* and is .*1\.0",
        ),
        (CalConfig(weighting=Doubled(), contrast=Hidden(depth=1)), r"contrast was Hidden .*2.* and is .*1"),
        (CalConfig(), "weighting was Doubled .* and is Cal"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer_of(tmp_path, cal, **saving).train(resume_from_checkpoint=place)
    trainer_of(tmp_path, CalConfig(weighting=Doubled(), contrast=Hidden(depth=2)), **saving).train(
        resume_from_checkpoint=place
    )


def test_a_score_file_names_a_contrast_of_ones_own_and_refuses_another(tmp_path):
    samples = mixed_samples(6)
    model, collator = spread_pair(samples)
    file = scored(tmp_path / "s.parquet", model, collator, samples, contrast=Hidden(depth=2))
    assert file.settings["contrast"] == "hidden"
    assert file.settings["contrast_settings"] == {"class": f"{__name__}.Hidden", "depth": 2}

    def trainer(contrast):
        cal = CalConfig(weighting=Doubled(), contrast=contrast, scores=str(file.path))
        args = arguments(tmp_path, per_device_train_batch_size=4)
        return CALTrainer(model=model, args=args, train_dataset=load_samples(samples), data_collator=collator, cal=cal)

    trainer(Hidden(depth=2)).train()
    with pytest.raises(ScoreMismatch, match=r"contrast_settings was .*2.* is .*3"):
        trainer(Hidden(depth=3))
    with pytest.raises(ValueError, match="make it a dataclass, with field"):
        trainer(Hidden(depth=2, table=torch.zeros(2)))


def test_what_changes_no_delta_is_left_out_of_the_comparison():
    @dataclass(frozen=True)
    class Counted(Hidden):
        depth: int = 2
        seen: list = field(default_factory=lambda: [torch.zeros(2)], compare=False)

    assert CalConfig(contrast=Counted()).described()["contrast"]["settings"] == {"depth": 2}
