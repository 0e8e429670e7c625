"""Settings of CAL: the paper's defaults, and a refusal for what means nothing or has no effect."""

import math

import pytest

from contralign import CalConfig
from contralign.contrast.blur import BlurPicture
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.contrast.mean import MeanPicture
from contralign.contrast.patches import MaskPatches
from contralign.contrast.shuffle import ShufflePictures
from contralign.training.alignment import contrast_of


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
        ({"score": "prob"}, "score='prob': wanted one of logit, logprob"),
        ({"contrast": "noise"}, "contrast='noise': wanted one of drop, mask, patches, blur"),
        ({"patch_ratio": 0.5}, "patch_ratio=0.5 has no effect with contrast='drop'"),
        ({"blur_sigma": 1.0, "contrast": "patches"}, "blur_sigma=1.0 has no effect"),
        ({"prompt": "an image", "contrast": "mask"}, "prompt=an image has no effect with contrast='mask'"),
        ({"mean_tokens": 2}, "mean_tokens=2 has no effect with contrast='drop'"),
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


def test_a_configuration_names_its_contrast():
    assert contrast_of(CalConfig()) == DropImage(pack=False)
    assert contrast_of(CalConfig(), pack=True) == DropImage(pack=True)
    assert contrast_of(CalConfig(contrast="none")) is None
    assert contrast_of(CalConfig(scores="a.parquet")) is None
    assert isinstance(contrast_of(CalConfig.released()), MaskImage)
    assert contrast_of(CalConfig(contrast="patches", patch_ratio=0.9, patch_seed=3)) == MaskPatches(ratio=0.9, seed=3)
    assert contrast_of(CalConfig(contrast="blur", blur_sigma=1)) == BlurPicture(sigma=1)
    assert contrast_of(CalConfig(prompt="an image"), pack=True) == DropImage(pack=True, prompt="an image")
    assert contrast_of(CalConfig(contrast="mean"), pack=True) == MeanPicture(tokens=4, pack=True)
    assert contrast_of(CalConfig(contrast="mean", mean_tokens=1)) == MeanPicture(tokens=1)
    assert contrast_of(CalConfig(contrast="shuffle")) == ShufflePictures()


def test_every_alignment_has_a_mean_of_its_own():
    one, other = (contrast_of(CalConfig(contrast="mean")) for _ in range(2))
    assert one.running is not other.running
