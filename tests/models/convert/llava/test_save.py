import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionModel, LlavaConfig, LlavaForConditionalGeneration

from contralign.models.convert import (
    ConversionError,
    load_original_llava,
    load_original_llava_next,
    save_original_llava,
)
from contralign.models.convert.checkpoint import read_json, read_tensors, read_weights
from contralign.models.convert.tokenizers.vocabulary import add_image_row, original_vocab_size
from contralign.models.convert.weight_files import write_tensors
from contralign.models.published_towers import CLIP_LARGE

TOWERS = Path(__file__).parents[3] / "golden" / "ckpt"
CHECKPOINT = TOWERS / "llava15_tiny"


def equal_bits(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(
        one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]) for name in one
    )


@pytest.mark.parametrize("weight_format", ["safetensors", "bin"])
@pytest.mark.parametrize("rows", [False, True])
def test_llava_comes_back_bit_for_bit_with_its_config(tmp_path, weight_format, rows):
    model = load_original_llava(CHECKPOINT, TOWERS)
    if rows:
        assert add_image_row(model, 128) == 64
    save_original_llava(model, tmp_path, weight_format, shard_bytes=200_000)
    assert len(list(tmp_path.glob("*-of-00003.*"))) == 3
    assert equal_bits(read_weights(tmp_path), read_weights(CHECKPOINT))
    assert equal_bits(read_tensors(tmp_path / "mm_projector.bin"), read_tensors(CHECKPOINT / "mm_projector.bin"))
    assert read_json(tmp_path / "config.json") == read_json(CHECKPOINT / "config.json")


def test_llava_next_comes_back_and_its_stage_1_file_has_no_newline(tmp_path, next_checkpoint):
    model = load_original_llava_next(next_checkpoint, TOWERS)
    save_original_llava(model, tmp_path)
    assert equal_bits(read_weights(tmp_path), read_weights(next_checkpoint))
    assert read_json(tmp_path / "config.json") == read_json(next_checkpoint / "config.json")
    assert sorted(read_tensors(tmp_path / "mm_projector.bin")) == [
        f"model.mm_projector.{layer}.{kind}" for layer in (0, 2) for kind in ("bias", "weight")
    ]


def test_half_precision_stays_and_is_named(tmp_path):
    save_original_llava(load_original_llava(CHECKPOINT, TOWERS, dtype=torch.float16), tmp_path)
    assert {tensor.dtype for tensor in read_weights(tmp_path).values()} == {torch.float16}
    assert read_json(tmp_path / "config.json")["torch_dtype"] == "float16"


def test_a_tower_that_was_trained_makes_the_original_read_it_from_the_checkpoint(tmp_path):
    model = load_original_llava(CHECKPOINT, TOWERS)
    with torch.no_grad():
        model.model.vision_tower.embeddings.class_embedding += 1
    save_original_llava(model, tmp_path)
    assert read_json(tmp_path / "config.json")["unfreeze_mm_vision_tower"] is True
    with pytest.raises(ConversionError, match="cannot be left out"):
        save_original_llava(model, tmp_path / "referenced", with_tower=False)


def test_an_untouched_tower_may_be_referenced(tmp_path):
    model = load_original_llava(CHECKPOINT, TOWERS)
    save_original_llava(model, tmp_path, with_tower=False)
    assert not any("vision_tower" in name for name in read_weights(tmp_path))
    elsewhere = tmp_path / "elsewhere" / "towers" / "openai-clip-tiny-patch14-56"
    CLIPVisionModel(model.config.vision_config).save_pretrained(elsewhere)
    write_tensors(model.model.vision_tower.state_dict(), elsewhere / "model.safetensors")
    again = load_original_llava(tmp_path, tmp_path / "elsewhere")
    assert equal_bits(again.state_dict(), model.state_dict())


def test_a_model_that_never_was_original_brings_its_tower_along(tmp_path):
    config = load_original_llava(CHECKPOINT, TOWERS).config.to_dict()
    del config["original_settings"], config["original_tower"]
    model = LlavaForConditionalGeneration(LlavaConfig(**config)).eval()
    add_image_row(model, 128)
    save_original_llava(model, tmp_path)
    settings = read_json(tmp_path / "config.json")
    assert (settings["mm_vision_tower"], settings["vocab_size"]) == ("vision_tower", 128)
    assert settings["unfreeze_mm_vision_tower"] and settings["mm_projector_type"] == "mlp2x_gelu"
    tower = CLIPVisionModel.from_pretrained(tmp_path / "vision_tower")
    assert equal_bits(tower.state_dict(), model.model.vision_tower.state_dict())
    again = load_original_llava(tmp_path, tmp_path).state_dict()
    assert all(torch.equal(again[name], value[: len(again[name])]) for name, value in model.state_dict().items())


def test_a_tower_of_known_architecture_gets_its_hub_name():
    from contralign.models.convert.llava.save import _published_name

    config = LlavaConfig(vision_config={"model_type": "clip_vision_model", **CLIP_LARGE})
    assert _published_name(config.vision_config) == "openai/clip-vit-large-patch14-336"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"projector_hidden_act": "relu"}, "projector_hidden_act='relu'"),
        ({"multimodal_projector_bias": False}, "multimodal_projector_bias=False"),
        ({"vision_feature_layer": [-2, -1]}, "layers .* the original reads one"),
        ({"text_config": {"model_type": "qwen2"}}, "made of qwen2, clip_vision_model"),
    ],
)
def test_what_the_original_has_no_word_for_is_refused_before_anything_is_written(tmp_path, settings, message):
    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"model_type": "llama", "vocab_size": 9} | settings.pop("text_config", {}) | tiny
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, **tiny},
        text_config=text | {"num_key_value_heads": 2},
        image_token_index=9,
        **settings,
    )
    with pytest.raises(ConversionError, match=message):
        save_original_llava(LlavaForConditionalGeneration(config), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("rows", "image_token", "kept"), [(32064, 32000, 32000), (4096, 3, 4096), (128, 128, 128)])
def test_rows_behind_the_image_token_are_added_ones_only_if_they_are_few(rows, image_token, kept):
    config = LlavaConfig(text_config={"model_type": "llama", "vocab_size": rows}, image_token_index=image_token)

    class Model:
        pass

    model = Model()
    model.config = config
    assert original_vocab_size(model) == kept


def test_generation_ends_are_written(tmp_path):
    save_original_llava(load_original_llava(CHECKPOINT, TOWERS), tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
