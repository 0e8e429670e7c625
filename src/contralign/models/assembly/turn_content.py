"""A piece of the chat templates of the small models: what is said in a turn."""

SAY = """
{%- macro say(content) -%}
{%- if content is string -%}{{ content }}
{%- else -%}{%- for part in content -%}
{%- if part['type'] == 'image' -%}{{ '<image>\n' }}{%- else -%}{{ part['text'] | trim }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endmacro -%}
"""
"""Jinja macro `say(content)` for text, or a list of text and image parts; a picture is "<image>" and a new line."""
