"""The image token in the text of all models that are made here, and its row in the vocabulary."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

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


@torch.no_grad()
def grow_vocabulary(model: PreTrainedModel, rows: int) -> int:
    """Rows for new words in the embeddings and in the head: the mean of the others, so that none is ever likely.

    Returns:
        How many rows were added.
    """
    before: int = model.config.get_text_config().vocab_size
    if rows <= before:
        return 0
    model.resize_token_embeddings(rows, mean_resizing=False)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert module is not None
        (weight,) = module.parameters()
        weight[before:] = weight[:before].float().mean(dim=0).to(weight.dtype)
    return rows - before
