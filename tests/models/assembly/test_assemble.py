"""Models put together from parts: every weight from a file or new on purpose; small shapes; outlines."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from worlds.same_numbers import assert_says_the_same
from worlds.small_parts import as_shards_of_bin, write_clip, write_convnext, write_gemma, write_llama

from contralign.models.assembly.assemble import assemble, assemble_tiny, meta_model
from contralign.models.assembly.published_parts import GEMMA_2B, VICUNA_7B, VICUNA_13B
from contralign.models.convert.checkpoint import ConversionError
from contralign.models.published_towers import CLIP_L_336, CONVNEXT_L_320

FAMILIES = ["llava", "llava_next", "mini_gemini", "mini_gemini_hd"]
TOKENS = {"llava": 16, "mini_gemini": 16, "mini_gemini_hd": 80}
"""Of one picture of 56 pixels in patches of 14."""
TEXTS = ["a cat sat on a mat", "what is on the mat?"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Directories of the parts, and the models they hold."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(3)
    models = {
        "llama": write_llama(folder / "llama"),
        "gemma": write_gemma(folder / "gemma"),
        "clip": write_clip(folder / "clip"),
        "convnext": write_convnext(folder / "convnext"),
    }
    return folder, models


def made(parts, family="llava", language_model="llama", **changes):
    folder, _ = parts
    names = {"language_model": str(folder / language_model), "vision_tower": str(folder / "clip")}
    if family.startswith("mini_gemini"):
        names["aux_tower"] = str(folder / "convnext")
    return assemble(family, **{**names, **changes})


def known(family, language_model=VICUNA_7B):
    aux = CONVNEXT_L_320 if family.startswith("mini_gemini") else None
    return {"language_model": language_model, "vision_tower": CLIP_L_336, "aux_tower": aux}


def asked(processor):
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is on the mat?"}]}]
    return processor(
        text=processor.apply_chat_template(chat, add_generation_prompt=True),
        images=Image.new("RGB", (80, 60), (200, 40, 40)),
        return_tensors="pt",
    )


@pytest.mark.parametrize("language_model", ["llama", "gemma"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_keeps_its_weights(parts, family, language_model):
    model, processor = made(parts, family, language_model)
    text_model = parts[1][language_model]
    ids = processor.tokenizer("the cat", return_tensors="pt")["input_ids"]
    rows = text_model.config.vocab_size
    torch.testing.assert_close(model(input_ids=ids).logits[..., :rows], text_model.eval()(input_ids=ids).logits)
    tower = parts[1]["clip"].vision_model.state_dict()
    assert all(torch.equal(tensor, tower[name]) for name, tensor in model.model.vision_tower.state_dict().items())
    if family.startswith("mini_gemini"):
        convnext = parts[1]["convnext"].state_dict()
        found = model.model.vision_tower_aux.state_dict()
        assert found.keys() == convnext.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in convnext.items())


@pytest.mark.parametrize("language_model", ["llama", "gemma"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_looks_speaks_and_is_the_same_when_loaded_again(parts, family, language_model, tmp_path):
    model, processor = made(parts, family, language_model)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, reader = AutoModelForImageTextToText.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    batch, again = asked(processor), asked(reader)
    assert batch.keys() == again.keys()
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    count = int((batch["input_ids"] == model.config.image_token_id).sum())
    assert count == TOKENS.get(family, count)
    assert count > 16 or family in ("llava", "mini_gemini")
    with torch.inference_mode():
        assert_says_the_same(model, loaded, batch, again)
        assert loaded.generate(**again, max_new_tokens=2, do_sample=False).shape[1] > batch["input_ids"].shape[1]


def test_a_llava_gets_rows_for_its_image_token_and_they_are_the_mean(parts):
    model, processor = made(parts)
    old = parts[1]["llama"].get_input_embeddings().weight
    new = model.get_input_embeddings().weight
    assert len(new) % 64 == 0
    assert model.config.image_token_id == processor.image_token_id == len(old)
    assert torch.allclose(new[len(old) :], old.mean(dim=0).expand(len(new) - len(old), -1))


def test_a_mini_gemini_keeps_the_rows_of_its_language_model(parts):
    model, processor = made(parts, "mini_gemini")
    assert len(model.get_input_embeddings().weight) == processor.image_token_id == model.config.image_token_id


def test_gemmas_head_and_embeddings_stay_one(parts):
    for family in ("llava", "mini_gemini"):
        model, _ = made(parts, family, "gemma")
        assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def test_pickled_shards_give_the_same_model(parts, tmp_path):
    folder, _ = parts
    as_shards_of_bin(folder / "llama", tmp_path / "llama")
    state, again = (
        made(parts, **changes)[0].state_dict() for changes in ({}, {"language_model": str(tmp_path / "llama")})
    )
    assert all(torch.equal(state[name], again[name]) for name in state)


@pytest.mark.parametrize("part", ["llama", "clip"])
def test_a_weight_that_a_part_lacks_is_named_and_not_made_up(parts, part, tmp_path):
    folder, _ = parts
    as_shards_of_bin(folder / part, tmp_path / part)
    for file in tmp_path.glob("*/pytorch_model*"):
        file.unlink()
    state = load_file(folder / part / "model.safetensors")
    lost = next(name for name in state if name.endswith("layers.1.self_attn.k_proj.weight") and "text" not in name)
    save_file({name: tensor for name, tensor in state.items() if name != lost}, tmp_path / part / "model.safetensors")
    place = "language_model" if part == "llama" else "vision_tower"
    with pytest.raises(ConversionError, match=r"got no value: .*layers.1.self_attn.k_proj.weight"):
        made(parts, **{place: str(tmp_path / part)})


def test_new_parts_start_as_torch_starts_a_linear_layer(parts):
    model, _ = made(parts, "mini_gemini")
    projector, query = model.model.multi_modal_projector, model.model.patch_mining.query
    for layer in (projector.linear_1, projector.linear_2, query[1]):
        bound = layer.in_features**-0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert 0 < layer.bias.abs().max() <= bound
    assert torch.equal(query[0].weight, torch.ones(32))


def test_the_newline_starts_at_one_over_the_root_of_the_width():
    model, _ = assemble_tiny("llava_next", TEXTS, **known("llava_next"))
    assert model.model.image_newline.std().item() == pytest.approx(64**-0.5, rel=0.3)


def test_the_seed_makes_the_new_parts_and_leaves_the_global_state_alone(parts):
    before = torch.get_rng_state()
    first, same, other = (made(parts, seed=seed)[0].model.multi_modal_projector.linear_1.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_projector_that_was_trained_before_is_taken_over(parts, family, tmp_path):
    trained, _ = made(parts, family, seed=5)
    trained.save_pretrained(tmp_path)
    state = made(parts, family, projector=str(tmp_path))[0].state_dict()
    names = [name for name in state if "projector" in name or "mining" in name or "newline" in name]
    assert len(names) >= 4
    assert all(torch.equal(state[name], trained.state_dict()[name]) for name in names)


def test_an_original_projector_file_is_taken_over(parts, tmp_path):
    trained, _ = made(parts, "mini_gemini", seed=5)
    originals = {
        "multi_modal_projector.linear_1": "model.mm_projector.0",
        "multi_modal_projector.linear_2": "model.mm_projector.2",
        "patch_mining.query": "model.vlm_uni_query_projector",
        "patch_mining.key": "model.vlm_uni_aux_projector",
        "patch_mining.value": "model.vlm_uni_val_projector",
    }
    state = {
        original + name.partition(place)[2]: tensor
        for name, tensor in trained.state_dict().items()
        for place, original in originals.items()
        if place in name
    }
    assert len(state) == 16
    file = tmp_path / "mm_projector.bin"
    torch.save({**state, "model.vision_tower.vision_tower.vision_model.x": torch.zeros(1)}, file)
    for source in (file, tmp_path):
        model, _ = made(parts, "mini_gemini", projector=str(source))
        found = model.state_dict()
        before = {name: tensor for name, tensor in trained.state_dict().items() if "vision" not in name}
        assert all(torch.equal(found[name], tensor) for name, tensor in before.items())


def test_an_hd_model_starts_from_the_projector_of_one_that_is_not(parts, tmp_path):
    trained, _ = made(parts, "mini_gemini", seed=5)
    trained.save_pretrained(tmp_path)
    model, _ = made(parts, "mini_gemini_hd", projector=str(tmp_path))
    assert torch.equal(model.model.patch_mining.key[1].weight, trained.model.patch_mining.key[1].weight)


def test_a_projector_of_another_family_is_refused(parts, tmp_path):
    made(parts, "llava")[0].save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks model.patch_mining.*another family"):
        made(parts, "mini_gemini", projector=str(tmp_path))


def test_a_projector_of_another_width_is_refused(parts, tmp_path):
    model, _ = assemble_tiny("llava", TEXTS, **known("llava"))
    model.save_pretrained(tmp_path)
    with pytest.raises(ConversionError, match=r"shapes that do not fit: model.multi_modal_projector"):
        made(parts, projector=str(tmp_path))


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_place_without_a_projector_is_refused(parts, name, tmp_path):
    with pytest.raises(ValueError, match="no projector in it"):
        made(parts, projector=str(tmp_path / name))


def test_sampling_settings_of_the_language_model_are_not_taken_over(parts):
    model, processor = made(parts)
    assert model.generation_config.temperature is None or not model.generation_config.do_sample
    assert model.generation_config.eos_token_id == processor.tokenizer.eos_token_id


def test_padding_is_on_the_right_with_a_pad_token(parts):
    _, processor = made(parts)
    assert processor.tokenizer.padding_side == "right"
    assert processor.tokenizer.pad_token_id == 0


def test_weights_are_kept_in_the_precision_that_is_asked_for(parts):
    model, _ = made(parts, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("language_model", [VICUNA_13B, GEMMA_2B])
def test_a_tiny_shape_has_the_architecture_of_the_true_model(family, language_model):
    true = meta_model(family, **known(family, language_model))
    small, processor = assemble_tiny(family, TEXTS, **known(family, language_model))
    assert type(small) is type(true)
    numbers = str.maketrans("", "", "0123456789")
    kinds = {name.translate(numbers) for name, _ in true.named_parameters()}
    assert {name.translate(numbers) for name, _ in small.named_parameters()} == kinds
    for part in ("text_config", "vision_config"):
        for switch in ("model_type", "hidden_act", "tie_word_embeddings", "rms_norm_eps", "max_position_embeddings"):
            mine, theirs = (getattr(getattr(model.config, part), switch, None) for model in (small, true))
            assert mine == theirs
    assert small.config.vision_feature_layer == true.config.vision_feature_layer == -2
    assert sum(parameter.numel() for parameter in small.parameters()) < 1_000_000
    with torch.inference_mode():
        assert small.generate(**asked(processor), max_new_tokens=2).shape[0] == 1


def test_a_tiny_shape_is_made_again_by_its_seed():
    first, same, other = (
        assemble_tiny("llava", TEXTS, **known("llava"), seed=seed)[0].state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_outline_has_shapes_and_no_weights(family):
    model = meta_model(family, **known(family, VICUNA_13B))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.config.text_config.hidden_size == 5120


def test_the_true_pictures_have_the_papers_sizes():
    """576 tokens, high-resolution pictures of 768 and 1536 pixels, anyres tiles of 336 in transformers' order."""
    assert meta_model("llava", **known("llava")).config.image_seq_length == 576
    plain, fine = (meta_model(family, **known(family)).config for family in ("mini_gemini", "mini_gemini_hd"))
    assert (plain.aux_config.image_size, plain.image_seq_length) == (768, 576)
    assert (fine.aux_config.image_size, fine.image_seq_length) == (1536, 2880)
    _, processor = assemble_tiny("llava_next", TEXTS, **known("llava_next"))
    pinpoints = processor.image_processor.image_grid_pinpoints
    assert pinpoints == [[112, 56], [56, 112], [112, 112], [56, 168], [168, 56]]


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("llava", {"aux_tower": CONVNEXT_L_320}, "llava has one tower"),
        ("mini_gemini", {"aux_tower": None}, "two towers: give aux_tower"),
        ("blip", {}, "family='blip': wanted one of llava, llava_next"),
        ("llava", {"language_model": CLIP_L_336}, "of type 'clip_vision_model': wanted llama or gemma"),
        ("llava", {"vision_tower": VICUNA_7B}, "of type 'llama': wanted a CLIP vision tower"),
        ("mini_gemini", {"aux_tower": CLIP_L_336}, "wanted a ConvNeXt"),
        ("llava", {"language_model": "no/such"}, "none of the names whose shapes are known"),
    ],
)
def test_parts_that_do_not_fit_are_refused(family, changes, message):
    with pytest.raises(ValueError, match=message):
        meta_model(family, **{**known(family), **changes})


def test_weights_that_cannot_be_fetched_are_named():
    with pytest.raises(ValueError, match=r"'lmsys/vicuna-7b-v1.5' is no directory and cannot be fetched"):
        assemble("llava", **known("llava"))


def test_a_tokenizer_with_more_words_than_rows_is_refused(parts):
    folder, _ = parts
    with pytest.raises(ValueError, match=r"words that the language model's .* rows do not hold"):
        made(parts, "mini_gemini", tokenizer=str(folder / "gemma"))


def test_a_tokenizer_from_elsewhere_is_taken(parts):
    folder, _ = parts
    _, processor = made(parts, language_model="gemma", tokenizer=str(folder / "llama"))
    assert processor.tokenizer.bos_token == "<s>"
