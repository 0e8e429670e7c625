"""Equal work has equal names, and nothing that changes a result keeps its name."""

import os

import pytest
from worlds.small_ablations import planned_cells
from worlds.small_recipes import small_plan

from contralign.ablation.ablation_file import load_ablation
from contralign.ablation.cells import expand
from contralign.ablation.keys import origin_key
from contralign.ablation.plan import plan
from contralign.recipe import packages


def chain(folder, *overrides, noise="0", arm="cal", seed=0, **changes):
    """Keys of one cell by stage, and of its result."""
    for one in planned_cells(folder, *overrides, **changes):
        if (one.cell.point.get("noise", noise), one.cell.arm, one.cell.seed) == (noise, arm, seed):
            return {**{step.stage: step.key for step in one.steps}, "result": one.key}
    raise AssertionError("no such cell")


def differing(one, other):
    return [name for name in one if one[name] != other[name]]


def test_noise_changes_neither_the_tiny_model_nor_what_is_shared(tmp_path):
    assert differing(chain(tmp_path, noise="0"), chain(tmp_path, noise="0.5")) == ["last", "result"]


def test_arms_part_at_the_first_stage_with_cal(tmp_path):
    assert differing(chain(tmp_path, arm="mle"), chain(tmp_path, arm="cal")) == ["last", "result"]


def test_arms_that_do_not_differ_have_one_name(tmp_path):
    beta = {"key": "cal.beta", "values": [3, 5]}
    mle = [one.key for one in planned_cells(tmp_path, grid={"beta": beta}) if one.cell.arm == "mle"]
    cal = [one.key for one in planned_cells(tmp_path, grid={"beta": beta}) if one.cell.arm == "cal"]
    assert (len(mle), len(set(mle)), len(set(cal))) == (4, 2, 4)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("model.tiny.hidden=64", ["build", "it", "last", "result"]),
        ("model.attn_implementation=eager", ["it", "last", "result"]),
        ("stages.it.steps=2", ["it", "last", "result"]),
        ("stages.it.data.max_length=300", ["it", "last", "result"]),
        ("stages.it.data.swap_noise=0.5", ["it", "last", "result"]),
        ("trainer.adam_beta2=0.9", ["it", "last", "result"]),
        ("stages.last.learning_rate=0.5", ["last", "result"]),
        ("cal.beta=3", ["last", "result"]),
        ("cal.score=logprob", ["last", "result"]),
        ("data.on_bad=skip", ["build", "it", "last", "result"]),
        ("evaluate.look={limit: 3}", ["result"]),
        ("stages.last.cal=true", []),
    ],
)
def test_a_setting_changes_the_names_of_what_it_determines(override, changed, tmp_path):
    assert differing(chain(tmp_path), chain(tmp_path, override)) == changed


def test_a_tokenizer_of_early_stages_is_shared_by_cells_of_other_late_texts(tmp_path):
    grid = {"length": {"key": "stages.last.data.on_bad", "values": ["error", "skip"]}}
    of_all, of_first = [], []
    for found, overrides in ((of_all, ()), (of_first, ("model.tokenizer_stages=[it]",))):
        cells = planned_cells(tmp_path, *overrides, grid=grid)
        found += [{step.stage: step.key for step in one.steps} for one in cells if one.cell.arm == "cal"]
    assert len({keys["build"] for keys in of_all}) == 4  # two seeds
    assert len({keys["it"] for keys in of_first}) == 2
    assert len({keys["last"] for keys in of_first}) == 4


def test_text_without_pictures_is_other_work(tmp_path):
    assert differing(chain(tmp_path), chain(tmp_path, "stages.it.data={pictures: false}")) == ["it", "last", "result"]


def test_a_seed_changes_everything(tmp_path):
    assert differing(chain(tmp_path, seed=0), chain(tmp_path, seed=1)) == ["build", "it", "last", "result"]


def test_cal_where_the_arm_or_the_stage_has_none_changes_nothing(tmp_path):
    assert differing(chain(tmp_path, arm="mle"), chain(tmp_path, "cal.beta=3", arm="mle")) == []


def test_records_that_were_written_anew_are_others(tmp_path):
    before = chain(tmp_path)

    def after_touching(name):
        os.utime(tmp_path / name, (2_000_000, 2_000_000))
        ablation = load_ablation(tmp_path / "noise.yaml")
        cell = next(cell for cell in expand(ablation, tmp_path) if cell.name == "noise=0 arm=cal seed=0")
        found = plan([cell])[0]
        return {**{step.stage: step.key for step in found.steps}, "result": found.key}

    assert differing(before, after_touching("eval.json")) == ["result"]
    assert differing(before, after_touching("records.json")) == ["build", "it", "last", "result"]


def test_another_version_of_contralign_is_other_work(tmp_path, monkeypatch):
    before = chain(tmp_path)
    monkeypatch.setattr("contralign.ablation.keys.__version__", "99")
    assert differing(before, chain(tmp_path)) == ["build", "it", "last", "result"]


PARTS = {"path": None, "tiny": None, "family": "llava", "language_model": "words", "vision_tower": "sight"}


def origin(folder, **model):
    recipe = small_plan(folder, model={**PARTS, **model})
    os.utime(folder / "records.json", (1_000_000, 1_000_000))  # written anew by every call
    return origin_key(recipe)


@pytest.mark.parametrize("shape", ["full", "tiny"])
def test_a_model_of_parts_is_known_by_its_parts(tmp_path, shape):
    same = origin(tmp_path, shape=shape)
    assert same == origin(tmp_path, shape=shape)
    assert same != origin(tmp_path, shape=shape, language_model="others")
    assert same != origin(tmp_path, shape=shape, family="llava_next")


def test_a_part_that_was_written_anew_is_another(tmp_path):
    projector = tmp_path / "mm_projector.bin"
    projector.write_bytes(b"1")
    before = origin(tmp_path, projector=str(projector))
    os.utime(projector, (1, 1))
    assert before != origin(tmp_path, projector=str(projector))


def test_a_contrast_has_one_name_however_it_is_spelled(tmp_path):
    short = chain(tmp_path, "cal.contrast=blur:3")
    assert differing(short, chain(tmp_path, "cal.contrast={name: blur, sigma: 3.0}")) == []
    assert differing(short, chain(tmp_path, "cal.contrast={name: blur, sigma: 3}")) == []
    assert differing(short, chain(tmp_path, "cal.contrast=blur:4")) == ["last", "result"]
    assert differing(chain(tmp_path), chain(tmp_path, "cal.contrast={name: drop}")) == []


def test_another_version_of_a_package_makes_another_name(tmp_path, monkeypatch):
    before = chain(tmp_path)
    monkeypatch.setattr(packages, "package_adding", lambda group, name: "gaze 1" if name == "drop" else None)
    first = chain(tmp_path)
    monkeypatch.setattr(packages, "package_adding", lambda group, name: "gaze 2" if name == "drop" else None)
    assert differing(before, first) == differing(first, chain(tmp_path)) == ["last", "result"]
