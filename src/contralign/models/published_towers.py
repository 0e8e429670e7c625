"""The vision towers of the released models: names on the hub, architectures, image statistics; no file is needed.

One place for all that makes, converts or recognises them (training_spec, sections 2.4, 3 and 4.2).
"""

from collections.abc import Mapping
from typing import Any

CLIP_L_336 = "openai/clip-vit-large-patch14-336"
CLIP_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
"""The tower of every LLaVA, and the low-resolution one of every Mini-Gemini: OpenAI's CLIP ViT-L/14-336."""

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_DEVIATION = [0.26862954, 0.26130258, 0.27577711]
"""Statistics of the pictures that OpenAI's CLIP was trained on; LAION's ConvNeXt has the same."""

CONVNEXT_L_320 = "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"
CONVNEXT_LARGE: dict[str, Any] = {"hidden_sizes": [192, 384, 768, 1536], "depths": [3, 3, 27, 3]}
"""The high-resolution tower of every Mini-Gemini: LAION's ConvNeXt-L (CLIP, d 320)."""


def is_built_as(config: Any, settings: Mapping[str, Any]) -> bool:
    """True for a configuration of this architecture; what a whole CLIP has behind its tower does not matter."""
    found = {name: getattr(config, name) for name in settings if name != "projection_dim"}
    return all((list(value) if isinstance(value, tuple) else value) == settings[name] for name, value in found.items())
