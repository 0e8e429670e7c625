"""Towers against torch's counter on real small ones; attention is eager, so all of it is seen."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModel, ConvNextConfig, ConvNextModel

from contralign.bench.plan.operations.counting import Counting
from contralign.bench.plan.operations.vision import vision_backward, vision_forward
from contralign.bench.plan.shapes import AuxTower, Decoder, Sample, Tower, VLModel

pytestmark = pytest.mark.bit_exact  # torch's own operations are counted, not those of the reordered sums
TOWER = Tower(hidden=32, layers=4, read_layers=3, intermediate=64, side=56, patch=14)
DECODER = Decoder(hidden=48, layers=1, heads=2, kv_heads=2, intermediate=8, vocab=10)


def vlm(**changes) -> VLModel:
    sample = Sample(image=16, text=8, labels=4)
    return VLModel(**{"name": "small", "decoder": DECODER, "sample": sample, "tower": TOWER, "tiles": 2, **changes})


def clip() -> CLIPVisionModel:
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        attn_implementation="eager",
    )
    return CLIPVisionModel(config).train()


@pytest.mark.parametrize(("train_tower", "recompute"), [(True, "none"), (True, "early_stop"), (False, "none")])
def test_tower_and_projector_are_counted_as_torch_counts_them(train_tower, recompute):
    tower = clip().requires_grad_(train_tower)
    if recompute != "none":
        tower.gradient_checkpointing_enable({"use_reentrant": False})
    projector = nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 48))
    with FlopCounterMode(display=False) as counter:
        seen = tower(torch.randn(2, 3, 56, 56), output_hidden_states=True).hidden_states[-2][:, 1:]
        projector(seen).sum().backward()
    model = vlm(train_tower=train_tower)
    counting = Counting(attention_backward=2, recompute=recompute)
    ours = vision_forward(model).flops + vision_backward(model, counting).flops
    assert counter.get_total_flops() == pytest.approx(ours, rel=1e-3)


def test_the_fine_tower_is_counted_as_torch_counts_it():
    widths, depths = (16, 32, 64, 128), (1, 1, 3, 1)
    tower = ConvNextModel(ConvNextConfig(hidden_sizes=list(widths), depths=list(depths)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tower(torch.randn(1, 3, 64, 64))
    assert counter.get_total_flops() == 2 * AuxTower(side=64, widths=widths, depths=depths).tower_products


def test_a_picture_of_224_pixels_costs_what_convnexts_paper_says():
    assert AuxTower(side=224).tower_products == pytest.approx(34.4e9, rel=0.01)


def test_a_fine_tower_adds_forward_work_and_the_gradients_of_its_mining():
    fine = AuxTower(side=768)
    with_fine, without = vlm(aux=fine), vlm()
    added = vision_forward(with_fine).flops - vision_forward(without).flops
    assert added == 2 * fine.tower_products + 2 * 2 * fine.mining_products
    first_layer_input = 2 * 2 * TOWER.patches * TOWER.hidden * DECODER.hidden
    added = vision_backward(with_fine, Counting()).flops - vision_backward(without, Counting()).flops
    assert added == 2 * 2 * fine.mining_products + first_layer_input


def test_a_model_without_tiles_has_no_vision_at_all():
    blind = vlm(tiles=0)
    assert vision_forward(blind).flops == vision_backward(blind, Counting()).flops == 0
