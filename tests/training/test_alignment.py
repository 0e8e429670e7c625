"""CAL around one model: equal to the equations, to the released code, and no trace on what it was given."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from worlds.same_numbers import assert_near
from worlds.small_models import build_llava, mixed_batch
from worlds.tiny_worlds import coloured_samples, tiny_pair

from contralign import CalConfig, ContrastiveAlignment
from contralign.contrast.drop import DropImage
from contralign.contrast.mean import MeanPicture
from contralign.contrast.shuffle import ShufflePictures
from contralign.core.passes import compare_passes
from contralign.core.reference import reference_delta, reference_loss, reference_released, reference_weights
from contralign.models.adapters.adapter import UnsupportedModel
from contralign.models.adapters.generic import GenericAdapter


def masked_logits(model, inputs):
    """Full logits of both passes, the second with the image keys hidden."""
    shown = {name: value for name, value in inputs.items() if name != "labels"}
    hidden = inputs["attention_mask"] * (inputs["input_ids"] != model.config.image_token_id).long()
    with torch.no_grad():
        without = model(**(shown | {"attention_mask": hidden})).logits
    return model(**shown).logits, without


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("images", [(1, 0, 2, 1), (2, 1), (0, 1, 0)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_released_form_is_the_released_codes_arithmetic(images, dtype, tolerance):
    inputs = mixed_batch(images=images, dtype=dtype)
    ours, theirs = build_llava(dtype), build_llava(dtype)
    out = ContrastiveAlignment(ours, CalConfig.released())(inputs)
    out.loss.backward()
    with_picture, without = masked_logits(theirs, inputs)
    wanted = reference_released(with_picture, without, inputs["labels"])
    wanted.backward()
    assert out.weights[out.valid].std() > 0.1
    torch.testing.assert_close(out.loss, wanted, rtol=tolerance, atol=0)
    mine, reference = gradients(ours), gradients(theirs)
    assert (mine - reference).norm() <= tolerance * reference.norm()


@pytest.mark.parametrize("form", ["exact", "paper"])
@pytest.mark.parametrize(
    "alpha, beta, window, score", [(1, 5, 3, "logit"), (0, float("inf"), 1, "logit"), (0, 5, 5, "logprob")]
)
def test_a_step_equals_the_equations_in_slow_loops(form, alpha, beta, window, score):
    inputs = mixed_batch(dtype=torch.float64)
    ours, theirs = build_llava(torch.float64), build_llava(torch.float64)
    config = CalConfig(form=form, alpha=alpha, beta=beta, window=window, score=score)
    out = ContrastiveAlignment(ours, config)(inputs)
    out.loss.backward()

    with_picture, without = masked_logits(theirs, inputs)
    labels = inputs["labels"][:, 1:]
    valid = (labels != -100).tolist()
    picked = labels.clamp(min=0)
    delta = reference_delta(with_picture[:, :-1].detach(), without[:, :-1], picked, score)
    for row, image in enumerate(out.has_image.tolist()):
        if not image:
            delta[row] = [1.0] * len(delta[row])
    weights = reference_weights(delta, valid, alpha, beta, window, form)
    nll = -with_picture[:, :-1].log_softmax(-1).gather(-1, picked.unsqueeze(-1)).squeeze(-1)
    wanted = reference_loss(nll, weights, valid, form)
    wanted.backward()
    assert out.weights[out.valid].std() > 0.1
    torch.testing.assert_close(out.loss, wanted, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-8, atol=1e-10)


def test_equal_bounds_give_plain_mle():
    inputs = mixed_batch()
    ours, theirs = build_llava(), build_llava()
    out = ContrastiveAlignment(ours, CalConfig(alpha=2, beta=2))(inputs)
    out.loss.backward()
    plain = theirs(**inputs).loss
    plain.backward()
    torch.testing.assert_close(out.loss, plain, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-4, atol=1e-5)


def test_text_only_rows_keep_their_loss_where_alpha_is_zero():
    out = ContrastiveAlignment(build_llava(), CalConfig(alpha=0))(mixed_batch())
    text_row = out.valid[1]
    assert not out.has_image[1]
    assert torch.equal(out.weights[1][text_row], torch.ones(int(text_row.sum())))
    assert not out.delta[1].any()


def test_a_batch_without_labels_has_loss_zero_and_a_live_graph():
    inputs = mixed_batch()
    inputs["labels"] = torch.full_like(inputs["labels"], -100)
    model = build_llava()
    out = ContrastiveAlignment(model)(inputs)
    out.loss.backward()
    assert out.loss == 0
    assert not gradients(model).any()


def test_the_batch_and_the_plain_forward_are_untouched():
    model, inputs = build_llava(torch.float64), mixed_batch(dtype=torch.float64)
    before = {name: value.clone() for name, value in inputs.items()}
    plain = model(**inputs).loss
    cal = ContrastiveAlignment(model)
    cal(inputs)
    assert all(torch.equal(inputs[name], before[name]) for name in before)
    assert_near(model(**inputs).loss, plain, 1e-6)  # transformers sums it in float32
    assert model.generate(input_ids=inputs["input_ids"][1:2, :6], max_new_tokens=2, do_sample=False).shape == (1, 8)


def test_a_deep_copy_trains_itself():
    model, inputs = build_llava(), mixed_batch()
    ContrastiveAlignment(model)
    twin = copy.deepcopy(model)
    twin(**inputs).loss.backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert twin.lm_head.weight.grad is not None


def test_the_second_pass_takes_nothing_from_the_random_state_and_has_no_dropout():
    inputs = mixed_batch()
    model = build_llava(attention_dropout=0.3).train()
    torch.manual_seed(7)
    plain = model(**inputs, num_items_in_batch=1).loss
    state = torch.get_rng_state()
    torch.manual_seed(7)
    cal = ContrastiveAlignment(model)
    out = cal(inputs)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(out.nll.sum(), plain, rtol=1e-5, atol=0)
    assert all(module.training for module in model.modules())
    with torch.no_grad():
        first = compare_passes(cal.adapter, DropImage(), cal.adapter.prepare(inputs))
    torch.manual_seed(8)
    with torch.no_grad():
        other = compare_passes(cal.adapter, DropImage(), cal.adapter.prepare(inputs))
    assert (first.nll - other.nll).abs().max() > 0.01, "the first pass does drop"


def test_dropout_is_warned_of_once(caplog):
    cal = ContrastiveAlignment(build_llava())
    cal.adapter.model.model.language_model.layers[0].mlp.act_fn = torch.nn.Sequential(
        torch.nn.SiLU(), torch.nn.Dropout(0.1)
    )
    cal(mixed_batch())
    cal(mixed_batch())
    assert sum("dropout is on in 1 modules" in record.message for record in caplog.records) == 1


def test_it_works_under_bf16_autocast_and_checkpointing():
    model, inputs = build_llava().train(), mixed_batch()
    exact = ContrastiveAlignment(model)(inputs)
    model.activation_checkpointing_enable({"use_reentrant": False})
    checkpointed = ContrastiveAlignment(model)(inputs)
    checkpointed.loss.backward()
    torch.testing.assert_close(checkpointed.loss, exact.loss)
    with torch.autocast("cpu", torch.bfloat16):
        low = ContrastiveAlignment(model)(inputs)
    low.loss.backward()
    assert low.loss.dtype == torch.float32
    torch.testing.assert_close(low.loss, exact.loss, rtol=0.05, atol=0)


def test_delta_lands_on_the_label_whose_logit_moves():
    """Make one word's score depend on the picture alone, and see its Δ move and no other's."""
    model, inputs = build_llava(torch.float64), mixed_batch(images=(1,), dtype=torch.float64)
    cal = ContrastiveAlignment(model)
    before = cal(inputs).delta[0]
    word = inputs["labels"][0][inputs["labels"][0] != -100][1]
    model.lm_head.weight.data[word] *= 3
    after = cal(inputs).delta[0]
    moved = (after - before).abs() > 1e-9
    assert torch.equal(moved, inputs["labels"][0, 1:] == word)


class Reversed(GenericAdapter):
    """An adapter whose decoder counts places instead of reading positions: dropping is then wrong."""

    def hidden(self, batch, **_):
        places = torch.arange(batch.input_ids.shape[1]).expand(batch.input_ids.shape[0], -1)
        return self.decoder(
            inputs_embeds=batch.inputs_embeds, attention_mask=batch.attention_mask, position_ids=places
        ).last_hidden_state


def test_a_model_for_which_drop_is_wrong_is_found_on_the_first_batch():
    cal = ContrastiveAlignment(build_llava())
    cal.adapter, cal._proven = Reversed(cal.adapter.model), False
    with pytest.raises(UnsupportedModel, match="differs from that of 'mask'"):
        cal(mixed_batch())


def test_patches_and_blur_need_a_way_to_encode_pictures():
    with pytest.raises(ValueError, match=r"pass processor=\.\.\."):
        ContrastiveAlignment(build_llava(), CalConfig(contrast="blur"))


@pytest.mark.parametrize("contrast", ["patches", "blur"])
def test_a_degraded_picture_is_encoded_again_without_gradient(contrast):
    pictures = [Image.effect_noise((28, 28), 90).convert("RGB") for _ in range(3)]

    def encode(images):
        pixels = [torch.tensor(np.asarray(image)).permute(2, 0, 1).double() / 64.0 - 2 for image in images]
        return {"pixel_values": torch.stack(pixels)}

    inputs = mixed_batch(images=(1, 0, 2)) | encode(pictures) | {"pictures": ((pictures[0],), (), tuple(pictures[1:]))}
    spelled = "patches:0.9" if contrast == "patches" else "blur:3.0"
    model = build_llava(torch.float64)
    cal = ContrastiveAlignment(model, CalConfig(contrast=spelled), encode_pictures=encode)
    cal.draw = 3
    out = cal(inputs)
    out.loss.backward()
    assert out.delta[0][out.valid[0]].abs().max() > 0.1
    assert not out.delta[1].any()
    cal.draw = 3
    again = cal(inputs)
    assert_near(out.delta, again.delta)
    other = cal(inputs)
    apart = (again.delta - other.delta).abs().max()
    assert apart < 1e-6 if contrast == "blur" else apart > 0.1, "patches are drawn afresh on every step"


def test_without_pictures_in_the_batch_the_user_is_told_what_to_collate():
    cal = ContrastiveAlignment(build_llava(), CalConfig(contrast="blur"), encode_pictures=lambda pictures: {})
    with pytest.raises(ValueError, match="keep_pictures=True"):
        cal(mixed_batch())


def test_it_is_built_before_accelerate_prepares_the_model():
    model = build_llava()
    model._original_forward = model.forward
    with pytest.raises(ValueError, match=r"before accelerator\.prepare"):
        ContrastiveAlignment(model)


def test_cached_delta_takes_the_place_of_the_second_pass():
    model, inputs = build_llava(torch.float64), mixed_batch(dtype=torch.float64)
    live = ContrastiveAlignment(model)(inputs)
    assert live.weights[live.valid].std() > 0.1
    cached = torch.nn.functional.pad(live.delta, (1, 0), value=float("nan"))
    found = ContrastiveAlignment(model, CalConfig(scores="a file"))({**inputs, "cached_delta": cached})
    torch.testing.assert_close(found.loss, live.loss)
    torch.testing.assert_close(found.weights, live.weights)


@pytest.mark.parametrize(
    ("config", "extra", "message"),
    [
        (CalConfig(), {"cached_delta": torch.zeros(4, 30)}, "has no effect without CalConfig"),
        (CalConfig(scores="a file"), {}, "wants 'cached_delta' in every batch.*got nothing"),
        (CalConfig(scores="a file"), {"cached_delta": torch.zeros(4, 3)}, r"got shape \(4, 3\)"),
    ],
)
def test_cached_delta_where_it_is_not_wanted_or_missing_is_refused(config, extra, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveAlignment(build_llava(), config)({**mixed_batch(), **extra})


def test_cached_delta_passes_by_what_rounds_the_inputs_of_a_model():
    """FSDP2 and DeepSpeed round every floating tensor that a model is called with; Δ of a file is not among them."""
    model, inputs = build_llava(), mixed_batch()
    cal = ContrastiveAlignment(model, CalConfig(scores="a file"))
    call = cal.marked({**inputs, "cached_delta": torch.full(inputs["input_ids"].shape, 1.2345678)})
    tensors = [value for value in torch.utils._pytree.tree_leaves(call) if isinstance(value, torch.Tensor)]
    assert len(tensors) == len(inputs)
    assert cal.model(**call).delta.max().item() == pytest.approx(1.2345678, rel=1e-7)


def a_tokenizer():
    return tiny_pair(coloured_samples(2))[1].tokenizer


@pytest.mark.parametrize(
    ("settings", "contrast"),
    [
        ({"contrast": "mean:2"}, MeanPicture(tokens=2)),
        ({"contrast": "shuffle"}, ShufflePictures()),
        ({"contrast": "drop:red"}, None),
    ],
)
def test_a_step_weighs_by_the_contrast_that_is_named(settings, contrast):
    model, inputs = build_llava(torch.float64, vocab_size=400).train(), mixed_batch(dtype=torch.float64)
    cal = ContrastiveAlignment(model, CalConfig(**settings), processor=a_tokenizer())
    out = cal(inputs)
    out.loss.backward()
    assert out.weights[out.valid].std() > 0.1
    assert gradients(model).norm() > 0
    if contrast is not None:
        wanted = compare_passes(cal.adapter, contrast, cal.adapter.prepare(inputs)).delta["logit"]
        torch.testing.assert_close(out.delta, wanted, rtol=0, atol=1e-10)
    plain = ContrastiveAlignment(model)(inputs)
    assert (out.delta - plain.delta)[out.valid & out.has_image.unsqueeze(1)].abs().max() > 0.1


def test_the_mean_picture_moves_in_training_and_stays_in_evaluation():
    model = build_llava(torch.float64).train()
    cal = ContrastiveAlignment(model, CalConfig(contrast="mean"))
    for seed in range(3):
        cal(mixed_batch(seed=seed, dtype=torch.float64))
    trained = cal.contrast.running.value.clone()
    assert cal.contrast.running.batches == 3
    model.eval()
    for seed in range(3, 5):
        cal(mixed_batch(seed=seed, dtype=torch.float64))
    assert torch.equal(cal.contrast.running.value, trained)
    model.train()
    again = ContrastiveAlignment(model, CalConfig(contrast="mean"))
    for seed in range(3):
        again(mixed_batch(seed=seed, dtype=torch.float64))
    assert_near(again.contrast.running.value, trained)


def test_a_prompt_needs_a_tokenizer_and_words():
    with pytest.raises(ValueError, match=r"prompt='red' has to be cut into tokens: pass processor=\.\.\."):
        ContrastiveAlignment(build_llava(), CalConfig(contrast="drop:red"))
    with pytest.raises(ValueError, match="prompt=''"):
        ContrastiveAlignment(build_llava(), CalConfig(contrast="drop:"), processor=a_tokenizer())


@pytest.mark.parametrize("settings", [{}, {"contrast": "drop:red"}, {"contrast": "mean"}, {"contrast": "shuffle"}])
def test_whatever_takes_tokens_out_is_proven_first(settings):
    cal = ContrastiveAlignment(build_llava(), CalConfig(**settings), processor=a_tokenizer())
    cal.adapter, cal._proven = Reversed(cal.adapter.model), False
    with pytest.raises(UnsupportedModel, match="differs from that of 'mask'"):
        cal(mixed_batch())
