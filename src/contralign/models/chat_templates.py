"""Chat templates of the models that are made or converted here: Jinja text for a processor.

`contralign.data.text.templates` writes training records in the same form; a test holds the two to each other. What the
assistant says is marked by `generation`, so `template: chat` learns the same tokens. A text or a list of text and image
parts is the content of a turn.
"""

# GAP is a space where the tokenizer puts none behind <image>: the original tokenises the text behind an image alone,
# and there its tokenizer puts one in front.
_IMAGES_FIRST = """\
{%- macro say(content) -%}
{%- if content is string -%}{{ content }}
{%- else -%}
{%- for part in content if part['type'] == 'image' -%}{{ '<image>GAP\\n' }}{%- endfor -%}
{%- for part in content if part['type'] != 'image' -%}{{ part['text'] }}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
"""
_IN_ORDER = """
{%- macro say(content) -%}
{%- if content is string -%}{{ content }}
{%- else -%}{%- for part in content -%}
{%- if part['type'] == 'image' -%}{{ '<image>\n' }}{%- else -%}{{ part['text'] | trim }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endmacro -%}
"""

_VICUNA_SYSTEM = """\
{%- if messages[0]['role'] != 'system' -%}
{{ "A chat between a curious user and an artificial intelligence assistant. " }}
{{- "The assistant gives helpful, detailed, and polite answers to the user's questions. " }}
{%- endif -%}
"""
_VICUNA_TURNS = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ 'ASSISTANT:' }}{%- generation -%}{{ ' ' + say(message['content']) + eos_token }}{%- endgeneration -%}
{%- elif message['role'] == 'system' -%}{{ say(message['content']) + ' ' }}
{%- else -%}{{ 'USER: ' + say(message['content']) + ' ' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""

VICUNA_TEMPLATE = _IMAGES_FIRST + _VICUNA_SYSTEM + _VICUNA_TURNS
"""The original's `vicuna_v1` (spec 2.2), but for GAP; see `contralign.models.convert.processors.vicuna_template`."""

GEMMA_TEMPLATE = (
    _IMAGES_FIRST.replace("GAP", "")
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
"""The original's `gemma` (spec 2.2), which MGM-2B is trained on."""

TINY_TEMPLATE = _IN_ORDER + "{{- bos_token -}}\n" + _VICUNA_TURNS
"""Vicuna's turns without its system prompt."""

# SmolLM2's default system prompt (22 tokens, as many as an image and its caption) is left out; a chat may bring one.
SMOL_TEMPLATE = (
    _IN_ORDER
    + """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ say(message['content']) + '<|im_end|>' }}{%- endgeneration -%}
{%- else -%}{{ say(message['content']) + '<|im_end|>' }}
{%- endif -%}
{{- '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""
)
"""SmolLM2's own turns."""
