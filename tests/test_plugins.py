"""Names that packages add, with entry points that a test makes up."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from contralign import plugins
from contralign.plugins import PluginError, Registry

GROUP = "contralign.sets"


@pytest.fixture
def registry(monkeypatch):
    """Two built-in names, and what a test says that packages add."""
    added = {}
    monkeypatch.setattr(plugins, "_entry_points", lambda: {group: added for group in plugins.GROUPS})
    made = Registry(GROUP, "thing", {"path": "pathlib:Path", "loads": "json:loads"})
    made.claims = added
    return made


def claim(registry, name, value):
    registry.claims.setdefault(name, []).append(EntryPoint(name, value, GROUP))


def test_built_in_names_come_first_and_are_imported_when_asked_for(registry):
    claim(registry, "dumps", "json:dumps")
    assert list(registry) == ["path", "loads", "dumps"] and len(registry) == 3
    assert "dumps" in registry and "dump" not in registry
    assert registry["loads"].__name__ == "loads" and registry.load("dumps").__name__ == "dumps"


def test_an_unknown_name_is_answered_with_the_nearest_and_all(registry):
    with pytest.raises(ValueError, match=r"no thing 'load'; did you mean 'loads'\? Known: path, loads"):
        registry["load"]


@pytest.mark.parametrize("value", ["no_such_module:thing", "json:no_such_thing", "json:"])
def test_a_name_that_cannot_be_imported_names_its_package_and_spoils_no_other(registry, value):
    claim(registry, "broken", value)
    assert "broken" in registry.names() and "broken" in registry
    with pytest.raises(PluginError, match=r"thing 'broken' is added by .* \(entry point contralign\.sets: broken = "):
        registry.load("broken")
    assert registry["loads"].__name__ == "loads"


def test_a_name_that_two_claim_is_refused_with_both(registry):
    claim(registry, "loads", "a:b")
    claim(registry, "twice", "c:d")
    claim(registry, "twice", "e:f")
    with pytest.raises(PluginError, match=r"'loads' is claimed by contralign itself and by .*loads = a:b"):
        registry["loads"]
    with pytest.raises(PluginError, match=r"'twice' is claimed by .*twice = c:d\) and by .*twice = e:f"):
        registry["twice"]
    assert registry["path"].__name__ == "Path" and registry.names() == ["path", "loads", "twice"]


def test_names_and_settings_of_cal_are_known_without_torch():
    code = """
import sys
from contralign.contrast.registry import CONTRASTS
from contralign.data.sets import SETS
from contralign.evaluation.registry import EVALUATIONS
from contralign.training.cal_settings import CalSettings
from contralign.weighting.registry import WEIGHTINGS
CalSettings(contrast="blur:10", weighting="quantile", options={"low": 0.25})
assert all(map(len, (CONTRASTS, SETS, EVALUATIONS, WEIGHTINGS)))
heavy = {"torch", "numpy", "transformers", "datasets", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_built_in_name_is_there():
    from contralign.contrast.registry import CONTRASTS
    from contralign.data.sets import SETS
    from contralign.evaluation.registry import EVALUATIONS
    from contralign.models.adapters.registry import ADAPTERS
    from contralign.weighting.registry import WEIGHTINGS

    for registry in (CONTRASTS, SETS, EVALUATIONS, ADAPTERS, WEIGHTINGS):
        assert all(callable(registry[name]) for name in registry.built_in)
