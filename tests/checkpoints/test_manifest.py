"""A damaged checkpoint is recognised, and the one before it is taken."""

import json
import random

import pytest

from contralign.checkpoints.manifest import (
    MANIFEST,
    checkpoint_damage,
    last_whole_checkpoint,
    put_damaged_aside,
    resume_obstacle,
    write_manifest,
)


def checkpoint(folder, step, only_weights=False):
    made = folder / f"checkpoint-{step}"
    (made / "shards").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(bytes(range(256)) * 40_000)
    (made / "shards" / "rng_state_0.pth").write_bytes(b"state")
    (made / "trainer_state.json").write_text("{}")
    (made / "exact_state_0.safetensors").write_bytes(b"state")
    (made / "empty.txt").write_bytes(b"")
    write_manifest(made, 1, only_weights)
    return made


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def zeroed(path):
    """A stretch of zeros, as a machine that lost power leaves it."""
    content = path.read_bytes()
    path.write_bytes(content[:5_000_000] + bytes(1_000_000) + content[6_000_000:])


@pytest.mark.parametrize(
    ("name", "harm", "words"),
    [
        ("model.safetensors", cut, "model.safetensors has 10239999 of 10240000 bytes"),
        ("model.safetensors", zeroed, "model.safetensors does not hold what was written"),
        ("shards/rng_state_0.pth", lambda path: path.unlink(), "shards/rng_state_0.pth is missing"),
        ("shards/rng_state_0.pth", lambda path: path.write_bytes(b"stale"), "does not hold what was written"),
        (MANIFEST, lambda path: path.write_text("{"), "whole.json does not hold what was written"),
        (MANIFEST, lambda path: path.write_text("[]"), "whole.json does not hold what was written"),
        (MANIFEST, lambda path: path.write_bytes(b"\xff"), "whole.json does not hold what was written"),
        (MANIFEST, lambda path: path.write_text(path.read_text().replace('"processes": 1', '"processes": 2')), "whole"),
        (MANIFEST, lambda path: path.write_text(path.read_text() + " "), "whole.json does not hold what was written"),
        (MANIFEST, lambda path: path.unlink(), "whole.json is missing"),
    ],
)
def test_every_kind_of_damage_is_seen(name, harm, words, tmp_path):
    made = checkpoint(tmp_path, 4)
    assert checkpoint_damage(made) is None
    harm(made / name)
    assert words in checkpoint_damage(made)


def test_every_flipped_bit_is_seen(tmp_path):
    made = checkpoint(tmp_path, 4)
    draw = random.Random(0)
    files = [path for path in made.rglob("*") if path.is_file() and path.stat().st_size]
    for number in range(60):
        path = files[number % len(files)]
        content = path.read_bytes()
        place = draw.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :])
        assert checkpoint_damage(made) == f"{path.relative_to(made)} does not hold what was written"
        path.write_bytes(content)
    assert checkpoint_damage(made) is None


def test_the_newest_whole_one_is_taken_and_the_damaged_ones_are_named(tmp_path, caplog):
    for step in (8, 12, 100):
        checkpoint(tmp_path, step)
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    cut(tmp_path / "checkpoint-100" / "model.safetensors")
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-12"
    assert "checkpoint-100 is passed over: model.safetensors has" in caplog.text
    put_damaged_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-12",
        "checkpoint-8",
        "damaged-checkpoint-100",
    ]


def test_what_is_being_written_is_no_checkpoint(tmp_path):
    checkpoint(tmp_path / "_writing", 4)
    assert last_whole_checkpoint(tmp_path) is None
    assert last_whole_checkpoint(tmp_path / "nowhere") is None


PLAIN = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def test_a_checkpoint_of_the_plain_trainer_passes_once_all_its_files_are_there(tmp_path):
    made = tmp_path / "checkpoint-4"
    made.mkdir()
    for name in PLAIN:
        (made / name).write_bytes(b"state")
    assert "no trainer_state.json" in checkpoint_damage(made)
    (made / "trainer_state.json").write_text('{"global_')
    assert "no trainer_state.json that can be read" in checkpoint_damage(made)
    (made / "trainer_state.json").write_text(json.dumps({"global_step": 4}))
    assert checkpoint_damage(made) is None


@pytest.mark.parametrize("absent", PLAIN)
def test_a_checkpoint_of_the_plain_trainer_that_lacks_a_file_is_damaged(absent, tmp_path):
    made = tmp_path / "checkpoint-4"
    made.mkdir()
    for name in {*PLAIN, "trainer_state.json"} - {absent}:
        (made / name).write_text("{}")
    assert absent.partition(".")[0] in checkpoint_damage(made)


def test_older_checkpoints_than_the_one_resumed_from_are_left_alone(tmp_path):
    for step in (8, 12, 100):
        cut(checkpoint(tmp_path, step) / "model.safetensors")
    put_damaged_aside(tmp_path, after=12)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-12",
        "checkpoint-8",
        "damaged-checkpoint-100",
    ]


def test_weights_alone_are_no_checkpoint_to_go_on_with_but_are_left_where_they_are(tmp_path):
    made = checkpoint(tmp_path, 4, only_weights=True)
    assert "save_only_model" in resume_obstacle(made)
    assert last_whole_checkpoint(tmp_path) is None
    put_damaged_aside(tmp_path)
    assert made.is_dir()
