"""What a user imports, and what importing it brings along."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import contralign.contrast
import contralign.weighting

ROOMS = [f"contralign.{room.name}" for room in pkgutil.iter_modules(contralign.__path__) if room.ispkg]
PACKAGES = ["contralign", *(room for room in ROOMS if hasattr(importlib.import_module(room), "__all__"))]
NAMES = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_public_name_is_there_and_documented(package, name):
    thing = getattr(importlib.import_module(package), name)
    assert thing.__doc__
    assert not callable(thing) or thing.__module__.startswith("contralign.")


def test_there_are_packages_to_import_from():
    assert {"contralign", "contralign.data", "contralign.models"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_its_public_names_and_no_more(package):
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        exec(f"from {package} import {name}")


def test_no_name_has_two_homes():
    names = [name for _, name in NAMES]
    assert len(set(names)) == len(names)


def test_a_name_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(AttributeError, match="it has CALTrainer, CalConfig"):
        contralign.cal_weight  # noqa: B018


@pytest.mark.parametrize(
    "statement, absent",
    [
        *((f"import {room}", "torch") for room in ["contralign", *ROOMS]),
        ("from contralign import cal_weights, cal_loss, contrast_delta", "transformers"),
        ("from contralign.data import Sample, Turn, Span, BadRecord", "torch"),
    ],
)
def test_what_is_imported_brings_in_no_more_than_it_needs(statement, absent):
    code = f"import sys\n{statement}\nassert {absent!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
