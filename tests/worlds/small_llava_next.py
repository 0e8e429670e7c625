"""A tiny LLaVA-NeXT with its processor, and samples for them. Built, never downloaded."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
)
from worlds.small_models import spread, text_settings

from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.models.anyres.tiling import canvases, use_original_tiling
from contralign.models.chat_templates import TINY_TEMPLATE
from contralign.models.small.tiny import train_tokenizer

TILE, PATCH = 28, 14
WORDS = "what is this? a red dog on the grass; blue birds above a small house. and here? nothing but stripes"


def plain_processor(tile=TILE, pinpoints=None):
    """As transformers makes it, its pinpoints in the released order (width, height)."""
    return LlavaNextProcessor(
        LlavaNextImageProcessorPil(
            size={"shortest_edge": tile},
            crop_size={"height": tile, "width": tile},
            image_grid_pinpoints=[list(pair) for pair in pinpoints or canvases(tile)],
        ),
        train_tokenizer([WORDS], 300, 4096),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TINY_TEMPLATE,
    )


def plain_model(processor, dtype=torch.float32, attn="sdpa", **text):
    """As transformers makes it: tiles of 2 x 2 patches, a tower of two blocks of which the second is not read."""
    torch.manual_seed(0)
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=TILE,
            patch_size=PATCH,
        ),
        text_config=LlamaConfig(
            **text_settings(vocab_size=len(processor.tokenizer), max_position_embeddings=4096, **text)
        ),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=[list(pair) for pair in processor.image_processor.image_grid_pinpoints],
        attn_implementation=attn,
    )
    return spread(LlavaNextForConditionalGeneration(config)).to(dtype).eval()


def build_llava_next(dtype=torch.float32, attn="sdpa", arithmetic="inference", **text):
    """The pair under the original rule."""
    processor = plain_processor()
    model = plain_model(processor, dtype, attn, **text)
    use_original_tiling(model, processor, arithmetic)
    return model, processor


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def samples():
    """A wide picture; text alone; pictures of two shapes in two turns; a strip of which no row of patches stays."""
    wide, square, tall, strip = picture(90, 40, 1), picture(30, 30, 2), picture(20, 75, 3), picture(300, 10, 4)
    return [
        Sample("wide", (Turn("user", f"{IMAGE}\nwhat is this?"), Turn("assistant", "a red dog on the grass")), (wide,)),
        Sample("text", (Turn("user", "what is this?"), Turn("assistant", "nothing but stripes"))),
        Sample(
            "two",
            (
                Turn("user", f"{IMAGE} what is this?"),
                Turn("assistant", "blue birds above a small house"),
                Turn("user", f"and here? {IMAGE}"),
                Turn("assistant", "a red house; nothing on the grass"),
            ),
            (square, tall),
        ),
        Sample("strip", (Turn("user", f"{IMAGE}\nwhat is this?"), Turn("assistant", "stripes and birds")), (strip,)),
    ]


def in_dtype(batch, dtype):
    """The batch with pixels of another precision."""
    pixels = batch.get("pixel_values")
    return batch if pixels is None else {**batch, "pixel_values": pixels.to(dtype)}
