import pytest

from contralign.contrast.base import Contrast
from contralign.contrast.blur import BlurPicture
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.contrast.mean import MeanPicture
from contralign.contrast.patches import MaskPatches
from contralign.contrast.registry import CONTRASTS, contrast_named
from contralign.contrast.shuffle import ShufflePictures


@pytest.mark.parametrize(
    ("text", "contrast"),
    [
        ("drop", DropImage()),
        ("drop:an image", DropImage(prompt="an image")),
        ("drop:\n", DropImage(prompt="\n")),
        ("drop:a: b", DropImage(prompt="a: b")),
        ("mask", MaskImage()),
        ("shuffle", ShufflePictures()),
        ("mean", MeanPicture()),
        ("mean:1", MeanPicture(tokens=1)),
        ("patches", MaskPatches()),
        ("patches:0.9", MaskPatches(ratio=0.9)),
        ("blur", BlurPicture(sigma=10.0)),
        ("blur:1", BlurPicture(sigma=1.0)),
    ],
)
def test_a_name_and_its_setting_give_a_contrast(text, contrast):
    assert contrast_named(text) == contrast


def test_every_name_is_its_contrasts_own():
    assert all(contrast_named(name).name == name and isinstance(contrast_named(name), Contrast) for name in CONTRASTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise", "contrast 'noise': wanted one of drop, mask, patches"),
        ("none", "contrast 'none': wanted one of"),
        ("mask:1", "'mask' has no setting"),
        ("shuffle:3", "'shuffle' has no setting"),
        ("drop:", "prompt=''"),
        ("mean:0", "tokens=0"),
        ("mean:few", "contrast 'mean:few': invalid literal"),
        ("patches:2", "ratio=2.0"),
        ("blur:0", "sigma=0.0"),
    ],
)
def test_what_names_no_contrast_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        contrast_named(text)
