"""Our counts against torch's counter on a real small LLaMA.

The counter sees whole (not causal) attention where it is eager, and none where the CPU's fused kernel runs; `Counting`
says which. What is left over is the rotary embedding: one small product a pass.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from contralign.bench.plan.models import MODELS
from contralign.bench.plan.operations.counting import MODES, Counting
from contralign.bench.plan.operations.counts import count, flop_ratio
from contralign.bench.plan.shapes import Decoder, Sample, VLModel

pytestmark = pytest.mark.bit_exact  # torch's own operations are counted, not those of the reordered sums
DECODER = Decoder(hidden=64, layers=3, heads=4, kv_heads=2, intermediate=172, vocab=500)
SAMPLE = Sample(image=72, text=24, labels=10)
MODEL = VLModel(name="small", decoder=DECODER, sample=SAMPLE, tiles=0)
EAGER = Counting(attention="full", attention_backward=2, recompute="none", last_layer="all", share_prefix=False)
TOLERANCE = 1e-3


def counted(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def llama(attention: str = "eager") -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=DECODER.hidden,
        intermediate_size=DECODER.intermediate,
        num_hidden_layers=DECODER.layers,
        num_attention_heads=DECODER.heads,
        num_key_value_heads=DECODER.kv_heads,
        vocab_size=DECODER.vocab,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).train()


def ids(tokens: int) -> Tensor:
    return torch.randint(0, DECODER.vocab, (1, tokens), generator=torch.Generator().manual_seed(0))


def plain_loss(model: LlamaForCausalLM) -> Tensor:
    tokens = ids(SAMPLE.all)
    loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
    assert loss is not None
    return loss


def label_loss(model: LlamaForCausalLM) -> Tensor:
    """Head and loss of the last ten rows alone."""
    tokens = ids(SAMPLE.all)
    logits = model(input_ids=tokens, use_cache=False, logits_to_keep=SAMPLE.labels).logits
    return F.cross_entropy(logits[0], tokens[0, -SAMPLE.labels :])


def test_a_forward_pass_is_counted_as_torch_counts_it():
    model = llama()
    cost = count(MODEL, "mle", EAGER)
    ours = cost.decoder_forward.flops + cost.head.flops / 3
    assert counted(lambda: plain_loss(model)) == pytest.approx(ours, rel=TOLERANCE)


def test_a_training_step_is_counted_as_torch_counts_it():
    model = llama()
    torchs = counted(lambda: plain_loss(model).backward())
    assert torchs == pytest.approx(count(MODEL, "mle", EAGER).total.flops, rel=TOLERANCE)


def test_the_cpus_fused_attention_is_invisible_to_the_counter():
    model = llama("sdpa")
    torchs = counted(lambda: plain_loss(model).backward())
    unseen = Counting(attention="none", recompute="none")
    assert torchs == pytest.approx(count(MODEL, "mle", unseen).total.flops, rel=TOLERANCE)


@pytest.mark.parametrize(("reentrant", "recompute"), [(False, "early_stop"), (True, "all")])
def test_what_checkpointing_computes_again_is_counted_as_torch_counts_it(reentrant, recompute):
    model = llama()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    torchs = counted(lambda: plain_loss(model).backward())
    counting = Counting(
        attention="full", attention_backward=2, recompute=recompute, last_layer="all", share_prefix=False
    )
    assert torchs == pytest.approx(count(MODEL, "mle", counting).total.flops, rel=TOLERANCE)


def test_a_loss_over_label_rows_is_counted_as_torch_counts_it():
    model = llama()
    torchs = counted(lambda: label_loss(model).backward())
    assert torchs == pytest.approx(count(MODEL, "mle_fused", EAGER).total.flops, rel=TOLERANCE)


def test_the_pass_over_the_text_is_counted_as_torch_counts_it():
    model = llama()
    with torch.no_grad():
        torchs = counted(lambda: model.model(input_ids=ids(SAMPLE.text), use_cache=False))
    assert torchs == pytest.approx(count(MODEL, "cal", EAGER).contrast_decoder.flops, rel=TOLERANCE)


def test_the_released_second_pass_is_counted_as_torch_counts_it():
    model = llama()
    mask = torch.ones(1, SAMPLE.all, dtype=torch.long)
    mask[:, 4 : 4 + SAMPLE.image] = 0
    with torch.no_grad():
        torchs = counted(lambda: model(input_ids=ids(SAMPLE.all), attention_mask=mask, use_cache=False))
    eager = Counting(attention="full", attention_backward=2, recompute="none", hidden_keys="computed")
    assert torchs == pytest.approx(count(MODEL, "released", eager).contrast.flops, rel=TOLERANCE)


def test_products_in_place_are_invisible_to_the_counter():
    """Why the prototype's head shows two products of three (`validation.prototype_counting`)."""
    square = torch.ones(4, 4)
    assert counted(lambda: torch.addmm(square, square, square)) == 128
    assert counted(lambda: square.clone().addmm_(square, square)) == 0


@pytest.mark.parametrize("name", MODELS)
def test_modes_stand_in_order_of_their_cost(name):
    cost = {mode: count(MODELS[name], mode).total.flops for mode in MODES}
    assert cost["cal_cached"] == cost["mle_fused"] < cost["cal"] < cost["released"]
    assert cost["mle_fused"] < cost["mle"] < cost["released"]


def test_parts_add_up_to_the_total():
    cost = count(MODELS["mgm-2b"], "cal")
    assert cost.total.flops == pytest.approx((cost.forward + cost.backward + cost.contrast).flops)
    assert cost.total.bytes == pytest.approx((cost.forward + cost.backward + cost.contrast).bytes)


def test_a_ratio_of_a_mode_to_itself_is_one():
    assert flop_ratio(MODEL, "cal", over="cal") == 1


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="cal_cached"):
        count(MODEL, "fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["mle", "mle_fused"])
def test_a_frozen_language_model_is_counted_as_torch_counts_it(mode):
    """Alignment pre-training: the backward pass runs through all layers to the picture's embeddings, for no weight."""
    model = llama().requires_grad_(False)
    embeds = model.get_input_embeddings()(ids(SAMPLE.all)).requires_grad_()
    tokens = ids(SAMPLE.all)

    def run() -> None:
        if mode == "mle":
            model(inputs_embeds=embeds, labels=tokens, use_cache=False).loss.backward()
            return
        hidden = model.model(inputs_embeds=embeds, use_cache=False).last_hidden_state[0, -SAMPLE.labels :]
        F.cross_entropy(model.lm_head(hidden), tokens[0, -SAMPLE.labels :]).backward()

    frozen = replace(MODEL, train_decoder=False)
    assert counted(run) == pytest.approx(count(frozen, mode, EAGER).total.flops, rel=TOLERANCE)
