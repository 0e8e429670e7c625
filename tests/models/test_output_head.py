"""What a model does to the logits of its matrix: known logits that go through it tell, not the configuration."""

from types import SimpleNamespace

import pytest
import torch
from small_models import build_llava
from torch import nn

from contralign.core.head import LinearHead, OpaqueHead
from contralign.models.output_head import UNKNOWN, is_plain_linear, transform_behind
from contralign.models.registry import adapter_for


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
    assert transform_behind(module, lambda rows: applied(module(rows)), config(**named)) == found


def test_a_plain_linear_layer_is_told_from_a_wrapped_one():
    assert is_plain_linear(head())
    hooked = head()
    hooked.register_forward_hook(lambda *_: None)
    replaced = head()
    replaced.forward = replaced.forward
    for other in (hooked, replaced, None, nn.Sequential(head()), nn.utils.parametrizations.weight_norm(head())):
        assert not is_plain_linear(other)


def test_llava_gives_its_matrix_and_a_head_with_lora_its_function():
    model = build_llava()
    assert isinstance(adapter_for(model).head(), LinearHead)
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(model, LoraConfig(target_modules=["lm_head"], r=2))
    found = adapter_for(wrapped).head()
    assert isinstance(found, OpaqueHead) and found.vocabulary == 96
