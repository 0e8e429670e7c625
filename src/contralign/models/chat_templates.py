"""Chat templates of models put together from parts: the text they are trained on, as Jinja for a processor.

`contralign.data.templates` lays out training records; a test holds the two to each other. What the assistant says is
marked by `generation`, so `template: chat` learns the same tokens. The token that a text begins with is the tokenizer's
business, and not in them.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from contralign.models.convert.processors import vicuna_template
from contralign.models.spoken_content import SAY

GEMMA_TEMPLATE = (
    SAY
    + """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ '<start_of_turn>model\\n' }}
{%- generation -%}{{ say(message['content']) + '<end_of_turn>\\n<eos>' }}{%- endgeneration -%}
{%- elif message['role'] == 'user' -%}
{{ '<start_of_turn>user\\n' + say(message['content']) + '<end_of_turn>\\n' }}
{%- else -%}{{ raise_exception('gemma has no place for a turn of the ' + message['role']) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""
)
"""`gemma` (spec 2.2): no system turn."""


def chat_template_for(model_type: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """The template that conversations of a language model are written in: vicuna_v1 for LLaMA, gemma for Gemma."""
    return GEMMA_TEMPLATE if model_type == "gemma" else vicuna_template(tokenizer)
