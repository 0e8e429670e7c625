import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import CLIPVisionConfig, LlavaForConditionalGeneration
from worlds.same_numbers import assert_says_the_same

from contralign.contrast.drop import DropImage
from contralign.core.passes import compare_passes
from contralign.models.adapters.registry import adapter_for
from contralign.models.convert import ConversionError, load_original_llava, rename_llava_keys
from contralign.models.convert.checkpoint import read_weights
from contralign.models.convert.llava.config import llava_config
from contralign.models.published_towers import CLIP_LARGE

GOLDEN = Path(__file__).parents[3] / "golden"
CHECKPOINT, TOWERS = GOLDEN / "ckpt" / "llava15_tiny", GOLDEN / "ckpt"
TOWER = "towers/openai-clip-tiny-patch14-56"
TOWER_PREFIX = "model.vision_tower.vision_tower."
FREE_ID = 127  # inside the tiny vocabulary of 128, and in none of the golden rows
PATCHES = 16


@pytest.fixture(scope="module")
def model() -> LlavaForConditionalGeneration:
    return load_original_llava(CHECKPOINT, TOWERS, image_token_id=FREE_ID)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    arrays = np.load(GOLDEN / "llava15_forward.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture
def copy(tmp_path) -> Path:
    """A checkpoint directory that a test may edit."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "llava"))


def edit_config(directory: Path, **settings) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def rewrite(directory: Path, state: dict[str, torch.Tensor]) -> None:
    """Replaces the shards by one safetensors file."""
    for shard in directory.glob("*.bin*"):
        shard.unlink()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, directory / "model.safetensors")


def write_tower(root: Path, strip: str = "", extra: dict[str, torch.Tensor] | None = None, **settings) -> Path:
    tower = root / TOWER
    shutil.copytree(TOWERS / TOWER, tower)
    state = {
        name.removeprefix(TOWER_PREFIX).removeprefix(strip): tensor
        for name, tensor in read_weights(CHECKPOINT).items()
        if name.startswith(TOWER_PREFIX)
    }
    save_file(state | (extra or {}), tower / "model.safetensors")
    edit_config(tower, **settings)
    return root


def without_tower(directory: Path) -> None:
    state = read_weights(directory)
    rewrite(directory, {name: tensor for name, tensor in state.items() if not name.startswith(TOWER_PREFIX)})


def spliced(rows: torch.Tensor, mask: torch.Tensor, image_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every −200 becomes one placeholder a patch; padded on the right."""
    expanded = []
    for row, kept in zip(rows.tolist(), mask.tolist(), strict=True):
        tokens = [token for token, keep in zip(row, kept, strict=True) if keep]
        expanded.append([t for token in tokens for t in ([image_token_id] * PATCHES if token == -200 else [token])])
    width = max(map(len, expanded))
    input_ids = torch.tensor([row + [0] * (width - len(row)) for row in expanded])
    attention_mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in expanded])
    return input_ids, attention_mask


def mean_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def test_features_of_the_tower_equal_the_original(model, golden):
    hidden = model.model.vision_tower(golden["images"].float(), output_hidden_states=True).hidden_states[-2][:, 1:]
    torch.testing.assert_close(hidden, golden["clip_features"], atol=1e-5, rtol=0)
    assert hidden.std() > 1


def test_projected_features_equal_the_original(model, golden):
    features = torch.stack(list(model.get_image_features(golden["images"].float()).pooler_output))
    torch.testing.assert_close(features, golden["projected_features"], atol=1e-5, rtol=0)
    assert features.std() > 0.01


@torch.no_grad()
def test_logits_and_loss_from_ids_and_pixels_equal_the_original(model, golden):
    input_ids, attention_mask = spliced(golden["input_ids"], golden["attention_mask"], FREE_ID)
    has_image = (golden["input_ids"] == -200).any(dim=1)
    assert has_image.tolist() == [True, False, True, True]
    assert torch.equal(attention_mask.bool(), golden["mask_spliced"])
    output = model(input_ids=input_ids, attention_mask=attention_mask, pixel_values=golden["images"].float()[has_image])
    seen = golden["mask_spliced"]
    torch.testing.assert_close(output.logits[seen], golden["logits"][seen], atol=5e-5, rtol=0)
    loss = mean_cross_entropy(output.logits, golden["labels_spliced"])
    torch.testing.assert_close(loss, golden["loss"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_pass_with_the_picture_gives_the_original_logits_and_loss(model, golden):
    input_ids, attention_mask = spliced(golden["input_ids"], golden["attention_mask"], FREE_ID)
    has_image = (golden["input_ids"] == -200).any(dim=1)
    adapter = adapter_for(model)
    batch = adapter.prepare(
        {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": golden["labels_spliced"],
            "pixel_values": golden["images"].float()[has_image],
        }
    )
    seen = golden["mask_spliced"]
    logits = adapter.logits(adapter.hidden(batch)[seen])
    torch.testing.assert_close(logits, golden["logits"][seen], atol=5e-5, rtol=0)
    looks = compare_passes(adapter, DropImage(), batch)
    torch.testing.assert_close(looks.nll.sum() / looks.valid.sum(), golden["loss"], atol=1e-5, rtol=0)
    assert golden["logits"][seen].std() > 1  # the check has something to see


@torch.no_grad()
def test_logits_and_loss_from_embeddings_equal_the_original(model, golden):
    seen = golden["mask_spliced"]
    output = model(inputs_embeds=golden["inputs_embeds"], attention_mask=seen.long())
    torch.testing.assert_close(output.logits[seen], golden["logits"][seen], atol=5e-5, rtol=0)
    loss = mean_cross_entropy(output.logits, golden["labels_spliced"])
    torch.testing.assert_close(loss, golden["loss"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_embeddings_spliced_with_another_id_at_image_positions_equal_the_original(golden):
    """What an adapter does with the default image token, which has no row in the vocabulary."""
    model = load_original_llava(CHECKPOINT, TOWERS)
    assert model.config.image_token_id == model.config.text_config.vocab_size == model.lm_head.out_features == 128
    input_ids, attention_mask = spliced(golden["input_ids"], golden["attention_mask"], 128)
    image_mask = input_ids == 128
    has_image = image_mask.any(dim=1)
    embeds = model.get_input_embeddings()(input_ids.masked_fill(image_mask, 0))
    features = torch.cat(list(model.get_image_features(golden["images"].float()[has_image]).pooler_output))
    embeds = embeds.masked_scatter(image_mask.unsqueeze(-1), features)
    seen = attention_mask.bool()
    torch.testing.assert_close(embeds[seen], golden["inputs_embeds"][seen], atol=1e-5, rtol=0)


@torch.no_grad()
def test_saved_and_loaded_by_transformers_it_is_the_same_model(tmp_path, golden):
    model = load_original_llava(CHECKPOINT, TOWERS)
    model.save_pretrained(tmp_path / "hf")
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "hf")
    assert list(again.state_dict()) == list(model.state_dict())
    assert again.config.image_token_id == 128 and again.config.image_seq_length == PATCHES
    inputs = {"inputs_embeds": golden["inputs_embeds"], "attention_mask": golden["mask_spliced"].long()}
    assert_says_the_same(model, again, inputs)


def test_the_config_says_what_the_original_does(model):
    config = model.config
    assert config.vision_config.hidden_act == "quick_gelu" and config.projector_hidden_act == "gelu"
    assert config.vision_feature_layer == -2 and config.vision_feature_select_strategy == "default"
    assert config.text_config.rms_norm_eps == 1e-5 and config.text_config.rope_parameters["rope_theta"] == 10000
    assert (config.text_config.bos_token_id, config.text_config.eos_token_id) == (1, 2)
    assert model.generation_config.eos_token_id == 2
    assert not model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_every_original_key_finds_one_place():
    state = read_weights(CHECKPOINT)
    renamed, unplaced = rename_llava_keys(state)
    assert unplaced == [] and len(renamed) == len(state)
    assert renamed["model.multi_modal_projector.linear_2.bias"] is state["model.mm_projector.2.bias"]
    name = "encoder.layers.1.mlp.fc1.weight"
    assert renamed[f"model.vision_tower.{name}"] is state[f"{TOWER_PREFIX}vision_model.{name}"]


def test_keys_without_a_place_are_named_and_derived_buffers_are_left_out():
    tensor = torch.zeros(1)
    renamed, unplaced = rename_llava_keys(
        {
            "model.image_newline": tensor,
            "model.vlm_uni_query_projector.0.weight": tensor,
            "model.mm_projector.1.weight": tensor,
            "model.layers.0.self_attn.rotary_emb.inv_freq": tensor,
            f"{TOWER_PREFIX}vision_model.embeddings.position_ids": tensor,
            "model.norm.weight": tensor,
        }
    )
    assert list(renamed) == ["model.language_model.norm.weight"]
    assert unplaced == ["model.image_newline", "model.vlm_uni_query_projector.0.weight", "model.mm_projector.1.weight"]


def test_unplaced_missing_and_misshapen_are_all_named_in_one_error(copy):
    state = read_weights(copy)
    state["model.image_newline"] = torch.zeros(48)
    state["model.layers.7.mlp.up_proj.weight"] = torch.zeros(96, 48)
    del state["model.norm.weight"], state[f"{TOWER_PREFIX}vision_model.post_layernorm.bias"]
    state["lm_head.weight"] = torch.zeros(130, 48)
    rewrite(copy, state)
    with pytest.raises(ConversionError) as error:
        load_original_llava(copy, TOWERS)
    message = str(error.value)
    for wanted in (
        "no place in the model: model.image_newline, model.language_model.layers.7.mlp.up_proj.weight;",
        "no value: model.language_model.norm.weight, model.vision_tower.post_layernorm.bias;",
        "do not fit: lm_head.weight (130, 48) for (128, 48)",
    ):
        assert wanted in message


@pytest.mark.parametrize("strip", ["", "vision_model."])
def test_a_tower_outside_the_checkpoint_is_read_from_its_directory(copy, tmp_path, model, strip):
    without_tower(copy)
    extra = {} if strip else {"text_model.x": torch.zeros(1), "logit_scale": torch.zeros(1)}
    root = write_tower(tmp_path, strip, extra)
    again = load_original_llava(copy, root, image_token_id=FREE_ID)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())


def test_the_tower_in_the_checkpoint_wins_over_the_directory(copy, tmp_path):
    state = read_weights(copy)
    trained = f"{TOWER_PREFIX}vision_model.embeddings.class_embedding"
    state[trained] = state[trained] + 1
    rewrite(copy, state)
    model = load_original_llava(copy, write_tower(tmp_path))
    assert torch.equal(model.model.vision_tower.embeddings.class_embedding, state[trained])


def test_a_trained_tower_that_is_not_in_the_checkpoint_is_refused(copy, tmp_path):
    without_tower(copy)
    edit_config(copy, unfreeze_mm_vision_tower=True)
    with pytest.raises(ConversionError, match="unfreeze_mm_vision_tower"):
        load_original_llava(copy, write_tower(tmp_path))


def test_a_whole_clip_config_gives_its_vision_half(tmp_path):
    root = write_tower(tmp_path)
    vision = json.loads((root / TOWER / "config.json").read_text())
    (root / TOWER / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": vision}))
    assert load_original_llava(CHECKPOINT, root).config.vision_config.image_size == 56


def test_a_tower_known_by_its_hub_name_needs_no_directory():
    vision = CLIPVisionConfig(**CLIP_LARGE)
    original = json.loads((CHECKPOINT / "config.json").read_text())
    config = llava_config(original, vision)
    assert config.image_seq_length == 576 and vision.num_hidden_layers == 24
    assert llava_config(original | {"mm_vision_select_feature": "cls_patch"}, vision).image_seq_length == 577


def test_a_known_tower_without_weights_anywhere_says_what_to_download(copy):
    without_tower(copy)
    edit_config(copy, mm_vision_tower="openai/clip-vit-large-patch14-336")
    with pytest.raises(ConversionError, match=r"download openai/clip-vit-large-patch14-336 and give tower_root"):
        load_original_llava(copy)


def test_the_projector_file_fills_in_where_the_shards_have_none(copy, model):
    state = {name: tensor for name, tensor in read_weights(copy).items() if "mm_projector" not in name}
    projector = (copy / "mm_projector.bin").read_bytes()
    rewrite(copy, state)
    (copy / "mm_projector.bin").write_bytes(projector)
    again = load_original_llava(copy, TOWERS).model.multi_modal_projector
    assert torch.equal(again.linear_1.weight, model.model.multi_modal_projector.linear_1.weight)


def test_a_projector_file_that_differs_is_left_aside_with_a_warning(copy, model, caplog):
    torch.save({"model.mm_projector.0.bias": torch.ones(48)}, copy / "mm_projector.bin")
    with caplog.at_level(logging.WARNING):
        again = load_original_llava(copy, TOWERS).model.multi_modal_projector
    assert "model.mm_projector.0.bias" in caplog.text
    assert torch.equal(again.linear_1.bias, model.model.multi_modal_projector.linear_1.bias)


def test_all_parameters_have_one_dtype(copy):
    state = read_weights(copy)
    rewrite(copy, {name: value.half() if "vision_tower" not in name else value for name, value in state.items()})
    assert {parameter.dtype for parameter in load_original_llava(copy, TOWERS).parameters()} == {torch.float16}
    model = load_original_llava(copy, TOWERS, dtype=torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_config": {}}, "Hugging Face layout already"),
        ({"model_type": "mgm"}, "model_type='mgm'"),
        ({"mm_projector_type": "linear"}, "mm_projector_type='linear'"),
        ({"mm_patch_merge_type": "spatial_unpad"}, "mm_patch_merge_type='spatial_unpad'"),
        ({"image_aspect_ratio": "anyres"}, "image_aspect_ratio='anyres'"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end=True"),
        ({"s2": True}, "s2=True"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings=True"),
        ({"mm_vision_select_feature": "cls"}, "mm_vision_select_feature='cls'"),
        ({"mm_vision_tower": None}, "no mm_vision_tower"),
        ({"mm_vision_tower": "towers/absent"}, "give tower_root"),
        ({"num_hidden_layers": 3}, r"no value: model\.language_model\.layers\.2"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(copy, settings, message):
    edit_config(copy, **settings)
    with pytest.raises(ConversionError, match=message):
        load_original_llava(copy, TOWERS)


def test_an_absent_projector_type_means_the_linear_one_and_is_refused(copy):
    original = json.loads((copy / "config.json").read_text())
    del original["mm_projector_type"]
    (copy / "config.json").write_text(json.dumps(original))
    with pytest.raises(ConversionError, match="mm_projector_type='linear'"):
        load_original_llava(copy, TOWERS)


def test_a_tower_that_is_not_clip_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="model_type='siglip_vision_model'"):
        load_original_llava(CHECKPOINT, write_tower(tmp_path, model_type="siglip_vision_model"))


@pytest.mark.parametrize("image_token_id", [-200, -1, 1.5, True])
def test_an_image_token_that_cannot_be_looked_up_is_refused(image_token_id):
    with pytest.raises(ConversionError, match="image_token_id="):
        load_original_llava(CHECKPOINT, TOWERS, image_token_id=image_token_id)
