"""The LLaVA-NeXT adapter, from samples to the step: pictures of several shapes, one, two or none in a row."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from worlds.same_numbers import assert_near, assert_says_the_same, in_float64, twin
from worlds.small_llava_next import TILE, build_llava_next, in_dtype, picture, plain_processor, samples

from contralign import CalConfig, ContrastiveAlignment
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.core.passes import compare_passes
from contralign.core.reference import reference_delta, reference_loss, reference_weights
from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import Sample, Turn
from contralign.models.adapters import llava
from contralign.models.adapters.llava_next import LlavaNextAdapter
from contralign.models.adapters.registry import adapter_for
from contralign.models.anyres.tiling import num_tokens, use_original_tiling
from contralign.run.learning.trainable_parts import freeze_unread_layers, parameter_groups, part_of, train_only

TEXT_ALONE = [Sample("text", (Turn("user", "what is this?"), Turn("assistant", "nothing but stripes")))] * 2


def collated(processor, rows=None, dtype=torch.float32, **settings):
    return in_dtype(VLCollator(processor, **settings)(rows or samples()), dtype)


def own_logits(model, batch):
    return model(**{name: value for name, value in batch.items() if name not in ("labels", "pictures")}).logits


def slow_step(model, processor, rows, config):
    """Loss, Δ and weights of the equations; the model's own forward, a row at a time."""
    image, full, without, labels, seen = processor.image_token_id, [], [], [], []
    for sample in rows:
        row = in_dtype(VLCollator(processor)([sample]), model.dtype)
        ids, text = row["input_ids"], (row["input_ids"] != image)[0]
        logits = own_logits(model, row)[0]
        places, ones = torch.arange(ids.shape[1]).unsqueeze(0), torch.ones_like(ids)
        with torch.no_grad():
            blind = model(input_ids=ids[:, text], position_ids=places[:, text], attention_mask=ones[:, text]).logits[0]
        full.append(logits)
        without.append(blind[text.cumsum(0) - 1])
        labels.append(row["labels"][0])
        seen.append(not bool(text.all()))
    width = max(map(len, labels))
    full, without = (
        torch.stack([torch.cat([each, each.new_zeros(width - len(each), each.shape[1])]) for each in given])
        for given in (full, without)
    )
    labels = torch.stack([torch.cat([each, torch.full((width - len(each),), -100)]) for each in labels])[:, 1:]
    valid, picked = (labels != -100).tolist(), labels.clamp_min(0)
    delta = reference_delta(full[:, :-1], without[:, :-1], picked, config.score)
    clamped = [values if has else [1.0] * len(values) for values, has in zip(delta, seen, strict=True)]
    weights = reference_weights(clamped, valid, config.alpha, config.beta, config.window, config.form)
    nll = -full[:, :-1].log_softmax(-1).gather(-1, picked.unsqueeze(-1)).squeeze(-1)
    return reference_loss(nll, weights, valid, config.form), torch.tensor(delta), torch.tensor(weights)


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# What both passes read


@pytest.mark.parametrize("padding", ["right", "left"])
def test_the_pass_with_the_pictures_is_the_models_own_forward(padding):
    model, processor = build_llava_next(torch.float64)
    batch = collated(processor, dtype=torch.float64, padding_side=padding)
    adapter = adapter_for(model)
    assert isinstance(adapter, LlavaNextAdapter)
    prepared = adapter.prepare(batch)
    ours = adapter.logits(adapter.hidden(prepared).flatten(0, 1)).view(*batch["input_ids"].shape, -1)
    assert_near(ours, own_logits(model, batch))


def test_every_picture_takes_the_tokens_of_the_rule_and_tiles_are_padded_to_the_most():
    model, processor = build_llava_next()
    batch = collated(processor)
    sizes = [shown.size for sample in samples() for shown in sample.pictures]
    counts = [num_tokens(size, TILE) for size in sizes]
    assert counts == [14, 24, 22, 4], "a strip is left with tile 0 alone"
    image = batch["input_ids"] == processor.image_token_id
    assert image.sum(dim=1).tolist() == [14, 0, 24 + 22, 4]
    assert batch["pixel_values"].shape == (4, 5, 3, TILE, TILE) and not batch["pixel_values"][3, 4:].any()
    features = model.get_image_features(batch["pixel_values"], batch["image_sizes"]).pooler_output
    assert [len(each) for each in features] == counts


def test_padding_tiles_are_not_read():
    model, processor = build_llava_next(torch.float64)
    batch = collated(processor, dtype=torch.float64)
    wanted = adapter_for(model).prepare(batch).inputs_embeds
    batch["pixel_values"][3, 4:] = 7.0
    assert_near(adapter_for(model).prepare(batch).inputs_embeds, wanted)


def test_a_row_alone_reads_what_it_reads_among_others():
    model, processor = build_llava_next(torch.float64)
    adapter, collate = adapter_for(model), VLCollator(processor)
    together = adapter.prepare(in_dtype(collate(samples()), torch.float64))
    for row, sample in enumerate(samples()):
        alone = adapter.prepare(in_dtype(collate([sample]), torch.float64)).inputs_embeds[0]
        torch.testing.assert_close(together.inputs_embeds[row, : len(alone)], alone, rtol=0, atol=1e-12)


# The contrasts


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_dropping_image_tokens_equals_masking_them(padding, dtype, tolerance):
    model, processor = build_llava_next(dtype)
    adapter = adapter_for(model)
    batch = adapter.prepare(collated(processor, dtype=dtype, padding_side=padding))
    dropped, masked = (compare_passes(adapter, contrast, batch) for contrast in (DropImage(), MaskImage()))
    seen = dropped.delta["logit"][dropped.valid & dropped.has_image.unsqueeze(1)]
    assert seen.std() > 0.5
    assert (dropped.delta["logit"] - masked.delta["logit"])[dropped.valid].abs().max() <= tolerance
    assert not dropped.delta["logit"][1].any(), "text alone"


@pytest.mark.parametrize("contrast", ["drop", "mask", "mean", "shuffle", "patches", "blur"])
def test_every_contrast_takes_a_step_with_weights_that_vary(contrast):
    model, processor = build_llava_next()
    collator = VLCollator(processor, keep_pictures=True)
    spelled = {"patches": "patches:0.9", "blur": "blur:10.0"}.get(contrast, contrast)
    cal = ContrastiveAlignment(model, CalConfig(contrast=spelled), encode_pictures=collator.image_inputs)
    out = cal(collator(samples()))
    out.loss.backward()
    assert out.weights[out.valid].std() > 0.1 and (out.weights[1][out.valid[1]] == 1).all()
    assert model.model.image_newline.grad.abs().sum() > 0


def test_degraded_pictures_take_as_many_tokens_and_tiles_as_whole_ones():
    model, processor = build_llava_next()
    collator = VLCollator(processor, keep_pictures=True)
    cal = ContrastiveAlignment(model, CalConfig(contrast="blur:10.0"), encode_pictures=collator.image_inputs)
    batch = cal.adapter.prepare(collator(samples()))
    view = cal.adapter.encode(cal.contrast(batch))
    assert torch.equal(view.vision_inputs["image_sizes"], batch.vision_inputs["image_sizes"])
    assert view.vision_inputs["pixel_values"].shape == batch.vision_inputs["pixel_values"].shape
    moved = (view.inputs_embeds - batch.inputs_embeds).abs().amax(-1) > 0
    assert torch.equal(moved & ~batch.image_mask, torch.zeros_like(moved)) and moved.any()


# The step


@pytest.mark.parametrize("score", ["logit", "logprob"])
def test_loss_delta_weights_and_gradient_equal_the_reference_in_float64(score):
    model, processor = build_llava_next(torch.float64)
    config = CalConfig(score=score)
    loss, delta, weights = slow_step(model, processor, samples(), config)
    expected = gradients_of(model, loss)
    out = ContrastiveAlignment(model, config)(collated(processor, dtype=torch.float64))
    found = gradients_of(model, out.loss)
    assert out.weights[out.valid].std() > 0.1, "weights that do not vary would hide a wrong one"
    seen = out.valid & out.has_image.unsqueeze(1)
    torch.testing.assert_close(out.loss, loss, rtol=1e-10, atol=0)
    torch.testing.assert_close(out.delta[seen], delta.double()[seen], rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(out.weights[out.valid], weights.double()[out.valid], rtol=1e-6, atol=1e-6)
    assert found.keys() == expected.keys() and "model.image_newline" in found
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-12, name


def test_gradients_reach_all_that_is_read_and_nothing_else():
    model, processor = build_llava_next()
    found = gradients_of(model, ContrastiveAlignment(model)(collated(processor)).loss)
    silent = {name for name, _ in model.named_parameters()} - found.keys()
    unread = freeze_unread_layers(model)
    assert silent and silent == {name for name in silent if name.startswith(tuple(unread))}
    assert all(found[name].abs().sum() > 0 for name in found if "k_proj.bias" not in name)


@pytest.mark.parametrize(("arithmetic", "tokens"), [("inference", 16), ("training", 24)])
def test_ids_and_features_agree_in_whichever_arithmetic(arithmetic, tokens):
    model, processor = build_llava_next(arithmetic=arithmetic)
    row = samples()[0]
    batch = collated(processor, [Sample(row.id, row.turns, (picture(147, 196),))])
    adapter_for(model).prepare(batch)
    assert int((batch["input_ids"] == processor.image_token_id).sum()) == tokens


# Text alone


def test_a_batch_of_text_alone_has_no_delta_and_weights_of_one():
    model, processor = build_llava_next()
    out = ContrastiveAlignment(model)(collated(processor, TEXT_ALONE))
    assert not out.delta.any() and (out.weights[out.valid] == 1).all()


def test_on_a_rank_with_text_alone_tower_projector_and_newline_take_part(monkeypatch):
    model, processor = build_llava_next(torch.float64)
    freeze_unread_layers(model)
    batch = collated(processor, TEXT_ALONE)
    alone = gradients_of(model, ContrastiveAlignment(model)(batch).loss)
    monkeypatch.setattr(llava, "runs_on_many_ranks", lambda: True)
    among_ranks = gradients_of(model, ContrastiveAlignment(model)(batch).loss)
    assert {part_of(name) for name in alone} == {"language_model"}
    assert among_ranks.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, gradient in among_ranks.items():
        assert_near(gradient, alone.get(name, torch.zeros_like(gradient)))


@pytest.mark.slow
def test_ranks_with_text_alone_and_with_pictures_train_as_one_process_does(tmp_path):
    """FSDP2 on two processes; a rank that left the tower out would wait for ever."""
    script = Path(__file__).parents[2] / "ranks" / "next_ranks.py"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*torchrun, str(script), str(tmp_path)], env=os.environ | quiet, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "result.json").read_text())
    for name in ("loss", "newline", "weights"):
        sharded, alone = (torch.tensor(found[run][name], dtype=torch.float64) for run in ("sharded", "alone"))
        torch.testing.assert_close(sharded, alone, rtol=1e-9, atol=1e-9)


# What is refused


def test_a_batch_without_image_sizes_is_refused():
    model, processor = build_llava_next()
    batch = collated(processor)
    del batch["image_sizes"]
    with pytest.raises(ValueError, match=r"no image_sizes, on which .* collate with the model's LlavaNextProcessor"):
        adapter_for(model).prepare(batch)


def test_image_tokens_without_pictures_are_refused():
    model, processor = build_llava_next()
    batch = collated(processor)
    with pytest.raises(ValueError, match="64 image tokens and no pixel_values"):
        adapter_for(model).prepare({name: batch[name] for name in ("input_ids", "labels", "attention_mask")})


def test_a_processor_of_another_rule_is_refused_with_what_to_do():
    model, _ = build_llava_next()
    row = samples()[0]
    small = Sample(row.id, row.turns, (picture(10, 28),))
    with pytest.raises(ValueError, match=r"use_original_tiling\(model, processor\)"):
        adapter_for(model).prepare(collated(plain_processor(), [small]))


def test_pictures_in_another_order_than_their_tokens_are_refused_though_the_sums_agree():
    model, processor = build_llava_next()
    batch = collated(processor)
    turned = torch.tensor([0, 2, 1, 3])
    batch["pixel_values"], batch["image_sizes"] = batch["pixel_values"][turned], batch["image_sizes"][turned]
    with pytest.raises(ValueError, match=r"a picture: \[14, 22, 24, 4\].*another order than their tokens"):
        adapter_for(model).prepare(batch)


def test_a_run_of_image_tokens_ends_with_its_row():
    """Row 0 begins and ends with a picture; the second and the third picture of the batch are exchanged."""
    model, processor = build_llava_next()
    batch, image = collated(processor), processor.image_token_id
    ids = torch.tensor([[image] * 14 + [5] + [image] * 22, [image] * 24 + [5] * 13])
    three = {name: batch[name][:3] for name in ("pixel_values", "image_sizes")}
    assert [num_tokens((width, height), TILE) for height, width in three["image_sizes"].tolist()] == [14, 24, 22]
    with pytest.raises(ValueError, match=r"60 image tokens in the batch .* but 60 image features"):
        adapter_for(model).prepare({"input_ids": ids, "labels": torch.full_like(ids, -100), **three})


# Saved, loaded, asked


def stage(model, batch, parts, rate, part_rates, steps=2):
    """Some steps with CAL; the names of what has moved."""
    train_only(model, parts)
    freeze_unread_layers(model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(model, rate, part_rates, 0.0))
    for _ in range(steps):
        optimizer.zero_grad()
        ContrastiveAlignment(model)(batch).loss.backward()
        optimizer.step()
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


def test_a_pair_trained_in_both_stages_is_loaded_by_the_auto_classes_with_the_same_logits_and_words(tmp_path):
    model, processor = build_llava_next()
    batch = collated(processor)
    moved = stage(model, batch, ("projector",), 1e-3, {})
    assert {part_of(name) for name in moved} == {"projector"}
    everything = ("vision_tower", "projector", "language_model", "image_newline")
    moved = stage(model, batch, everything, 1e-3, {"vision_tower": 1e-4})
    assert {part_of(name) for name in moved} == set(everything)
    assert not any("encoder.layers.1." in name for name in moved), "nobody reads it"
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, reader = (
        AutoModelForImageTextToText.from_pretrained(tmp_path).eval(),
        AutoProcessor.from_pretrained(tmp_path),
    )
    use_original_tiling(again, reader)
    batch_again = collated(reader)
    assert all(torch.equal(batch[name], batch_again[name]) for name in batch)
    shown = [{name: value for name, value in each.items() if name != "pictures"} for each in (batch, batch_again)]
    assert_says_the_same(model, again, *shown)

    model, again = twin(model), twin(again)
    prompt = "USER: <image>\nwhat is this? ASSISTANT:"
    asked = in_float64(processor(text=[prompt], images=[[picture(20, 14)]], return_tensors="pt"))
    said = model.generate(**asked, max_new_tokens=5, do_sample=False)
    assert said.shape[1] == asked["input_ids"].shape[1] + 5
    assert torch.equal(again.generate(**asked, max_new_tokens=5, do_sample=False), said)
    cached = model(**asked).logits[0, -1].argmax()
    assert said[0, asked["input_ids"].shape[1]] == cached


# Two stages (spec 3)


def test_in_instruction_tuning_the_tower_learns_at_a_tenth_and_the_newline_at_the_main_rate():
    model, _ = build_llava_next()
    train_only(model, ("vision_tower", "projector", "language_model", "image_newline"))
    unread = freeze_unread_layers(model)
    groups = parameter_groups(model, 2e-5, {"vision_tower": 2e-6}, 0.0)
    rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(unread)):
            assert id(parameter) not in rate_of and not parameter.requires_grad, name
        else:
            assert rate_of[id(parameter)] == (2e-6 if part_of(name) == "vision_tower" else 2e-5), name
    assert rate_of[id(model.model.image_newline)] == 2e-5
    assert {part_of(name) for name in unread} == {"vision_tower"}
    assert any("layers.1" in name for name in unread) and not any("layers.0" in name for name in unread)


def test_in_pretraining_the_projector_alone_learns_and_the_newline_stays():
    model, _ = build_llava_next()
    train_only(model, ("projector",))
    groups = parameter_groups(model, 1e-3, {}, 0.0)
    learning = {id(parameter) for group in groups for parameter in group["params"]}
    assert {part_of(name) for name, parameter in model.named_parameters() if id(parameter) in learning} == {"projector"}
    assert {group["lr"] for group in groups} == {1e-3} and not model.model.image_newline.requires_grad
