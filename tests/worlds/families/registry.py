"""All families by name, in the order of docs/models.md. A new one: its file beside this one, and a line here."""

from __future__ import annotations

from worlds.families import cohere, gemma, idefics, internvl, lfm2_vl, llama, llava, mistral3, ovis2, qwen, video_llama3
from worlds.families.family import Family

GROUPS = (llava, video_llama3, ovis2, qwen, idefics, internvl, gemma, mistral3, cohere, lfm2_vl, llama)
FAMILIES: dict[str, Family] = {family.name: family for group in GROUPS for family in group.FAMILIES}
