"""Weights of parts: found, renamed, and never taken from the wrong place."""

import pytest
import torch
from safetensors.torch import save_file

from contralign.models.assembly import part_weights
from contralign.models.assembly.part_weights import (
    fetch_part,
    language_model_weights,
    projector_weights,
    vision_tower_weights,
)


def test_safetensors_are_fetched_before_pickled_files(monkeypatch, tmp_path):
    asked = fetches(monkeypatch, tmp_path, "model.safetensors")
    assert fetch_part("some/name") == tmp_path
    assert ["*.safetensors" in patterns for patterns in asked] == [True]
    assert not any("*.bin" in patterns for patterns in asked)


def test_pickled_files_are_fetched_where_there_is_nothing_else(monkeypatch, tmp_path):
    asked = fetches(monkeypatch, tmp_path, "pytorch_model.bin")
    assert fetch_part("some/name") == tmp_path
    assert "*.bin" in asked[-1]
    assert all("tokenizer.model" not in patterns and "*.model" in patterns for patterns in asked)


def fetches(monkeypatch, folder, there):
    """A hub that has one file; the patterns it was asked for."""
    asked = []

    def fetch(name, allow_patterns):
        asked.append(allow_patterns)
        if any(pattern.strip("*") == there[there.rindex(".") :] for pattern in allow_patterns):
            (folder / there).touch()
        return str(folder)

    monkeypatch.setattr(part_weights, "snapshot_download", fetch)
    return asked


def test_a_directory_is_itself(tmp_path):
    assert fetch_part(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["no/such-part", "/no/such/folder"])
def test_what_is_nowhere_is_refused(name):
    with pytest.raises(ValueError, match="is no directory and cannot be fetched"):
        fetch_part(name)


def test_rows_grow_by_the_mean_and_a_tied_head_follows(tmp_path):
    embeddings = torch.arange(6.0).view(3, 2)
    held = {"model.embed_tokens.weight": embeddings, "model.norm.weight": torch.ones(2)}
    save_file(held, tmp_path / "model.safetensors")
    state = language_model_weights(tmp_path, rows=5, tied=True)
    grown = state["model.language_model.embed_tokens.weight"]
    assert torch.equal(grown[:3], embeddings)
    assert torch.equal(grown[3:], torch.tensor([[2.0, 3.0]] * 2))
    assert torch.equal(state["lm_head.weight"], grown)
    assert torch.equal(state["model.language_model.norm.weight"], torch.ones(2))


def test_an_untied_head_has_its_own_mean(tmp_path):
    state = {"model.embed_tokens.weight": torch.zeros(3, 2), "lm_head.weight": torch.ones(3, 2)}
    save_file(state, tmp_path / "model.safetensors")
    grown = language_model_weights(tmp_path, rows=4, tied=False)
    assert grown["lm_head.weight"][3].tolist() == [1, 1]
    assert grown["model.language_model.embed_tokens.weight"][3].tolist() == [0, 0]


def test_of_a_whole_clip_the_vision_half_is_read_and_buffers_are_not(tmp_path):
    names = ["vision_model.x", "text_model.x", "logit_scale", "visual_projection.weight", "text_projection.weight"]
    save_file({name: torch.ones(1) for name in names}, tmp_path / "model.safetensors")
    assert list(vision_tower_weights(tmp_path)) == ["model.vision_tower.x"]
    ids = {"vision_model.embeddings.position_ids": torch.ones(1), "vision_model.x": torch.ones(1)}
    save_file(ids, tmp_path / "model.safetensors")
    assert list(vision_tower_weights(tmp_path)) == ["model.vision_tower.x"]


def test_a_projector_is_found_in_either_layout_and_nothing_else_is_read(tmp_path):
    names = [
        "multi_modal_projector.linear_1.weight",
        "model.patch_mining.key.1.bias",
        "image_newline",
        "language_model.model.norm.weight",
    ]
    for number, name in enumerate(names):
        save_file({name: torch.full((1,), float(number))}, tmp_path / f"{number}.safetensors")
    state = projector_weights(tmp_path)
    assert {name: tensor.item() for name, tensor in state.items()} == {
        "model.multi_modal_projector.linear_1.weight": 0,
        "model.patch_mining.key.1.bias": 1,
        "model.image_newline": 2,
    }
