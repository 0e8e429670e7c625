"""What a model does to the logits of its matrix: known logits that go through it tell, not the configuration."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from worlds.same_numbers import assert_near
from worlds.small_models import build_llava

from contralign.core.head import LinearHead, OpaqueHead
from contralign.core.label_loss import label_loss
from contralign.core.label_readings import label_scores
from contralign.models.adapters.registry import adapter_for
from contralign.models.decoder.output_head import UNKNOWN, gathered_head, is_plain_linear, logit_transform


def config(**values):
    text = SimpleNamespace(**values)
    return SimpleNamespace(get_text_config=lambda: text)


def head(dtype=torch.float32, bias=False):
    torch.manual_seed(0)
    return nn.Linear(24, 60, bias=bias).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("applied", "named", "found"),
    [
        (lambda x: x, {}, (1.0, None)),
        (lambda x: x, {"logit_scale": 0.25, "final_logit_softcapping": 20.0}, (1.0, None)),
        (lambda x: 0.25 * x, {"logit_scale": 0.25}, (0.25, None)),
        (lambda x: x / 8, {"logits_scaling": 8}, (0.125, None)),
        (lambda x: 20 * torch.tanh(x / 20), {"final_logit_softcapping": 20.0}, (1.0, 20.0)),
        (lambda x: 20 * torch.tanh(x / 80), {"final_logit_softcapping": 20.0, "logit_scale": 0.25}, (0.25, 20.0)),
        (lambda x: torch.sinh(x / 9), {"logit_scale": 0.25}, UNKNOWN),
        (lambda x: 0.5 * x, {}, UNKNOWN),
        (lambda x: x[:, :50], {}, UNKNOWN),
    ],
)
def test_the_transform_is_found_or_said_to_be_unknown(applied, named, found, dtype):
    module = head(dtype, bias=True)
    assert logit_transform(module, lambda rows: applied(module(rows)), config(**named)) == found


def test_a_plain_linear_layer_is_told_from_a_wrapped_one():
    assert is_plain_linear(head())
    hooked = head()
    hooked.register_forward_hook(lambda *_: None)
    replaced = head()
    replaced.forward = replaced.forward
    for other in (hooked, replaced, None, nn.Sequential(head()), nn.utils.parametrizations.weight_norm(head())):
        assert not is_plain_linear(other)


def test_a_head_that_is_whole_only_in_its_call_is_called_once_and_says_the_same():
    module = head(torch.float64, bias=True)
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    plain = LinearHead(weight=module.weight, bias=module.bias, scale=0.5, cap=20.0)
    gathered = gathered_head(module, 0.5, 20.0)
    rows = torch.randn(9, 24, dtype=torch.float64, requires_grad=True)
    labels, coefficients = torch.arange(9), torch.rand(9, dtype=torch.float64)
    wanted, found = (label_loss(rows, labels, coefficients, each, chunk_bytes=4 * 60 * 8) for each in (plain, gathered))
    assert len(calls) == 1  # three chunks in it
    inputs = (rows, module.weight, module.bias)
    for one, other in zip(
        torch.autograd.grad(wanted.total, inputs), torch.autograd.grad(found.total, inputs), strict=True
    ):
        assert_near(one, other)
    assert_near(wanted.nll, found.nll)
    (scores, right), (others, also) = (label_scores(rows, labels, each) for each in (plain, gathered))
    assert_near(scores, others)
    assert torch.equal(right, also)
    assert_near(plain.label_logits(rows, labels), gathered.label_logits(rows, labels))
    assert_near(plain.logits(rows), gathered.logits(rows))
    assert (gathered.vocabulary, len(calls)) == (60, 4)
    assert "forward" not in module.__dict__


def test_llava_gives_its_matrix_and_a_head_with_lora_its_function():
    model = build_llava()
    assert isinstance(adapter_for(model).head(), LinearHead)
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(model, LoraConfig(target_modules=["lm_head"], r=2))
    found = adapter_for(wrapped).head()
    assert isinstance(found, OpaqueHead) and found.vocabulary == 96
