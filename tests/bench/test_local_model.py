"""A model directory as a workload."""

import pytest
import torch

from contralign.bench.measure import timed_step
from contralign.bench.steps import MODES
from contralign.bench.workload import make_workload
from contralign.models.small.tiny import build_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny LLaVA on disk, with its processor."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny(["a red circle"], path, hidden=32, layers=1, tower_hidden=32, tower_layers=2, vocab_size=300)
    return path


def test_a_directory_brings_its_sizes_and_its_image_tokens(folder):
    made = make_workload(str(folder), text_tokens=20, label_tokens=6, batch=3, text_only_rows=1)
    assert (made.shape.hidden, made.shape.layers) == (32, 1)
    assert made.shape.image_tokens == 16
    assert made.batch["pixel_values"].shape == (2, 3, 64, 64)
    image = made.batch["input_ids"] == made.model.config.image_token_id
    assert image.sum(dim=1).tolist() == [16, 16, 0]
    assert made.shape.prefix == 5
    saved = make_workload(str(folder), text_tokens=20, label_tokens=6, seed=9)
    assert torch.equal(saved.model.get_output_embeddings().weight, made.model.get_output_embeddings().weight)


def test_every_mode_runs_on_it(folder):
    made = make_workload(str(folder), text_tokens=12, label_tokens=4)
    assert all(timed_step(made, mode(made)) > 0 for mode in MODES.values())


@pytest.mark.parametrize("knob", ["hidden", "layers", "vocabulary", "image_tokens"])
def test_a_size_that_the_model_brings_is_refused(folder, knob):
    with pytest.raises(ValueError, match=f"{knob}=64 has no effect"):
        make_workload(str(folder), **{knob: 64})


def test_the_rest_is_checked_as_for_a_named_shape(folder):
    with pytest.raises(ValueError, match="text_only_rows=5 of batch=2"):
        make_workload(str(folder), text_only_rows=5)
    with pytest.raises(ValueError, match="wanted one of float32, bfloat16"):
        make_workload(str(folder), dtype="int8")


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no complete model directory"):
        make_workload(str(tmp_path))


def test_pickled_weights_are_not_read(folder, tmp_path):
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        make_workload(str(tmp_path))
