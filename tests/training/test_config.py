"""Settings of CAL: the paper's defaults, and a refusal for what means nothing or has no effect."""

import copy
import math
import pickle
from dataclasses import replace

import pytest

from contralign import CalConfig
from contralign.contrast.blur import BlurPicture
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.contrast.mean import MeanPicture
from contralign.contrast.patches import MaskPatches
from contralign.contrast.shuffle import ShufflePictures
from contralign.weighting.cal import Cal
from contralign.weighting.prior import Prior
from contralign.weighting.quantile import Quantile
from contralign.weighting.tpo import Tpo


def test_defaults_are_the_papers():
    config = CalConfig()
    assert (config.alpha, config.beta, config.window, config.score) == (1.0, 5.0, 3, "logit")
    assert (config.form, config.contrast) == ("exact", "drop")


@pytest.mark.parametrize("alpha, beta", [(0, math.inf), (0, 5), (1, math.inf), (1, 5), (2, 2)])
def test_the_ranges_of_table_4_and_plain_mle_are_allowed(alpha, beta):
    assert CalConfig(alpha=alpha, beta=beta).beta == beta


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"alpha": -1}, "alpha=-1: wanted a finite number, 0 or more"),
        ({"alpha": math.nan}, "alpha=nan"),
        ({"alpha": math.inf}, "alpha=inf"),
        ({"alpha": 3, "beta": 2}, "beta=2: wanted alpha"),
        ({"beta": math.nan}, "beta=nan"),
        ({"window": 2}, "window=2: wanted a positive odd integer"),
        ({"window": 0}, "window=0"),
        ({"window": 3.0}, "window=3.0"),
        ({"form": "batch"}, "form='batch': wanted one of exact, paper, released"),
        ({"score": "prob"}, "score='prob': wanted one of logit, centred, logprob"),
        ({"contrast": "noise"}, "contrast='noise': wanted one of drop, mask, patches, blur"),
        ({"patch_ratio": 0.5}, "patch_ratio: 0.5 is written with the contrast now: contrast='patches:0.5'"),
        ({"contrast": {"name": "patches", "sigma": 1.0}}, "contrast 'patches' has no setting 'sigma'"),
        ({"contrast": {"name": "mask", "prompt": "an image"}}, "contrast 'mask' has no setting 'prompt'"),
        ({"contrast": {"name": "drop", "tokens": 2}}, "contrast 'drop' has no setting 'tokens'"),
        ({"contrast": "none", "beta": 3.0}, "beta=3.0 has no effect with contrast='none'"),
        ({"contrast": "none", "score": "logprob"}, "score='logprob' has no effect with contrast='none'"),
        ({"contrast": "none", "scores": "a.parquet"}, "scores='a.parquet' has no effect with contrast='none'"),
        ({"form": "released", "contrast": "mask", "scores": "a.parquet"}, "no score file holds"),
        ({"form": "released"}, r"use CalConfig\.released\(\)"),
        ({"form": "released", "contrast": "mask", "score": "logprob"}, r"use CalConfig\.released\(\)"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CalConfig(**settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"weighting": "calm"}, "weighting='calm': wanted one of cal, uniform, quantile, prior"),
        ({"weighting": "vig", "options": {"kepe": 1}}, r"options\.kepe has no effect .* whose options are keep, over"),
        ({"options": {"power": 1}}, r"options\.power has no effect with weighting='cal', whose options are none"),
        ({"weighting": "vig", "options": {"keep": "most"}}, "keep='most': wanted a number above 0, up to 1"),
        ({"weighting": "quantile", "options": {"alpha": 0}}, r"options\.alpha: alpha is a setting of its own"),
        ({"weighting": "prior", "alpha": 0}, "alpha=0 has no effect with weighting='prior'"),
        ({"weighting": "dft", "window": 1}, "window=1 has no effect with weighting='dft'"),
        ({"weighting": "vig", "score": "logprob"}, "score='logprob' has no effect with weighting='vig'"),
        ({"weighting": "quantile", "beta": 1.0}, "wanted a finite number above alpha"),
        ({"weighting": "tpo", "form": "released", "contrast": "mask"}, "the released code knows CAL alone"),
        ({"weighting": "dft", "contrast": "mask"}, "contrast='mask' has no effect .* which takes no second look"),
        ({"weighting": "uniform", "contrast": "blur"}, "contrast='blur' has no effect with weighting='uniform'"),
        ({"weighting": "vppo", "contrast": "none"}, "contrast='none' with weighting='vppo', which compares two looks"),
        ({"weighting": "vppo", "scores": "a"}, "scores='a' has no effect with weighting='vppo', which reads kl"),
        ({"weighting": "uniform", "scores": "a"}, "weighting='uniform', which reads nothing"),
        ({"weighting": "rho1"}, "compares with the loss of a reference model: score the training data"),
        ({"weighting": "rho1", "scores": "a", "contrast": "mask"}, "contrast='mask' has no effect"),
    ],
)
def test_a_weighting_refuses_what_it_does_not_use(settings, message):
    with pytest.raises(ValueError, match=message):
        CalConfig(**settings)


def test_a_configuration_names_its_weighting():
    assert CalConfig().token_weighting() == Cal()
    assert CalConfig(alpha=0, form="paper", score="centred").token_weighting() == Cal(
        alpha=0, form="paper", score="centred"
    )
    assert CalConfig.released().token_weighting() == Cal(form="released")
    assert CalConfig.adaptive().token_weighting() == Quantile(score="logprob")
    assert CalConfig.adaptive(score="logit", beta=3.0, contrast="mean").token_weighting() == Quantile(beta=3.0)
    assert CalConfig(weighting="quantile", beta=2.0, options={"low": 0.1}).token_weighting() == Quantile(
        beta=2.0, low=0.1
    )
    assert CalConfig(weighting="prior", options={"power": 2}).token_weighting() == Prior(power=2)
    assert CalConfig(weighting="tpo", score="logprob").token_weighting() == Tpo(score="logprob")


def test_where_nothing_is_compared_no_second_pass_is_run():
    assert CalConfig().compares and CalConfig(scores="a").compares and CalConfig(weighting="vppo").compares
    for config in (
        CalConfig(contrast="none"),
        CalConfig(weighting="uniform"),
        CalConfig(weighting="uniform", contrast="none"),
        CalConfig(weighting="dft", contrast="none"),
        CalConfig(weighting="rho1", scores="a"),
    ):
        assert not config.compares


def test_without_scores_is_the_same_from_the_model_and_rho1_plain_mle():
    assert CalConfig(weighting="vig", options={"keep": 0.5}, scores="a").without_scores() == CalConfig(
        weighting="vig", options={"keep": 0.5}
    )
    rho1 = CalConfig(weighting="rho1", options={"keep": 0.5}, scores="a", form="paper")
    assert rho1.without_scores() == CalConfig(weighting="uniform", form="paper")


def test_a_configuration_can_be_compared_hashed_copied_and_not_changed():
    options = {"keep": 0.5}
    config = CalConfig(weighting="vig", options=options)
    options["keep"] = 0.9
    assert config.options["keep"] == 0.5 and config.options == {"keep": 0.5}
    assert hash(config) == hash(CalConfig(weighting="vig", options={"keep": 0.5}))
    assert config != CalConfig(weighting="vig", options={"keep": 0.6})
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == replace(config) == config
    with pytest.raises(TypeError):
        config.options["keep"] = 0.1
    assert repr(config.options) == "{'keep': 0.5}"


def test_a_configuration_names_its_contrast():
    assert CalConfig().second_look() == DropImage()
    assert CalConfig(contrast="none").second_look() is None
    assert CalConfig(scores="a.parquet").second_look() is None
    assert isinstance(CalConfig.released().second_look(), MaskImage)
    assert CalConfig(contrast={"name": "patches", "ratio": 0.9, "seed": 3}).second_look() == MaskPatches(
        ratio=0.9, seed=3
    )
    assert CalConfig(contrast="blur:1").second_look() == BlurPicture(sigma=1)
    assert CalConfig(contrast="drop:an image").second_look() == DropImage(prompt="an image")
    assert CalConfig(contrast="mean").second_look() == MeanPicture(tokens=4)
    assert CalConfig(contrast="mean:1").second_look() == MeanPicture(tokens=1)
    assert CalConfig(contrast="shuffle").second_look() == ShufflePictures()


def test_every_alignment_has_a_mean_of_its_own():
    one, other = (CalConfig(contrast="mean").second_look() for _ in range(2))
    assert one.running is not other.running
