"""Chat templates of models put together from parts: the text that they are trained on, as Jinja for a processor.

`contralign.data.templates` lays out training records; a test holds the two to each other. What the assistant says is
marked by `generation`, so `template: chat` learns the same tokens. The token that a text begins with is the tokenizer's
business, and not in them.
"""

from __future__ import annotations

from contralign.models.spoken_content import SAY

VICUNA = (
    SAY
    + """\
{%- if messages[0]['role'] == 'system' -%}{{ say(messages[0]['content']) + ' ' }}
{%- else -%}{{ "A chat between a curious user and an artificial intelligence assistant. \
The assistant gives helpful, detailed, and polite answers to the user's questions. " }}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ 'ASSISTANT:' }}{%- generation -%}{{ ' ' + say(message['content']) + '</s>' }}{%- endgeneration -%}
{%- elif message['role'] == 'user' -%}{{ 'USER: ' + say(message['content']) + ' ' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""
)
"""`vicuna_v1` (spec 2.2)."""

GEMMA = (
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

CHAT_TEMPLATES: dict[str, str] = {"llama": VICUNA, "gemma": GEMMA}
"""Model type of a language model -> template that its conversations are written in."""
