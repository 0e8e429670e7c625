"""The projector of Mini-Gemini, modules named as in transformers' LLaVA."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import ACT2FN

from contralign.models.mini_gemini.configuration import MiniGeminiConfig


class MiniGeminiMultiModalProjector(nn.Module):
    """From the width of patches to that of words: linear, activation, linear."""

    def __init__(self, config: MiniGeminiConfig) -> None:
        super().__init__()
        vision: Any = config.vision_config
        text: Any = config.text_config
        self.linear_1 = nn.Linear(vision.hidden_size, text.hidden_size)
        self.act = ACT2FN[config.projector_hidden_act]
        self.linear_2 = nn.Linear(text.hidden_size, text.hidden_size)

    def forward(self, features: Float[Tensor, "*places width"]) -> Float[Tensor, "*places hidden"]:
        """One word-like vector for every patch."""
        return self.linear_2(self.act(self.linear_1(features)))
