"""The ConvNeXt tower equals the original's, stage by stage."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ConvNextConfig
from worlds.same_numbers import assert_near, twin

from contralign.models.convert.mini_gemini.names import AUX_TOWER, rename_mini_gemini_keys
from contralign.models.convert.mini_gemini.towers import convnext_settings
from contralign.models.mini_gemini.convnext import MiniGeminiAuxTower

GOLDEN = Path(__file__).parents[2] / "golden" / "mgm_convnext.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return {name.removeprefix("micro/"): torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture(scope="module")
def tower(golden):
    original = {AUX_TOWER + name.removeprefix("w/"): value for name, value in golden.items() if name.startswith("w/")}
    renamed, unplaced = rename_mini_gemini_keys(original)
    assert not unplaced
    state = {name.removeprefix(AUX_TOWER): tensor for name, tensor in renamed.items()}
    tower = MiniGeminiAuxTower(ConvNextConfig(**convnext_settings(state), drop_path_rate=0.1))
    tower.load_state_dict(state)
    return tower.eval()


@torch.no_grad()
def test_raw_stages_and_their_concatenation_equal_the_original(tower, golden):
    stages = tower.stages(golden["x"])
    for index, stage in enumerate(stages):
        torch.testing.assert_close(stage, golden[f"stages/stage_{index}"], atol=1e-5, rtol=0)
        assert stage.std() > 0.1
    torch.testing.assert_close(tower(golden["x"]), golden["concat"], atol=1e-5, rtol=0)


def test_the_rates_of_drop_path_equal_the_original(tower, golden):
    rates = [getattr(layer.drop_path, "drop_prob", 0.0) for stage in tower.encoder.stages for layer in stage.layers]
    torch.testing.assert_close(torch.tensor(rates, dtype=torch.float64), golden["drop_prob"], atol=1e-7, rtol=0)


@torch.no_grad()
def test_drop_path_makes_training_noisy_and_evaluation_not(tower, golden):
    x, tower = golden["x"].double().repeat(8, 1, 1, 1), twin(tower)
    tower.train()
    assert max(float((tower(x) - tower(x)).abs().max()) for _ in range(3)) > 1e-3
    tower.eval()
    assert_near(tower(x), tower(x))


def test_the_architecture_is_read_off_the_weights(tower):
    settings = convnext_settings(tower.state_dict())
    assert settings == {
        "num_channels": 3,
        "patch_size": 4,
        "num_stages": 4,
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 2, 1],
    }


@torch.no_grad()
def test_coarser_stages_are_enlarged_in_float32_whatever_the_weights_are(tower, golden):
    x = golden["x"]
    half = MiniGeminiAuxTower(tower.config).eval()
    half.load_state_dict(tower.state_dict())
    half = half.to(torch.bfloat16)
    stages = half.stages(x)
    half.stages = lambda _: stages
    enlarged = torch.nn.functional.interpolate(stages[2].float(), size=(16, 16), mode="bilinear", align_corners=False)
    out = half(x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out[:, 24:48], enlarged.to(torch.bfloat16))
