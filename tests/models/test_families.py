"""Today's families: both passes are what the model's own forward says, with pictures, videos, several, and none."""

from dataclasses import replace

import pytest
import torch
from own_forward import IMAGES, measured, own_logits, own_step, rows_of
from small_families import FAMILIES, built, family_batch

from contralign import CalConfig, ContrastiveAlignment
from contralign.core.passes import look_twice
from contralign.models.registry import adapter_for

RECURRENT = ("Qwen3.5", "LFM2-VL")
REFUSED = ("Llama 4",)
TEXT = ("input_ids", "labels", "attention_mask", "token_type_ids", "mm_token_type_ids")


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in REFUSED])
def test_drop_and_mask_are_what_the_models_own_forward_says(name):
    family = FAMILIES[name]
    found = measured(family, built(family))
    assert found.spread > 0.3, "Δ that does not vary would hide a wrong one"
    assert found.own < 1e-6
    assert found.removed < 1e-4
    if name in RECURRENT:
        assert found.masked is None and found.apart > 1
    else:
        assert found.masked < 1e-4 and found.apart < 1e-4


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in REFUSED])
def test_loss_weights_and_gradient_of_a_step_are_those_of_the_equations(name):
    family = FAMILIES[name]
    model = built(family)
    rows = rows_of(family)[-1]
    loss, weights = own_step(model, family, rows, CalConfig())
    expected = gradients(model, loss)
    inputs = family_batch(family, rows)
    out = ContrastiveAlignment(model)(inputs)
    assert out.weights[out.valid].std() > 0.1, "weights that do not vary would hide a wrong one"
    room = 1e-4 if family.dtype == torch.float32 else 1e-6
    torch.testing.assert_close(out.loss, loss, rtol=room, atol=0)
    torch.testing.assert_close(out.weights.double(), torch.tensor(weights).double(), rtol=room, atol=room)
    found = gradients(model, out.loss)
    assert (found - expected).norm() < room * expected.norm()


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()


def other_pictures(family, rows, name):
    """A batch with the same words and other pictures, as the inputs of the vision tower alone."""
    inputs = family_batch(family, rows)
    changed = {key: value.flip(0) * 0.7 for key, value in inputs.items() if key.startswith("pixel_values")}
    return inputs, inputs | changed


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in (*REFUSED, "Mllama")])
def test_a_degraded_picture_is_the_models_own_forward_with_it(name):
    family = FAMILIES[name]
    model = built(family)
    inputs, degraded = other_pictures(family, IMAGES, name)
    seen = {key: value for key, value in degraded.items() if key not in TEXT}
    adapter = adapter_for(model, encode_pictures=lambda pictures: seen)
    view = lambda batch: replace(batch, inputs_embeds=None, vision_inputs={}, pictures=((1,), (), (1, 1), (1,)))  # noqa: E731
    found = look_twice(adapter, view, adapter.prepare(inputs))
    with torch.no_grad():
        right, wrong = own_logits(model, inputs)[0], own_logits(model, degraded)[0]
    labels = inputs["labels"][:, 1:]
    at = labels.clamp(min=0).unsqueeze(-1)
    wanted = (right - wrong)[:, :-1].gather(-1, at).squeeze(-1)[found.valid & found.has_image.unsqueeze(1)]
    assert wanted.std() > 0.1
    assert (found.delta["logit"][found.valid & found.has_image.unsqueeze(1)] - wanted).abs().max() < 1e-4
