"""CAL on Mini-Gemini: drop equals mask, every contrast runs, features are made once, mining and projector learn."""

import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText
from worlds.same_numbers import assert_near, assert_says_the_same, in_float64, twin
from worlds.small_mini_gemini import IMAGE_TOKEN, build_mini_gemini, picture_batch, small_config, without_labels

from contralign import CalConfig, ContrastiveAlignment
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.core.passes import compare_passes
from contralign.models.adapters import mini_gemini as mini_gemini_adapter
from contralign.models.adapters.adapter import UnsupportedModel
from contralign.models.adapters.mini_gemini import MiniGeminiAdapter
from contralign.models.adapters.registry import adapter_for
from contralign.models.mini_gemini import MiniGeminiImageProcessor

BOTH = pytest.mark.parametrize("grid", [1, 2])
TEXTS = pytest.mark.parametrize("text", ["llama", "gemma"])
PICTURES = (1, 0, 2, 1)


def frozen_towers(model):
    for tower in (model.model.vision_tower, model.model.vision_tower_aux):
        tower.requires_grad_(False)
    return model.train()


@BOTH
@TEXTS
@pytest.mark.parametrize("padding", ["right", "left"])
def test_the_pass_with_the_picture_is_the_models_own_forward(grid, text, padding):
    model = build_mini_gemini(grid, text, torch.float64)
    adapter = adapter_for(model)
    inputs = picture_batch(model, padding=padding)
    assert type(adapter) is MiniGeminiAdapter
    batch = adapter.prepare(inputs)
    ours = adapter.logits(adapter.hidden(batch).flatten(0, 1)).view(*inputs["input_ids"].shape, -1)
    assert_near(ours, model(**without_labels(inputs)).logits)


@BOTH
@TEXTS
@pytest.mark.parametrize("padding", ["right", "left"])
def test_dropping_image_tokens_equals_masking_them(grid, text, padding):
    model = build_mini_gemini(grid, text)
    adapter = adapter_for(model)
    batch = adapter.prepare(picture_batch(model, images=(1, 0, 2, 1, 2), padding=padding))
    dropped = compare_passes(adapter, DropImage(), batch, ("logit", "logprob"))
    masked = compare_passes(adapter, MaskImage(), batch, ("logit", "logprob"))
    for score in ("logit", "logprob"):
        seen = dropped.delta[score][dropped.valid & dropped.has_image.unsqueeze(1)]
        assert seen.std() > 0.5
        assert (dropped.delta[score] - masked.delta[score])[dropped.valid].abs().max() <= 1e-4


@BOTH
def test_delta_equals_a_forward_written_by_hand_row_by_row(grid):
    model = build_mini_gemini(grid, dtype=torch.float64)
    inputs = picture_batch(model, images=(1, 1))
    looks = compare_passes(adapter_for(model), DropImage(), adapter_for(model).prepare(inputs))
    full = model(**without_labels(inputs)).logits
    checked = 0
    for row in range(2):
        ids, labels = inputs["input_ids"][row], inputs["labels"][row]
        kept = [t for t in range(len(ids)) if ids[t] != IMAGE_TOKEN and inputs["attention_mask"][row, t]]
        without = model(input_ids=ids[kept][None], position_ids=torch.tensor(kept)[None]).logits[0]
        for place, t in enumerate(kept):
            if labels[t] != -100:
                wanted = full[row, t - 1, labels[t]] - without[place - 1, labels[t]]
                torch.testing.assert_close(looks.delta["logit"][row, t - 1], wanted, rtol=0, atol=1e-9)
                checked += 1
    assert checked > 6


@BOTH
@TEXTS
def test_a_cal_step_trains_projector_and_mining_and_no_tower(grid, text):
    model = frozen_towers(build_mini_gemini(grid, text))
    out = ContrastiveAlignment(model, CalConfig())(picture_batch(model))
    out.loss.backward()
    assert out.weights[out.valid].std() > 0.1
    for part in (model.model.multi_modal_projector, model.model.patch_mining):
        for name, parameter in part.named_parameters():
            if name != "key.1.bias":  # moves all scores of a patch alike, and the softmax does not see it
                assert parameter.grad.abs().max() > 0, name
    assert all(p.grad is None for t in (model.model.vision_tower, model.model.vision_tower_aux) for p in t.parameters())


@BOTH
@TEXTS
def test_both_stages_train_with_cal_and_what_is_saved_gives_the_same_logits_and_words(grid, text, tmp_path):
    model = frozen_towers(build_mini_gemini(grid, text, aux_drop_path=0.0))
    up = model.model.language_model.layers[0].mlp.up_proj.weight
    for stage in ("projector", "all"):
        model.train()
        model.model.language_model.requires_grad_(stage == "all")
        model.lm_head.requires_grad_(stage == "all")
        before = up.detach().clone()
        losses = trained(model, picture_batch(model), steps=6)
        assert losses[-1] < losses[0] - 0.1
        assert torch.equal(before, up) == (stage == "projector")
        model.save_pretrained(tmp_path)
        assert same_words(model, tmp_path)


def trained(model, inputs, steps):
    cal = ContrastiveAlignment(model, CalConfig())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(steps):
        out = cal(inputs)
        losses.append(out.loss.item())
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


@torch.no_grad()
def same_words(model, directory):
    """Logits and greedy words, with several pictures and with none in a row, are those of what was saved."""
    other = AutoModelForImageTextToText.from_pretrained(directory).eval()
    batch = without_labels(picture_batch(model.eval(), padding="left"))
    assert_says_the_same(model, other, batch)
    words = [twin(each).generate(**in_float64(batch), max_new_tokens=3, do_sample=False) for each in (model, other)]
    return torch.equal(*words)


@BOTH
@pytest.mark.parametrize("contrast", ["drop", "mask", "mean", "shuffle", "patches", "blur"])
def test_every_contrast_takes_a_step(grid, contrast):
    model = frozen_towers(build_mini_gemini(grid))
    inputs = picture_batch(model)
    processor = MiniGeminiImageProcessor.for_config(model.config)
    pictures = [Image.effect_noise((40, 30), 90 + seed).convert("RGB") for seed in range(sum(PICTURES))]
    inputs |= processor(images=pictures, return_tensors="pt")
    kept = iter(pictures)
    inputs["pictures"] = tuple(tuple(next(kept) for _ in range(count)) for count in PICTURES)

    def encode(degraded):
        return dict(processor(images=list(degraded), return_tensors="pt"))

    cal = ContrastiveAlignment(model, CalConfig(contrast=contrast), encode_pictures=encode)
    out = cal(inputs)
    out.loss.backward()
    assert torch.isfinite(out.loss)
    pictured = out.valid & out.has_image.unsqueeze(1)
    assert out.delta[pictured].abs().max() > 0.01
    assert not out.delta[out.valid & ~out.has_image.unsqueeze(1)].any()


@BOTH
@pytest.mark.parametrize("contrast", ["drop", "mask", "mean", "shuffle"])
def test_both_towers_and_mining_run_once_in_a_cal_step(grid, contrast):
    model = frozen_towers(build_mini_gemini(grid))
    parts = {name: getattr(model.model, name) for name in ("vision_tower", "vision_tower_aux", "patch_mining")}
    calls = dict.fromkeys(parts, 0)

    def count(name):
        def hook(*_):
            calls[name] += 1

        return hook

    for name, part in parts.items():
        part.register_forward_hook(count(name))
    cal = ContrastiveAlignment(model, CalConfig(contrast=contrast, check_views=False))
    cal(picture_batch(model)).loss.backward()
    assert set(calls.values()) == {1}


@BOTH
def test_a_text_batch_needs_no_picture_and_on_many_ranks_runs_the_towers_for_nothing(grid, monkeypatch):
    model = frozen_towers(build_mini_gemini(grid))
    inputs = picture_batch(model, images=(0, 0))
    alone = ContrastiveAlignment(model, CalConfig())(inputs)
    assert not alone.delta.any()
    alone.loss.backward()
    assert model.model.patch_mining.query[1].weight.grad is None
    monkeypatch.setattr("contralign.models.adapters.llava.runs_on_many_ranks", lambda: True)
    embeds, _ = adapter_for(model).embed(inputs["input_ids"], inputs["attention_mask"], None, {})
    embeds.sum().backward()
    assert torch.equal(embeds, model.get_input_embeddings()(inputs["input_ids"]))
    assert not model.model.patch_mining.query[1].weight.grad.any()
    assert not model.model.multi_modal_projector.linear_2.weight.grad.any()


def test_pictures_that_do_not_fit_their_tokens_are_refused(monkeypatch):
    model = build_mini_gemini()
    inputs = picture_batch(model)
    fewer = {name: inputs[name][:3] for name in ("pixel_values", "pixel_values_aux")}
    with pytest.raises(ValueError, match=r"16 image tokens in the batch .* but 12 image features from 3 pictures"):
        adapter_for(model).prepare(inputs | fewer)
    with pytest.raises(ValueError, match="pixel_values_aux None: wanted"):
        adapter_for(model).prepare({name: value for name, value in inputs.items() if name != "pixel_values_aux"})
    monkeypatch.setattr(mini_gemini_adapter.MiniGeminiAdapter, "contrasts", frozenset({"drop"}))
    with pytest.raises(UnsupportedModel, match="'mask' is not right for MiniGemini"):
        adapter_for(model).check_contrast("mask", 9)


def test_the_adapter_brings_the_model_to_the_auto_classes():
    assert AutoConfig.for_model("mini_gemini").model_type == small_config().model_type == "mini_gemini"
    assert mini_gemini_adapter.MiniGeminiAdapter.proven
