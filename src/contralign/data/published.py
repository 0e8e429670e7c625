"""How many records the published files hold that recipes name, for plans made before the files are here.

Numbers: training_spec, section 3. What is rounded there is rounded here.
"""

from __future__ import annotations

PUBLISHED_RECORDS = {
    "blip_laion_cc_sbu_558k.json": 558_128,
    "llava_v1_5_mix665k.json": 665_298,
    "docvqa_train.json": 39_463,
    "chartqa_train.json": 28_299,
    "sharegpt4v_instruct_gpt4-vision_cap100k.json": 102_000,
    "mgm_pretrain.json": 1_200_000,
    "mgm_instruction.json": 1_500_000,
}
"""File name -> records."""
