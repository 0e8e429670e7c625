"""PartConfigs made small: sizes shrink, switches stay."""

import pytest

from contralign.models.assembly.part_configs import SMALL_CLIP, SMALL_CONVNEXT, SMALL_DECODER, part_configs, scaled_down
from contralign.models.assembly.published_parts import GEMMA_2B, VICUNA_7B
from contralign.models.published_towers import CLIP_L_336, CONVNEXT_L_320


@pytest.mark.parametrize(("language_model", "kv_heads"), [(VICUNA_7B, 4), (GEMMA_2B, 1)])
def test_only_sizes_change(language_model, kv_heads):
    true = part_configs(language_model, CLIP_L_336, CONVNEXT_L_320)
    small = scaled_down(true)
    sizes = {
        "language_model": {*SMALL_DECODER, "num_key_value_heads"},
        "vision_tower": set(SMALL_CLIP),
        "aux_tower": {*SMALL_CONVNEXT, "stage_names", "out_features", "out_indices"},
    }
    for part, changed in sizes.items():
        before, after = getattr(true, part).to_dict(), getattr(small, part).to_dict()
        assert {key for key in before if before[key] != after.get(key)} <= changed
        assert before != after
    assert small.language_model.num_key_value_heads == kv_heads


def test_the_true_configuration_is_not_touched():
    true = part_configs(VICUNA_7B, CLIP_L_336)
    scaled_down(true)
    assert true.language_model.hidden_size == 4096
    assert true.aux_tower is None
