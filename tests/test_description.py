"""What is said of an object of settings, and what that tells apart."""

from dataclasses import dataclass, field

import pytest
import torch

from contralign.contrast import BlurPicture, DropImage
from contralign.description import check_same, describe, is_own
from contralign.weighting import Quantile


class Plain:
    def __init__(self, **settings):
        self.__dict__.update(settings)


@dataclass(frozen=True)
class WithState:
    depth: int = 1
    table: torch.Tensor | None = field(default=None, compare=False)


def test_class_and_settings_are_named():
    blur = "contralign.contrast.blur.BlurPicture"
    assert describe(BlurPicture(sigma=3.0)) == {"class": blur, "settings": {"sigma": 3.0}}
    assert describe(Quantile(low=0.1))["settings"]["low"] == 0.1
    assert describe(Plain(power=2, words=["a"]))["settings"] == {"power": 2, "words": ["a"]}
    assert describe(WithState(table=torch.zeros(2)))["settings"] == {"depth": 1}
    assert is_own(DropImage()) and not is_own(Plain())


def test_what_is_not_plain_has_no_settings():
    assert describe(Plain(table=torch.zeros(2)))["settings"] is None
    assert describe(Plain(nested={"deep": [object()]}))["settings"] is None
    assert describe(object())["settings"] is None


def test_another_object_is_refused_and_a_setting_of_a_later_version_is_not():
    before = {"contrast": describe(BlurPicture(sigma=3.0)), "weighting": None}
    check_same(before, before)
    check_same({"contrast": {**before["contrast"], "settings": {}}}, before)
    with pytest.raises(ValueError, match=r"contrast was BlurPicture with \{'sigma': 3.0\} and is .*'sigma': 4.0"):
        check_same(before, {**before, "contrast": describe(BlurPicture(sigma=4.0))})
    with pytest.raises(ValueError, match=r"contrast was BlurPicture .* and is DropImage"):
        check_same(before, {**before, "contrast": describe(DropImage())})
    with pytest.raises(ValueError, match="weighting was none and is Quantile"):
        check_same(before, {**before, "weighting": describe(Quantile())})
    packaged = {"contrast": {**before["contrast"], "package": "x 1"}}
    with pytest.raises(ValueError, match=r"BlurPicture of x 1 with .* and is BlurPicture of x 2"):
        check_same(packaged, {"contrast": {**before["contrast"], "package": "x 2"}})
