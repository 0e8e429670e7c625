"""The model as a transformers model: pictures in place, saved and loaded, generating, frozen towers, settings."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModel, AutoModelForImageTextToText
from worlds.same_numbers import assert_near, assert_says_the_same
from worlds.small_mini_gemini import (
    IMAGE_TOKEN,
    build_mini_gemini,
    picture_batch,
    pictures_of,
    small_config,
    without_labels,
)

from contralign.models.mini_gemini import MiniGeminiForConditionalGeneration, MiniGeminiModel
from contralign.models.mini_gemini.image_processing import small_pictures

BOTH = pytest.mark.parametrize("grid", [1, 2])


def features_of(model, pictures):
    return torch.stack(list(model.get_image_features(**pictures).pooler_output))


@BOTH
@torch.no_grad()
def test_features_are_those_of_the_parts_called_one_after_another(grid):
    """Row by row and crop by crop, with no batch: the whole first, then the crops."""
    model = build_mini_gemini(grid, dtype=torch.float64)
    parts, pictures = model.model, pictures_of(model, 2)
    features = features_of(model, pictures)
    for index in range(2):
        feature_map = parts.vision_tower_aux(pictures["pixel_values_aux"][index : index + 1])
        slots = pictures["pixel_values"][index : index + 1]
        if grid == 1:
            seen = [(slots, feature_map)]
        else:
            half = torch.nn.functional.avg_pool2d(feature_map, 2)  # bilinear by half, corners not aligned
            tiles = [feature_map[:, :, 16 * r : 16 * r + 16, 16 * c : 16 * c + 16] for r in (0, 1) for c in (0, 1)]
            seen = [(slots[:, 4], half), *((slots[:, crop], tile) for crop, tile in enumerate(tiles))]
        rows = []
        for small, large in seen:
            patches = parts.vision_tower(small, output_hidden_states=True).hidden_states[-2][:, 1:]
            rows.append(parts.multi_modal_projector(patches + parts.patch_mining(patches, large))[0])
        # The coarser stages and the halved map pass through float32.
        torch.testing.assert_close(features[index], torch.cat(rows), atol=1e-4, rtol=0)
    assert features.std() > 0.5


@BOTH
@torch.no_grad()
def test_features_stand_at_the_image_tokens_and_words_elsewhere(grid):
    model = build_mini_gemini(grid, dtype=torch.float64)
    batch = without_labels(picture_batch(model))
    features = features_of(model, {name: batch[name] for name in ("pixel_values", "pixel_values_aux")})
    places = batch["input_ids"] == IMAGE_TOKEN
    embeds = model.get_input_embeddings()(batch["input_ids"].masked_fill(places, 0))
    embeds[places] = features.flatten(0, 1)
    by_hand = model(inputs_embeds=embeds, attention_mask=batch["attention_mask"]).logits
    assert_near(model(**batch).logits, by_hand)


@BOTH
@pytest.mark.parametrize("text", ["llama", "gemma"])
@torch.no_grad()
def test_saved_and_loaded_through_auto_it_has_the_same_weights_bit_for_bit_and_gives_the_same_logits(
    tmp_path, grid, text
):
    model = build_mini_gemini(grid, text)
    batch = without_labels(picture_batch(model))
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is MiniGeminiForConditionalGeneration
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert_says_the_same(model, loaded, batch)
    assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) == (text == "gemma")
    assert type(AutoModel.from_config(model.config)) is MiniGeminiModel


@BOTH
@pytest.mark.parametrize("text", ["llama", "gemma"])
@torch.no_grad()
def test_greedy_generation_is_the_argmax_step_by_step_without_a_cache(grid, text):
    model = build_mini_gemini(grid, text, torch.float64)
    batch = without_labels(picture_batch(model, images=(1, 0, 2), padding="left"))
    made = model.generate(**batch, max_new_tokens=5, do_sample=False, eos_token_id=None)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    for _ in range(5):
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        step = model(**(batch | {"input_ids": ids, "attention_mask": mask}), position_ids=positions).logits[:, -1]
        ids = torch.cat([ids, step.argmax(dim=-1, keepdim=True)], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    assert torch.equal(made, ids)
    assert len({tuple(row) for row in made[:, -5:].tolist()}) > 1


@torch.no_grad()
def test_a_repetition_penalty_counts_words_and_no_image_token_which_has_no_row():
    model = build_mini_gemini(dtype=torch.float64)
    batch = without_labels(picture_batch(model, images=(1, 2), padding="left"))
    rows = model.lm_head.out_features
    assert rows == IMAGE_TOKEN
    made = model.generate(**batch, max_new_tokens=1, do_sample=False, repetition_penalty=30.0, eos_token_id=None)
    logits = model(**batch, logits_to_keep=1).logits[:, -1]
    for row, ids in enumerate(batch["input_ids"]):
        words = ids[(ids != IMAGE_TOKEN) & batch["attention_mask"][row].bool()].unique()
        said = logits[row, words]
        logits[row, words] = torch.where(said < 0, said * 30, said / 30)
    assert torch.equal(made[:, -1], logits.argmax(dim=-1))
    free = model.generate(**batch, max_new_tokens=12, do_sample=False, eos_token_id=None)
    kept = model.generate(**batch, max_new_tokens=12, do_sample=False, eos_token_id=None, no_repeat_ngram_size=1)
    assert kept.max() == IMAGE_TOKEN
    for row in kept[:, batch["input_ids"].shape[1] :].tolist():
        assert len(set(row)) == len(row)
        assert IMAGE_TOKEN not in row
    assert not torch.equal(free, kept)


@torch.no_grad()
def test_generation_encodes_the_pictures_once_and_takes_beams():
    model = build_mini_gemini()
    calls = []
    hook = model.model.vision_tower_aux.register_forward_hook(lambda *_: calls.append(1))
    batch = without_labels(picture_batch(model, images=(1, 2), padding="left"))
    model.generate(**batch, max_new_tokens=4, do_sample=False)
    assert len(calls) == 1
    model.generate(**batch, max_new_tokens=4, num_beams=3, do_sample=False)
    assert len(calls) == 2
    hook.remove()


@BOTH
@torch.no_grad()
def test_left_padding_changes_no_logit_of_a_token(grid):
    model = build_mini_gemini(grid)
    logits = {}
    for side in ("left", "right"):
        batch = without_labels(picture_batch(model, padding=side))
        mask = batch["attention_mask"]
        out = model(**batch, position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0))
        logits[side] = out.logits[mask.bool()]
    torch.testing.assert_close(logits["left"], logits["right"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_text_row_does_not_depend_on_the_pictures_beside_it():
    model = build_mini_gemini()
    batch = without_labels(picture_batch(model))
    alone = {name: batch[name][1:2] for name in ("input_ids", "attention_mask")}
    seen = alone["attention_mask"][0].bool()
    torch.testing.assert_close(model(**batch).logits[1, seen], model(**alone).logits[0, seen], atol=1e-4, rtol=0)


@torch.no_grad()
def test_eager_and_sdpa_attention_agree():
    logits = [build_mini_gemini(attn=name)(**picture_batch(build_mini_gemini())).logits for name in ("eager", "sdpa")]
    torch.testing.assert_close(*logits, atol=1e-3, rtol=0)


@torch.no_grad()
def test_loss_and_last_logits():
    model = build_mini_gemini(dtype=torch.float64)
    batch = picture_batch(model)
    out = model(**batch)
    wanted = cross_entropy(out.logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten())
    torch.testing.assert_close(out.loss, wanted)
    assert_near(model(**without_labels(batch), logits_to_keep=2).logits, out.logits[:, -2:])


@torch.no_grad()
def test_the_scale_of_gemma_multiplies_image_features_by_the_root_of_their_width():
    """On by default: the original's decoder scaled all it read; today's embedding scales words alone (spec 4.6)."""
    dtype = torch.float64
    on, off = (build_mini_gemini(text="gemma", dtype=dtype, scale_image_features=scale) for scale in (None, False))
    batch = without_labels(picture_batch(on))
    pictures = pictures_of(on, 2)
    assert_near(features_of(on, pictures), features_of(off, pictures) * 32**0.5)
    assert (on(**batch).logits - off(**batch).logits).abs().max() > 0.1
    llama, unscaled = (build_mini_gemini(dtype=dtype, scale_image_features=scale) for scale in (None, False))
    assert_near(features_of(llama, pictures), features_of(unscaled, pictures))


@BOTH
@torch.no_grad()
def test_a_gemma_reads_the_root_of_its_width_times_plain_rows_and_plain_features(grid):
    """What the original's decoder made of its inputs: one factor for all of them."""
    model, plain = (build_mini_gemini(grid, "gemma", scale_image_features=on) for on in (None, False))
    batch = without_labels(picture_batch(model))
    places = batch["input_ids"] == IMAGE_TOKEN
    embeds = model.get_input_embeddings().weight[batch["input_ids"].masked_fill(places, 0)].clone()
    features = features_of(plain, {name: batch[name] for name in ("pixel_values", "pixel_values_aux")})
    embeds[places] = features.flatten(0, 1)
    by_hand = model(inputs_embeds=embeds * 32**0.5, attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(model(**batch).logits, by_hand, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_both_gelus_of_gemma_run_and_differ_a_little():
    gelus, dtype = (None, "tanh", "exact"), torch.float64
    models = {gelu: build_mini_gemini(text="gemma", dtype=dtype, text_gelu=gelu) for gelu in gelus}
    batch = without_labels(picture_batch(models["tanh"]))
    logits = {gelu: model(**batch).logits for gelu, model in models.items()}
    assert_near(logits[None], logits["tanh"])
    difference = (logits["tanh"] - logits["exact"]).abs().max()
    assert 1e-5 < difference < 1
    mlp = models["exact"].model.language_model.layers[0].mlp
    x = torch.linspace(-4, 4, 99)
    torch.testing.assert_close(mlp.act_fn(x), torch.nn.functional.gelu(x), atol=1e-6, rtol=0)


def test_frozen_towers_build_no_graph_and_a_tower_that_learns_does():
    model = build_mini_gemini(2)
    pictures = pictures_of(model, 1)
    towers = {"vision_tower": model.model.vision_tower, "vision_tower_aux": model.model.vision_tower_aux}
    for name, tower in towers.items():
        for other in towers.values():
            other.requires_grad_(other is tower)
        model.zero_grad()
        features_of(model, pictures).square().sum().backward()
        grown = {key for key, each in towers.items() if any(p.grad is not None for p in each.parameters())}
        assert grown == {name}
        tower.requires_grad_(False)
        model.zero_grad()
    features_of(model, pictures).square().sum().backward()
    assert all(p.grad is None for tower in towers.values() for p in tower.parameters())
    assert all(p.grad.abs().max() > 0 for p in model.model.patch_mining.value.parameters())


@torch.no_grad()
def test_drop_path_is_on_in_training_and_can_be_turned_off():
    pictures = pictures_of(build_mini_gemini(dtype=torch.float64), 8)
    for rate, equal in ((0.9, False), (0.0, True)):
        model = build_mini_gemini(dtype=torch.float64, aux_drop_path=rate).train()
        model.model.vision_tower_aux.encoder.apply(_open_layer_scale)
        first, second = features_of(model, pictures), features_of(model, pictures)
        assert bool((first - second).norm() < 1e-7 * first.norm()) is equal
    assert small_config().aux_config.drop_path_rate == 0.1


def _open_layer_scale(module):
    if hasattr(module, "layer_scale_parameter"):
        module.layer_scale_parameter.fill_(1.0)


@BOTH
def test_activation_checkpointing_changes_no_gradient(grid):
    gradients = []
    for checkpointing in (False, True):
        model = build_mini_gemini(grid, dtype=torch.float64, aux_drop_path=0.0).train()
        for tower in (model.model.vision_tower, model.model.vision_tower_aux):
            tower.requires_grad_(False)
        if checkpointing:
            model.activation_checkpointing_enable()
            assert model.model.patch_mining.gradient_checkpointing
        model(**picture_batch(model), use_cache=False).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    plain, again = gradients
    assert plain.keys() == again.keys()
    assert any("patch_mining.key.1.weight" in name for name in plain)
    for name in plain:
        assert_near(again[name], plain[name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_runs_and_keeps_its_type(dtype):
    model = build_mini_gemini(2, "gemma", dtype)
    batch = {
        name: value.float() if value.is_floating_point() else value for name, value in picture_batch(model).items()
    }
    out = model(**batch)
    assert out.logits.dtype == dtype
    assert torch.isfinite(out.logits).all()
    assert out.image_hidden_states.dtype == dtype


def test_blocks_that_must_not_be_split_are_all_in_the_model_and_none_is_inside_another():
    """FSDP refuses a name it does not find, and a unit inside a unit costs CAL its last-layer shortcut."""
    model = build_mini_gemini()
    found = {type(module).__name__ for module in model.modules()}
    assert model._no_split_modules == {"LlamaDecoderLayer", "CLIPEncoderLayer", "CLIPVisionEmbeddings", "ConvNextStage"}
    assert model._no_split_modules <= found
    for module in model.modules():
        if type(module).__name__ in model._no_split_modules:
            assert not {type(inner).__name__ for inner in list(module.modules())[1:]} & model._no_split_modules


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pixel_values": None, "pixel_values_aux": None}, "16 image tokens and no pixel_values"),
        ({"pixel_values_aux": None}, r"pixel_values_aux None: wanted.*\(3, 64, 64\)"),
        ({"pixel_values": torch.zeros(4, 3, 56, 56)}, r"wanted, of each picture, \(3, 28, 28\)"),
        ({"pixel_values_aux": torch.zeros(3, 3, 64, 64)}, "use the model's own processor"),
        (
            {"pixel_values": torch.zeros(3, 3, 28, 28), "pixel_values_aux": torch.zeros(3, 3, 64, 64)},
            r"16 image tokens \(a row: \[4, 0, 8, 4\]\) but 12 image features, 4 a picture",
        ),
        ({"input_ids": None}, "wanted either input_ids or inputs_embeds"),
        ({"inputs_embeds": torch.zeros(4, 9, 32)}, "wanted either input_ids or inputs_embeds"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(4, 9, 32)}, "give the pictures once"),
        ({"mm_encoder_outputs": {"image": object()}}, "give the pictures once"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    model = build_mini_gemini()
    with pytest.raises(ValueError, match=message):
        model(**(without_labels(picture_batch(model)) | change))


def test_small_pictures_of_the_processor_fit_the_model():
    model = build_mini_gemini(2)
    large = pictures_of(model, 3)["pixel_values_aux"]
    assert features_of(model, {"pixel_values": small_pictures(large, 28, 2), "pixel_values_aux": large}).shape == (
        3,
        20,
        32,
    )
