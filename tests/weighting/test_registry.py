"""Weightings by name."""

import pytest

from contralign.weighting.cal import Cal
from contralign.weighting.quantile import Quantile
from contralign.weighting.registry import WEIGHTINGS, build_weighting
from contralign.weighting.vig import Vig

COMMON = {"alpha": (1.0, 1.0), "beta": (5.0, 5.0), "window": (3, 3), "score": ("logit", "logit")}


def test_every_one_is_built_by_its_name_alone():
    built = {name: build_weighting(name, {}, COMMON) for name in WEIGHTINGS}
    assert [type(each) for each in built.values()] == [WEIGHTINGS[name] for name in WEIGHTINGS] and len(built) == 10


def test_common_settings_reach_those_that_have_them():
    assert build_weighting("cal", {}, COMMON | {"alpha": (0.5, 1.0)}) == Cal(alpha=0.5)
    assert build_weighting("quantile", {"low": 0.1}, COMMON | {"window": (1, 3)}) == Quantile(low=0.1, window=1)
    assert build_weighting("vig", {"keep": 0.5}, COMMON) == Vig(keep=0.5)


@pytest.mark.parametrize(
    ("name", "options", "common", "message"),
    [
        ("calm", {}, {}, "weighting='calm': wanted one of cal, uniform"),
        ("vig", {"kepe": 0.5}, {}, "options.kepe has no effect with weighting='vig', whose options are keep, over"),
        ("dft", {"keep": 0.5}, {}, "options.keep has no effect with weighting='dft', whose options are none"),
        ("cal", {"alpha": 0.5}, {}, "options.alpha: alpha is a setting of its own; put it beside options"),
        ("vig", {"alpha": 0.5}, {}, "options.alpha has no effect with weighting='vig'"),
        ("vig", {}, {"beta": (3.0, 5.0)}, r"beta=3\.0 has no effect with weighting='vig': leave it out"),
        ("prior", {"power": 0}, {}, "power=0: wanted a number above 0"),
    ],
)
def test_what_a_weighting_does_not_have_is_refused(name, options, common, message):
    with pytest.raises(ValueError, match=message):
        build_weighting(name, options, COMMON | common)
