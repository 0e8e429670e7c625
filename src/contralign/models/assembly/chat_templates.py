"""Chat templates of models put together from parts: the text they are trained on, as Jinja for a processor.

`contralign.data.text.templates` lays out training records; a test holds the two to each other. What the assistant says
is marked by `generation`, so `template: chat` learns the same tokens. The token that a text begins with is the
tokenizer's business, and not in them.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from contralign.models.convert.processors import GEMMA_TEMPLATE, vicuna_template


def chat_template_for(model_type: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """The template that conversations of a language model are written in: vicuna_v1 for LLaMA, gemma for Gemma."""
    return GEMMA_TEMPLATE if model_type == "gemma" else vicuna_template(tokenizer)
