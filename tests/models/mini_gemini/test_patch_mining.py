"""Patch info mining equals the original's, and each patch sees its own window only."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, linear
from worlds.same_numbers import assert_near

from contralign.models.mini_gemini.patch_mining import MiniGeminiPatchMining, map_parts, windows

GOLDEN = Path(__file__).parents[2] / "golden" / "mgm_mining.npz"
NAMES = {"query": "vlm_uni_query_projector", "key": "vlm_uni_aux_projector", "value": "vlm_uni_val_projector"}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def mining_of(golden, case):
    mining = MiniGeminiPatchMining(16, 24)
    mining.load_state_dict(
        {
            f"{ours}.{layer}.{kind}": golden[f"{case}/w/model.{theirs}.{layer}.{kind}"]
            for ours, theirs in NAMES.items()
            for layer in (0, 1)
            for kind in ("weight", "bias")
        }
    )
    return mining


def projected(golden, case, features):
    weights = {
        name: golden[f"{case}/w/model.mm_projector.{name}"] for name in ("0.weight", "0.bias", "2.weight", "2.bias")
    }
    return linear(
        gelu(linear(features, weights["0.weight"], weights["0.bias"])), weights["2.weight"], weights["2.bias"]
    )


@torch.no_grad()
def test_mined_features_and_tokens_equal_the_original(golden):
    found = mining_of(golden, "small")(golden["small/q_in"], golden["small/aux_in"])
    torch.testing.assert_close(found, golden["small/mined"], atol=1e-5, rtol=0)
    tokens = projected(golden, "small", golden["small/q_in"] + found)
    torch.testing.assert_close(tokens, golden["small/tokens"], atol=1e-5, rtol=0)
    assert found.std() > 0.1


@torch.no_grad()
def test_hd_tokens_equal_the_original_with_the_whole_picture_first(golden):
    slots = golden["hd_small/feat_by_image_slot"]  # crops 0-3, then the whole
    patches = torch.cat([slots[:, 4:], slots[:, :4]], dim=1)
    parts = map_parts(golden["hd_small/aux_in"], grid=2)
    found = mining_of(golden, "hd_small")(patches.flatten(0, 1), parts.flatten(0, 1)).view_as(patches)
    tokens = projected(golden, "hd_small", (patches + found).flatten(1, 2))
    torch.testing.assert_close(tokens, golden["hd_small/tokens"], atol=1e-5, rtol=0)
    crops_first = torch.cat([tokens[:, 16:], tokens[:, :16]], dim=1)
    assert (crops_first - golden["hd_small/tokens"]).abs().max() > 0.1, "the order is part of the claim"


def test_a_window_is_what_its_patch_shows():
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    seen = windows(torch.stack([rows, columns])[None], patches_per_side=3)
    assert seen.shape == (1, 9, 16, 2)
    for patch in range(9):
        top, left = 4 * (patch // 3), 4 * (patch % 3)
        wanted = [(top + place // 4, left + place % 4) for place in range(16)]
        assert [tuple(place) for place in seen[0, patch].int().tolist()] == wanted


@torch.no_grad()
def test_a_patch_finds_nothing_outside_its_window():
    mining = MiniGeminiPatchMining(8, 6).double()
    patches, feature_map = torch.randn(1, 4, 8).double(), torch.randn(1, 6, 8, 8).double()
    changed = feature_map.clone()
    changed[:, :, :4, 4:] = torch.randn(1, 6, 4, 4).double()
    moved = (mining(patches, changed) - mining(patches, feature_map)).abs().amax(-1)[0]
    assert moved[1] > 0.01
    assert moved[[0, 2, 3]].max() < 1e-12


def test_checkpointing_changes_no_gradient_though_neither_input_has_one():
    mining = MiniGeminiPatchMining(8, 6).double()
    patches, feature_map = torch.randn(2, 4, 8).double(), torch.randn(2, 6, 8, 8).double()
    gradients = []
    for mining.gradient_checkpointing in (False, True):
        mining.zero_grad()
        mining(patches, feature_map).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in mining.parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert_near(plain, again)
    assert gradients[1][2].abs().max() > 0
