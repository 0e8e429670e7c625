"""The word that stands for a picture in the text of all models that are made here, and the rows it takes."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

IMAGE_TOKEN = "<image>"
PAD_TO_MULTIPLE_OF = 64
"""The vocabulary grows to a multiple of this: 32064 rows for Vicuna's 32000."""


def add_image_token(tokenizer: PreTrainedTokenizerFast) -> int:
    """Give the tokenizer the word `<image>`, behind its own words unless it has it already; returns its id."""
    if IMAGE_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]}, replace_extra_special_tokens=False)
    return tokenizer.get_vocab()[IMAGE_TOKEN]


def padded_vocab_size(image_token_id: int, rows: int) -> int:
    """Rows of a vocabulary of `rows` words once the image token can be looked up in it."""
    return rows if image_token_id < rows else -(-(image_token_id + 1) // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
