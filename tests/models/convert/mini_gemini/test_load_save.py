"""Original Mini-Gemini checkpoints: the original's numbers, every tensor placed, and the way back."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, GemmaConfig, LlamaConfig
from worlds.same_numbers import assert_says_the_same, in_float64, twin
from worlds.small_mini_gemini import build_mini_gemini, picture_batch, without_labels

from contralign.contrast.drop import DropImage
from contralign.core.passes import compare_passes
from contralign.models.adapters.registry import adapter_for
from contralign.models.assembly.assemble import meta_model
from contralign.models.assembly.published_parts import VICUNA_7B
from contralign.models.convert import ConversionError
from contralign.models.convert.checkpoint import read_json, read_weights
from contralign.models.convert.clip_tower import CLIP_TOWER, clip_config
from contralign.models.convert.mini_gemini.config import mini_gemini_config, original_config
from contralign.models.convert.mini_gemini.load import load_original_mini_gemini
from contralign.models.convert.mini_gemini.names import AUX_TOWER, original_names, rename_mini_gemini_keys
from contralign.models.convert.mini_gemini.save import save_original_mini_gemini
from contralign.models.convert.mini_gemini.towers import convnext_tower
from contralign.models.mini_gemini import MiniGeminiConfig
from contralign.models.mini_gemini.convnext import MiniGeminiAuxTower
from contralign.models.published_towers import CLIP_L_336, CONVNEXT_L_320, CONVNEXT_LARGE

GOLDEN = Path(__file__).parents[3] / "golden"
CHECKPOINT, TOWERS = GOLDEN / "ckpt" / "mgm_llama_tiny", GOLDEN / "ckpt"
CLIP, CONVNEXT = "towers/openai-clip-tiny-patch14-56", "towers/openclip-convnext-large-d-320-micro"
PATCHES = 16


EMBEDS = 2e-5
"""The original computed in float32, whose own distance from float64 is 1.2e-5 here; logits are 5e-6 apart."""


@pytest.fixture(scope="module")
def model():
    return load_original_mini_gemini(CHECKPOINT, TOWERS)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "mgm_llama_forward.npz") as arrays:
        return {name.removeprefix("plain/"): torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture
def copy(tmp_path):
    """A checkpoint directory that a test may edit."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "mgm"))


def edit_config(directory, **settings):
    path = directory / "config.json"
    path.write_text(json.dumps({k: v for k, v in (read_json(path) | settings).items() if v is not ...}))


def rewrite(directory, state):
    """Replaces the shards by one safetensors file."""
    for shard in [*directory.glob("*.safetensors"), *directory.glob("*.index.json")]:
        shard.unlink()
    save_file(state, directory / "model.safetensors")


def split_off(directory, *prefixes):
    """Takes the tensors whose names begin so out of the checkpoint."""
    state = read_weights(directory)
    taken = {name: tensor for name, tensor in state.items() if name.startswith(prefixes)}
    rewrite(directory, {name: tensor for name, tensor in state.items() if name not in taken})
    return taken


def write_towers(root, taken, level="vision_model."):
    """The two towers in directories of their own, the ConvNeXt as open_clip saves it, with parts nobody needs."""
    shutil.copytree(TOWERS / CLIP, root / CLIP)
    clip = {
        name.removeprefix(CLIP_TOWER + "vision_model."): t for name, t in taken.items() if name.startswith(CLIP_TOWER)
    }
    save_file({level + name: tensor for name, tensor in clip.items()}, root / CLIP / "model.safetensors")
    (root / CONVNEXT).mkdir(parents=True)
    trunk = {
        name.removeprefix(AUX_TOWER).replace("vision_", "visual.trunk.", 1): tensor
        for name, tensor in taken.items()
        if name.startswith(AUX_TOWER)
    }
    beside = {"visual.trunk.head.norm.weight": torch.ones(32), "logit_scale": torch.ones(())}
    torch.save(trunk | beside, root / CONVNEXT / "open_clip_pytorch_model.bin")


def spliced(golden, image_token_id):
    rows = []
    for row, kept in zip(golden["input_ids"].tolist(), golden["attention_mask"].tolist(), strict=True):
        tokens = [token for token, keep in zip(row, kept, strict=True) if keep]
        rows.append([t for token in tokens for t in ([image_token_id] * PATCHES if token == -200 else [token])])
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def batch_of(model, golden):
    """The golden rows as a transformers model takes them: the text row brings no picture."""
    ids, mask = spliced(golden, model.config.image_token_id)
    pictured = (golden["input_ids"] == -200).any(dim=1)
    assert pictured.tolist() == [True, False, True]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": golden["labels_spliced"],
        "pixel_values": golden["images"].float()[pictured],
        "pixel_values_aux": golden["images_aux"].float()[pictured],
    }


@torch.no_grad()
def test_features_of_the_towers_and_after_mining_equal_the_original(model, golden):
    made = twin(model).get_image_features(golden["images"].double(), golden["images_aux"].double())
    features = torch.stack(list(made.pooler_output))
    torch.testing.assert_close(made.last_hidden_state, golden["clip_features"].double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(features, golden["image_features"].double(), atol=EMBEDS, rtol=0)
    assert golden["image_features"].std() > 0.01


@torch.no_grad()
def test_logits_and_loss_equal_the_original(model, golden):
    batch = batch_of(model, golden)
    assert torch.equal(batch["attention_mask"].bool(), golden["mask_spliced"])
    out, seen = model(**batch), golden["mask_spliced"]
    torch.testing.assert_close(out.logits[seen], golden["logits"][seen], atol=5e-5, rtol=0)
    torch.testing.assert_close(out.loss, golden["loss"], atol=1e-5, rtol=0)
    assert out.logits[seen].std() > 0.1


@torch.no_grad()
def test_the_pass_with_the_picture_gives_the_original_logits(model, golden):
    adapter = adapter_for(twin(model))
    batch, seen = adapter.prepare(in_float64(batch_of(model, golden))), golden["mask_spliced"]
    torch.testing.assert_close(batch.inputs_embeds[seen], golden["inputs_embeds"][seen].double(), atol=EMBEDS, rtol=0)
    logits = adapter.logits(adapter.hidden(batch).flatten(0, 1)).view(*batch.input_ids.shape, -1)
    torch.testing.assert_close(logits[seen], golden["logits"][seen].double(), atol=5e-5, rtol=0)
    assert compare_passes(adapter, DropImage(), batch).delta["logit"].abs().max() > 0


def test_there_and_back_every_tensor_and_every_setting_is_the_same(model, tmp_path):
    save_original_mini_gemini(model, tmp_path / "back")
    before, after = read_weights(CHECKPOINT), read_weights(tmp_path / "back")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype and torch.equal(tensor, after[name]), name
    assert read_json(tmp_path / "back" / "config.json") == read_json(CHECKPOINT / "config.json")


def test_through_hugging_face_and_back_loses_nothing(model, tmp_path):
    model.save_pretrained(tmp_path / "hf")
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "hf")
    save_original_mini_gemini(loaded, tmp_path / "back")
    before, after = read_weights(CHECKPOINT), read_weights(tmp_path / "back")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert read_json(tmp_path / "back" / "config.json") == read_json(CHECKPOINT / "config.json")


def test_what_sees_pictures_lies_in_one_shard_and_the_index_says_so(model, tmp_path):
    """The original reads CLIP only from shards that also hold mining or the ConvNeXt (spec 10.6)."""
    save_original_mini_gemini(model, tmp_path, max_shard_size="100KB")
    index = read_json(tmp_path / "model.safetensors.index.json")
    where = {}
    for name, file in index["weight_map"].items():
        kind = "pictures" if "vision" in name or "vlm_uni" in name or "mm_projector" in name else "text"
        where.setdefault(kind, set()).add(file)
    assert len(where["pictures"]) == 1 and len(where["text"]) > 1
    assert not where["pictures"] & where["text"]
    assert index["metadata"]["total_size"] == sum(t.numel() * 4 for t in read_weights(tmp_path).values())
    assert set(load_file(tmp_path / next(iter(where["pictures"])))) == {
        name for name, file in index["weight_map"].items() if file in where["pictures"]
    }


def test_a_convnext_that_was_trained_is_marked_so_that_the_original_reads_it(tmp_path):
    model = load_original_mini_gemini(CHECKPOINT, TOWERS)
    with torch.no_grad():
        model.model.vision_tower_aux.embeddings.layernorm.bias.add_(1)
    save_original_mini_gemini(model, tmp_path)
    assert read_json(tmp_path / "config.json")["optimize_vision_tower_aux"] is True


@pytest.mark.parametrize("level", ["vision_model.", ""])
@torch.no_grad()
def test_towers_from_their_own_directories_are_the_same_towers(copy, tmp_path, golden, level):
    taken = split_off(copy, CLIP_TOWER, AUX_TOWER)
    write_towers(tmp_path / "root", taken, level)
    model = load_original_mini_gemini(copy, tmp_path / "root")
    seen = golden["mask_spliced"]
    torch.testing.assert_close(model(**batch_of(model, golden)).logits[seen], golden["logits"][seen], atol=5e-5, rtol=0)


@torch.no_grad()
def test_mm_projector_bin_fills_in_what_the_shards_lack(copy, golden):
    taken = split_off(copy, "model.mm_projector.", "model.vlm_uni", "model.vision_tower")
    torch.save(taken, copy / "mm_projector.bin")
    model = load_original_mini_gemini(copy, TOWERS)
    seen = golden["mask_spliced"]
    torch.testing.assert_close(model(**batch_of(model, golden)).logits[seen], golden["logits"][seen], atol=5e-5, rtol=0)


def test_a_tower_of_open_clip_starts_a_new_model(copy, tmp_path):
    write_towers(tmp_path, split_off(copy, CLIP_TOWER, AUX_TOWER))
    config, state = convnext_tower(tmp_path / CONVNEXT)
    assert (config.hidden_sizes, config.depths) == ([8, 16, 24, 32], [1, 1, 2, 1])
    MiniGeminiAuxTower(config).load_state_dict(state)


def test_published_towers_are_known_by_name_without_their_files():
    for name in ("openai/clip-vit-large-patch14-336", "model_zoo/OpenAI/clip-vit-large-patch14-336"):
        assert clip_config(name, Path("nowhere") / name).num_hidden_layers == 24
    with pytest.raises(ConversionError, match="CLIP tower 'openai/other' is not at nowhere: give tower_root"):
        clip_config("openai/other", Path("nowhere"))


def test_names_go_both_ways_one_to_one():
    names = list(read_weights(CHECKPOINT))
    renamed, unplaced = rename_mini_gemini_keys(dict.fromkeys(names, torch.zeros(())))
    assert not unplaced and len(renamed) == len(names)
    assert sorted(original_names(renamed).values()) == sorted(names)
    with pytest.raises(ValueError, match=r"no place for model\.image_newline"):
        original_names(["model.image_newline"])


def tiny_gemma(tmp_path, **settings):
    """A checkpoint in the original layout, written by us, with towers of its own architecture beside it."""
    model = build_mini_gemini(2, "gemma", **settings)
    names = {"mm_vision_tower": "towers/openai-clip-tiny", "mm_vision_tower_aux": "towers/openclip-tiny"}
    model.config.original_settings = names
    model.config.vision_config.save_pretrained(tmp_path / names["mm_vision_tower"])
    save_original_mini_gemini(model, tmp_path / "gemma")
    return model, tmp_path / "gemma"


@pytest.mark.parametrize("gelu", ["tanh", "exact"])
@torch.no_grad()
def test_a_gemma_in_hd_comes_back_with_its_scale_its_gelu_and_its_tied_head(tmp_path, gelu):
    model, path = tiny_gemma(tmp_path, text_gelu=gelu)
    original = read_json(path / "config.json")
    assert (original["model_type"], original["image_grid"], original["image_global"]) == ("mgm_gemma", 2, True)
    assert "lm_head.weight" not in read_weights(path)
    loaded = load_original_mini_gemini(path, tmp_path)
    assert loaded.config.scale_image_features and loaded.config.text_gelu == gelu
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    batch = without_labels(picture_batch(model))
    assert_says_the_same(model, loaded, batch)


def test_a_plain_gelu_in_a_gemma_is_tanh_unless_asked_otherwise(tmp_path):
    _, path = tiny_gemma(tmp_path)
    edit_config(path, hidden_activation=None)
    acts = {
        gelu: load_original_mini_gemini(path, tmp_path, text_gelu=gelu).config.text_config.hidden_act
        for gelu in (None, "exact")
    }
    assert acts == {None: "gelu_pytorch_tanh", "exact": "gelu_python"}


def test_a_head_saved_beside_a_tied_embedding_has_to_be_equal(tmp_path):
    _, path = tiny_gemma(tmp_path)
    state = read_weights(path)
    rewrite(path, state | {"lm_head.weight": state["model.embed_tokens.weight"].clone()})
    load_original_mini_gemini(path, tmp_path)
    rewrite(path, state | {"lm_head.weight": state["model.embed_tokens.weight"] + 1})
    with pytest.raises(ConversionError, match=r"lm_head\.weight \(tied to the embedding by the config"):
        load_original_mini_gemini(path, tmp_path)


def test_dtype_is_that_of_the_language_model_or_the_one_asked_for(copy):
    rewrite(copy, {name: tensor.half() for name, tensor in read_weights(copy).items()})
    assert {p.dtype for p in load_original_mini_gemini(copy, TOWERS).parameters()} == {torch.float16}
    full = load_original_mini_gemini(copy, TOWERS, dtype=torch.float32)
    assert {p.dtype for p in full.parameters()} == {torch.float32}


def test_every_key_that_is_missing_or_has_no_place_is_named(copy):
    state = read_weights(copy)
    del state["model.vlm_uni_val_projector.1.bias"]
    state["model.vision_tower_aux.vision_stages.0.blocks.0.gamma"] = torch.zeros(9)
    state |= {"model.vision_fpn.weight": torch.zeros(1), "model.vision_tower_aux.other": torch.zeros(1)}
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(1)
    rewrite(copy, state)
    with pytest.raises(ConversionError) as raised:
        load_original_mini_gemini(copy, TOWERS)
    message = str(raised.value)
    assert "keys with no place in the model: model.vision_fpn.weight, model.vision_tower_aux.other;" in message
    assert "parameters that got no value: model.patch_mining.value.1.bias;" in message
    assert "layer_scale_parameter (9,) for (8,)" in message
    assert "inv_freq" not in message


@pytest.mark.parametrize(
    "taken, setting", [(CLIP_TOWER, "optimize_vision_tower"), (AUX_TOWER, "optimize_vision_tower_aux")]
)
def test_a_tower_that_is_nowhere_or_was_trained_is_refused(copy, tmp_path, taken, setting):
    split_off(copy, taken)
    root = tmp_path / "root"
    shutil.copytree(TOWERS / CLIP, root / CLIP)
    with pytest.raises(ConversionError, match=r"no weights in|neither the checkpoint nor"):
        load_original_mini_gemini(copy, root)
    edit_config(copy, **{setting: True})
    with pytest.raises(ConversionError, match=rf"was trained \({setting}\), and the checkpoint does not hold it"):
        load_original_mini_gemini(copy, root)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"model_type": "llava_llama"}, "model_type='llava_llama': wanted mgm, mini_gemini, mgm_gemma"),
        ({"text_config": {}}, "in the Hugging Face layout already"),
        ({"mm_projector_type": "linear"}, "mm_projector_type='linear': wanted 'mlp2x_gelu'"),
        ({"image_grid": 2}, "image_grid=2 and image_global=False: wanted 1 and false, or 2 and true"),
        ({"image_grid": 3}, "image_grid=3: wanted 1 or 2"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling=.*cannot express"),
        ({"image_size_aux": ...}, "no image_size_aux"),
    ],
)
def test_another_kind_of_checkpoint_is_refused(copy, settings, message):
    edit_config(copy, **settings)
    with pytest.raises(ConversionError, match=message):
        load_original_mini_gemini(copy, TOWERS)


def test_what_the_original_cannot_express_is_refused(tmp_path):
    model = build_mini_gemini()
    with pytest.raises(ConversionError, match=r"these are not the published ones: set config\.original_settings"):
        save_original_mini_gemini(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    model.config.scale_image_features = True
    with pytest.raises(ConversionError, match=r"scale_image_features=True.*with a llama"):
        save_original_mini_gemini(model, tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConversionError, match="is not empty"):
        save_original_mini_gemini(model, tmp_path)


@pytest.mark.parametrize("family", ["mini_gemini", "mini_gemini_hd"])
def test_what_a_recipe_puts_together_is_known_to_the_original_by_its_towers(family):
    """Nothing of a whole CLIP that lies behind its tower makes it another."""
    model = meta_model(family, language_model=VICUNA_7B, vision_tower=CLIP_L_336, aux_tower=CONVNEXT_L_320)
    for behind in (512, 768):
        model.config.vision_config.projection_dim = behind
        original = original_config(model.config, "float16", aux_tower_changed=False)
        assert original["mm_vision_tower"].endswith("/clip-vit-large-patch14-336")
    model.config.vision_config.num_hidden_layers = 12
    with pytest.raises(ConversionError, match="these are not the published ones"):
        original_config(model.config, "float16", aux_tower_changed=False)


@pytest.mark.parametrize("grid, text, drop", [(1, LlamaConfig(), 0.1), (2, GemmaConfig(), 0.0)])
def test_a_config_of_published_towers_goes_there_and_back(grid, text, drop):
    config = MiniGeminiConfig(text_config=text, image_grid=grid, aux_drop_path=drop)
    original = original_config(config, "bfloat16", aux_tower_changed=False)
    assert original["mm_vision_tower_aux"].startswith("model_zoo/OpenAI/openclip-convnext-large-d-320")
    assert original.get("drop_path", True) == (drop > 0)
    convnext = {name: CONVNEXT_LARGE[name] for name in ("hidden_sizes", "depths")}
    clip = clip_config(original["mm_vision_tower"], Path("nowhere"))
    back = mini_gemini_config(original, clip, convnext)
    for name in ("image_grid", "image_token_id", "scale_image_features", "aux_drop_path", "image_seq_length"):
        assert getattr(back, name) == getattr(config, name)
    for part in ("text_config", "vision_config", "aux_config"):
        assert getattr(back, part).to_dict() == getattr(config, part).to_dict()
    assert original_config(back, "bfloat16", aux_tower_changed=False) == original
