"""What a user imports, and what importing it brings along."""

import subprocess
import sys

import pytest

import contralign.contrast
import contralign.weighting


@pytest.mark.parametrize(
    "package", [contralign, contralign.contrast, contralign.weighting], ids=lambda one: one.__name__
)
def test_every_public_name_is_there_and_documented(package):
    assert package.__all__ == dir(package)
    assert all(getattr(package, name).__doc__ for name in package.__all__)


def test_a_name_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(AttributeError, match="it has CALTrainer, CalConfig"):
        contralign.cal_weight  # noqa: B018


@pytest.mark.parametrize(
    "statement, absent",
    [("import contralign", "torch"), ("from contralign import cal_weights, cal_loss, contrast_delta", "transformers")],
)
def test_the_mathematics_alone_does_not_bring_in_transformers(statement, absent):
    code = f"import sys\n{statement}\nassert {absent!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
