"""An original LLaVA-NeXT against a computation of its parts: tower, projector, golden order of tokens, LLaMA alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import gelu, linear
from transformers import CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from contralign.models.convert import ConversionError, load_original_llava, load_original_llava_next
from contralign.models.convert.checkpoint import read_weights
from contralign.models.convert.llava.config import grid_pinpoints
from contralign.models.convert.processors import llava_next_processor
from contralign.models.convert.tokenizers.sentencepiece_tokenizer import read_tokenizer
from contralign.models.convert.weight_files import write_weights

GOLDEN = Path(__file__).parents[3] / "golden"
TOWERS = GOLDEN / "ckpt"
ANYRES = json.loads((GOLDEN / "llava_anyres.json").read_text())["s28"]
ARRAYS = np.load(GOLDEN / "llava_anyres.npz")
SIZES = [
    tuple(map(int, name.split("/")[1].split("x"))) for name in ARRAYS if name.startswith("s28/") and "packed" in name
]
FREE_ID = 127
TILE_SIDE = 28


@pytest.fixture(scope="module")
def model(next_checkpoint):
    return load_original_llava_next(next_checkpoint, TOWERS, image_token_id=FREE_ID)


@pytest.fixture(scope="module")
def processor(model):
    tokenizer = read_tokenizer(GOLDEN / "tiny_llama_tokenizer")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return llava_next_processor(model, tokenizer, TOWERS)


def picture(width: int, height: int) -> Image.Image:
    """The picture of golden/README.md."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    red = 255 * x // max(width - 1, 1) + 0 * y
    green = 255 * y // max(height - 1, 1) + 0 * x
    blue = 180 * ((x // 8 + y // 8) % 2) + (x * y % 60)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def packed_features(state: dict[str, torch.Tensor], tiles: torch.Tensor, order: np.ndarray) -> torch.Tensor:
    """Tower and projector on every tile, in the original's order of tokens."""
    tower = CLIPVisionModel.from_pretrained(TOWERS / "towers" / "clip-tiny-patch14-28")
    hidden = tower(tiles, output_hidden_states=True).hidden_states[-2][:, 1:]
    hidden = gelu(linear(hidden, state["model.mm_projector.0.weight"], state["model.mm_projector.0.bias"]))
    features = linear(hidden, state["model.mm_projector.2.weight"], state["model.mm_projector.2.bias"])
    newline = state["model.image_newline"]
    return torch.stack([newline if tile < 0 else features[tile, 2 * row + column] for tile, row, column in order])


def language_model(state: dict[str, torch.Tensor], checkpoint: Path) -> LlamaForCausalLM:
    """Vicuna's half: its names in an original checkpoint are those of a plain LLaMA."""
    settings = json.loads((checkpoint / "config.json").read_text())
    settings = {name: settings[name] for name in LlamaConfig().to_dict() if name in settings and name != "model_type"}
    alone = LlamaForCausalLM(LlamaConfig(**settings))
    alone.load_state_dict({name: value for name, value in state.items() if name in alone.state_dict()})
    return alone.eval()


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_logits_equal_those_of_the_parts_in_the_original_order(size, model, processor, next_checkpoint):
    order = ARRAYS[f"s28/{size[0]}x{size[1]}/packed"]
    pixels = processor.image_processor(picture(*size), return_tensors="pt")
    before, behind = torch.tensor([[1, 5, 6]]), torch.tensor([[7, 8, 2]])
    input_ids = torch.cat([before, torch.full((1, len(order)), FREE_ID), behind], dim=1)
    made = model(input_ids=input_ids, **pixels).logits

    state = read_weights(next_checkpoint)
    alone = language_model(state, next_checkpoint)
    look_up = alone.get_input_embeddings()
    features = packed_features(state, pixels["pixel_values"][0], order)
    embeds = torch.cat([look_up(before)[0], features, look_up(behind)[0]])
    expected = alone(inputs_embeds=embeds[None]).logits
    torch.testing.assert_close(made, expected, atol=5e-5, rtol=0)
    assert expected.std() > 1


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_processor_cuts_the_original_tiles_and_counts_its_tokens(size, processor):
    row = next(row for row in ANYRES["rows"] if tuple(row["size_wh"]) == size)
    made = processor(images=picture(*size), text="<image>", return_tensors="pt")
    assert (made["input_ids"] == processor.image_token_id).sum() == row["num_tokens"]
    tiles = made["pixel_values"][0]
    step = max(TILE_SIDE // 12, 1)
    sample = tiles[:, :, step // 2 :: step, step // 2 :: step].numpy()
    np.testing.assert_allclose(sample, ARRAYS[f"s28/{size[0]}x{size[1]}/tile_sample"], atol=1e-5)


def test_the_grids_are_turned_in_the_config_and_in_the_processor(model, processor):
    turned = [[height, width] for width, height in ANYRES["pinpoints_wh"]]
    assert model.config.image_grid_pinpoints == turned != ANYRES["pinpoints_wh"]
    assert [list(pair) for pair in processor.image_processor.image_grid_pinpoints] == turned


def test_the_newline_and_the_trained_tower_come_from_the_checkpoint(model, next_checkpoint):
    state = read_weights(next_checkpoint)
    assert torch.equal(model.model.image_newline, state["model.image_newline"])
    name = "embeddings.class_embedding"
    assert torch.equal(
        model.model.vision_tower.state_dict()[name], state[f"model.vision_tower.vision_tower.vision_model.{name}"]
    )


def test_a_checkpoint_without_the_newline_is_refused_and_says_why(next_checkpoint, tmp_path):
    state = read_weights(next_checkpoint)
    del state["model.image_newline"]
    write_weights(state, tmp_path, "safetensors")
    (tmp_path / "config.json").write_bytes((next_checkpoint / "config.json").read_bytes())
    with pytest.raises(ConversionError, match=r"no model\.image_newline: LLaVA leaves it out of mm_projector\.bin"):
        load_original_llava_next(tmp_path, TOWERS)


def test_each_loader_refuses_the_others_checkpoint(next_checkpoint):
    with pytest.raises(ConversionError, match="mm_patch_merge_type='spatial_unpad'"):
        load_original_llava(next_checkpoint, TOWERS)
    with pytest.raises(ConversionError, match="mm_patch_merge_type='flat'"):
        load_original_llava_next(TOWERS / "llava15_tiny", TOWERS)


@pytest.mark.parametrize("written", ["[[28, 56], [56, 28]]", "[(28, 56), (56, 28)]", [[28, 56], [56, 28]]])
def test_grids_are_read_in_every_form_that_was_written(written):
    assert grid_pinpoints({"image_grid_pinpoints": written}) == [[28, 56], [56, 28]]


@pytest.mark.parametrize("written", [None, [], "(1x1),...,(6x6)", [[28]], [[28, 0]], "[28, 56]", [["a", "b"]], 3])
def test_grids_that_are_no_pairs_of_sides_are_refused(written):
    with pytest.raises(ConversionError, match="wanted pairs of"):
        grid_pinpoints({"image_grid_pinpoints": written})
