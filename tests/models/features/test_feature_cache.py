"""A frozen tower's features, kept by picture: the same bits each time, fewer forwards, nothing stale."""

import copy

import pytest
import torch
import transformers as hf
from worlds.same_numbers import assert_near
from worlds.small_models import build_llava, mixed_batch, text_settings
from worlds.small_smol import small_smol, told

from contralign.models.adapters.adapter import UnsupportedModel
from contralign.models.adapters.registry import adapter_for
from contralign.models.features.feature_cache import FeatureCache
from contralign.models.features.feature_store import FeatureStore

FAMILIES = ["llava", "llava_last", "llava_two_layers", "internvl", "internvl_norm"]


def frozen(family, dtype=torch.float64):
    """A model with its tower frozen, and a batch of three pictures."""
    if family.startswith("internvl"):
        model, processor = small_smol()
        if family == "internvl_norm":
            model.model.vision_tower.layernorm = torch.nn.LayerNorm(32)
        batch = told(processor)
    else:
        model, batch = build_llava(), mixed_batch(images=(1, 0, 2))
        layer = {"llava": -2, "llava_last": -1, "llava_two_layers": [0, -2]}[family]
        model.config.vision_feature_layer = layer
        if family == "llava_two_layers":
            model.model.multi_modal_projector.linear_1 = torch.nn.Linear(64, 32)
    model.model.vision_tower.requires_grad_(False)
    batch["pixel_values"] = batch["pixel_values"].to(dtype)
    return model.eval().to(dtype), batch


def calls_of(cache, monkeypatch):
    """Number of pictures that the tower itself was given, as a growing list."""
    seen, own = [], cache._encode

    def encode(tower, pixels, **settings):
        seen.append(len(pixels))
        return own(tower, pixels, **settings)

    monkeypatch.setattr(cache, "_encode", encode)
    return seen


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_kept_features_give_the_same_numbers_and_the_tower_runs_once_a_picture(family, dtype, monkeypatch):
    model, batch = frozen(family, dtype)
    plain = model(**batch)
    plain.loss.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    cache = FeatureCache(model, FeatureStore())
    seen = calls_of(cache, monkeypatch)
    for _ in range(2):
        model.zero_grad()
        cached = model(**batch)
        cached.loss.backward()
        assert_near(cached.logits, plain.logits)
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert set(found) == set(wanted)
        assert any("multi_modal_projector" in name for name in found)
        for name in wanted:
            assert_near(found[name], wanted[name])
    assert seen == [1, 1, 1]
    assert cache.store.counts.in_memory == 3


@pytest.mark.parametrize("family", ["llava", "internvl"])
def test_the_same_picture_in_another_batch_and_place_is_a_hit(family, monkeypatch):
    model, batch = frozen(family)
    cache = FeatureCache(model, FeatureStore())
    pixels = batch["pixel_values"]
    with torch.no_grad():
        kept = cache.features(pixels)
        first = torch.cat(list(model.get_image_features(pixels).pooler_output)).view(3, -1)
        seen = calls_of(cache, monkeypatch)
        again = torch.cat(list(model.get_image_features(pixels[[2, 0]]).pooler_output)).view(2, -1)
        assert seen == []
        assert all(torch.equal(*each) for each in zip(cache.features(pixels[[2, 0]]), (kept[2], kept[0]), strict=True))
        model.get_image_features(pixels[:1] + 1e-3)
    assert_near(again, first[[2, 0]])
    assert seen == [1]


def test_two_models_with_one_tower_share_features_and_another_tower_does_not(monkeypatch):
    store = FeatureStore()
    model, batch = frozen("internvl")
    other, third = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        other.model.multi_modal_projector.linear_1.weight.mul_(2)
        third.model.vision_tower.embeddings.cls_token.add_(0.1)
        FeatureCache(model, store)
        model(**batch)
        for learner, encoded in ((other, []), (third, [1, 1, 1])):
            seen = calls_of(FeatureCache(learner, store), monkeypatch)
            learner(**batch)
            assert seen == encoded


def test_a_store_on_disk_serves_another_process(tmp_path, monkeypatch):
    model, batch = frozen("llava")
    again = copy.deepcopy(model)
    FeatureCache(model, FeatureStore(folder=tmp_path))
    with torch.no_grad():
        wanted = model(**batch).logits
        seen = calls_of(FeatureCache(again, FeatureStore(folder=tmp_path)), monkeypatch)
        assert_near(again(**batch).logits, wanted)
    assert seen == []


def test_weights_that_change_after_all_are_noticed():
    model, batch = frozen("internvl")
    FeatureCache(model, FeatureStore())
    with torch.no_grad():
        before = model(**batch).logits
        model.model.vision_tower.embeddings.cls_token.mul_(-2.0)  # a norm takes a shift away
        changed = model(**batch).logits
        fresh = frozen("internvl")[0]
        fresh.model.vision_tower.embeddings.cls_token.mul_(-2.0)
        assert_near(changed, fresh(**batch).logits)
    assert (changed - before).abs().max() > 0.1


def test_autocast_keeps_features_of_its_own():
    model, batch = frozen("internvl", torch.float32)  # autocast leaves float64 alone
    plain, _ = frozen("internvl", torch.float32)
    FeatureCache(model, FeatureStore())
    with torch.no_grad():
        for enabled in (True, False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                room = None if enabled else 1e-5  # a float32 sum in another order: 1e-6 here
                assert_near(model(**batch).logits, plain(**batch).logits, room)


def test_features_first_met_in_inference_mode_can_be_trained_on():
    model, batch = frozen("internvl")
    FeatureCache(model, FeatureStore())
    with torch.inference_mode():
        model(**{name: value.clone() for name, value in batch.items()})
    model(**batch).loss.backward()
    assert model.model.multi_modal_projector.linear_1.weight.grad.abs().max() > 0


def test_the_adapter_and_generation_go_through_it(monkeypatch):
    model, batch = frozen("internvl")
    with torch.no_grad():
        wanted = adapter_for(model).prepare(batch).inputs_embeds
        cache = FeatureCache(model, FeatureStore())
        seen = calls_of(cache, monkeypatch)
        assert_near(adapter_for(model).prepare(batch).inputs_embeds, wanted)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert seen == [1, 1, 1]


def test_what_is_saved_does_not_change(tmp_path):
    model, _ = frozen("internvl")
    names = set(model.state_dict())
    model.save_pretrained(tmp_path / "plain")
    FeatureCache(model, FeatureStore())
    assert set(model.state_dict()) == names
    model.save_pretrained(tmp_path / "cached")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "cached" / name).read_bytes()


def test_a_deep_copy_runs_its_own_tower(monkeypatch):
    model, batch = frozen("internvl")
    cache = FeatureCache(model, FeatureStore())
    other = copy.deepcopy(model)
    seen = calls_of(cache, monkeypatch)
    with torch.no_grad():
        other.model.vision_tower.embeddings.cls_token.mul_(-2.0)
        assert (other(**batch).logits - model(**batch).logits).abs().max() > 0.1
    assert seen == [1, 1, 1]


def test_a_tower_that_learns_is_refused():
    model, batch = frozen("internvl")
    FeatureCache(model, FeatureStore())
    model.model.vision_tower.requires_grad_(True)
    with pytest.raises(UnsupportedModel, match="the vision tower learns, so its features change"):
        model(**batch)
    with torch.no_grad():
        model(**batch)


def test_a_tower_with_dropout_is_refused_in_training_alone():
    model, batch = frozen("internvl")
    model.model.vision_tower.config.hidden_dropout_prob = 0.1
    FeatureCache(model, FeatureStore())
    model(**batch)
    with pytest.raises(UnsupportedModel, match=r"has dropout \(hidden_dropout_prob\)"):
        model.train()(**batch)


def test_another_layer_than_the_kept_one_is_refused():
    model, batch = frozen("llava")
    FeatureCache(model, FeatureStore())
    with (
        pytest.raises(ValueError, match=r"vision_feature_layer=0: the feature cache keeps \[-2\] alone"),
        torch.no_grad(),
    ):
        model.get_image_features(batch["pixel_values"], vision_feature_layer=0)


def test_what_a_tower_is_given_beside_pictures_is_refused():
    model, batch = frozen("llava")
    FeatureCache(model, FeatureStore())
    with pytest.raises(UnsupportedModel, match="the tower was also given interpolate_pos_encoding"):
        model.get_image_features(batch["pixel_values"], interpolate_pos_encoding=True)
    with pytest.raises(UnsupportedModel, match=r"wanted pixel_values .* got \(1, 3, 3, 28, 28\)"):
        model.model.vision_tower(batch["pixel_values"].unsqueeze(0))


@pytest.mark.parametrize("family", ["llava", "internvl"])
def test_what_the_trainer_writes_into_the_configuration_is_no_hindrance(family):
    model, batch = frozen(family)
    model.config.use_cache = False  # transformers hands it on to the tower
    wanted = model(**batch).logits
    FeatureCache(model, FeatureStore())
    assert_near(model(**batch).logits, wanted)


def test_a_tower_is_wrapped_once():
    model, _ = frozen("llava")
    FeatureCache(model, FeatureStore())
    with pytest.raises(UnsupportedModel, match="replaced already"):
        FeatureCache(model, FeatureStore())


def test_a_model_without_such_a_tower_is_refused():
    vision = {"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 32}
    text = text_settings(rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2]})
    model = hf.Qwen2VLForConditionalGeneration(hf.Qwen2VLConfig(text_config=text, vision_config=vision))
    with pytest.raises(
        UnsupportedModel, match="has no vision_tower to keep features of; it has visual, language_model"
    ):
        FeatureCache(model, FeatureStore())
