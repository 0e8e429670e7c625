"""The smol model with tiny random parts: the same architecture, tokenizer form and processor in two layers each."""

from __future__ import annotations

import torch
from PIL import Image
from transformers import InternVLVisionConfig, InternVLVisionModel, LlamaConfig, LlamaForCausalLM
from worlds.small_models import spread, text_settings

from contralign.models.small.smol import IMAGE_TOKEN, assemble
from contralign.models.small.tiny import train_tokenizer

TEXTS = ["what do you see?", "it is a red sheet.", "it is a green sheet.", "it is a blue sheet.", "user", "assistant"]
TURN_TOKENS = ["<|im_start|>", "<|im_end|>"]


def small_tokenizer():
    """A BPE with SmolLM2's turn tokens and no word for pictures yet counted by a language model."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=400, max_length=256)
    tokenizer.add_tokens(TURN_TOKENS, special_tokens=True)
    tokenizer.bos_token, tokenizer.eos_token = TURN_TOKENS
    assert tokenizer.image_token == IMAGE_TOKEN
    return tokenizer


def small_parts(image_size=56, tie=True):
    """A language model that lacks the tokenizer's last two words, its tokenizer, and a tower of 4 x 4 patches."""
    tokenizer = small_tokenizer()
    words = text_settings(vocab_size=len(tokenizer) - 2, tie_word_embeddings=tie)
    sight = InternVLVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        attention_bias=True,
        image_size=image_size,
        patch_size=14,
        layer_scale_init_value=1.0,
        use_mean_pooling=True,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**words)), tokenizer, InternVLVisionModel(sight)


def small_smol(tie=True):
    """A model whose words depend on the picture by several units, and its processor: 4 image tokens a picture."""
    language_model, tokenizer, tower = small_parts(tie=tie)
    model, processor = assemble(language_model, tokenizer, tower)
    return spread(model, head=1.0 if tie else 4.0).eval(), processor


def sheet(colour, size=56):
    return Image.new("RGB", (size, size), colour)


def told(processor, colours=("red", "green", "blue")):
    """A batch of pictures, each told by its colour, with labels on what the assistant says."""
    chats = [
        [
            {"role": "user", "content": [{"type": "image", "image": sheet(colour)}, _text("what do you see?")]},
            {"role": "assistant", "content": [_text(f"it is a {colour} sheet.")]},
        ]
        for colour in colours
    ]
    batch = processor.apply_chat_template(
        chats,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"padding": True},
    )
    spoken = torch.as_tensor(batch.pop("assistant_masks")).bool()
    batch["labels"] = batch["input_ids"].masked_fill(~spoken, -100)
    return dict(batch)


def _text(words):
    return {"type": "text", "text": words}
