"""What a Mini-Gemini is made of, and the choices in which its published versions differ (spec, section 4)."""

# No `from __future__ import annotations` here: `strict` checks no field whose type is text.
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from contralign.models.published_towers import CLIP_LARGE, CONVNEXT_LARGE

GELUS = {"tanh": "gelu_pytorch_tanh", "exact": "gelu_python"}
"""Gemma's two activations by their names in transformers, which reads a plain "gelu" in a Gemma as tanh."""

LARGE_SIDE = 768
"""Pixels of a side of the large picture; twice as many in HD."""


@strict
class MiniGeminiConfig(PreTrainedConfig):
    """Configuration of a Mini-Gemini: two towers, patch info mining between them, a projector and a language model.

    Args:
        text_config: of the language model: Llama (Vicuna) or Gemma.
        vision_config: of the CLIP tower, which sees the picture small.
        aux_config: of the ConvNeXt tower, which sees it large; its `image_size` is the side of the large picture.
        image_token_id: id that stands for one image token; None takes the first behind the vocabulary (32000 for
            Vicuna, 256000 for Gemma). It needs no row: the forward never looks it up.
        image_grid: 1; 2 is the HD version: the small picture is cut in 2 x 2 crops beside the whole.
        vision_feature_layer: hidden state of the CLIP tower that is read, without its class token.
        projector_hidden_act: of the projector; the original's GELU is the exact one.
        scale_image_features: multiply projected features by √hidden_size. A Gemma scales its input by that factor. The
            transformers that Mini-Gemini was trained with did so to all that the model read, image features included;
            today's do it where words are looked up, so that the features have to be scaled by us. None: as the
            original, on for Gemma and off for all others. With the original's weights for Gemma it has to be on; a
            projector trained from the start learns either scale.
        text_gelu: activation of a Gemma: "tanh", with which Google trained it, or "exact". The original ran what its
            transformers made of Gemma's "gelu": the exact one in 4.38.0 to 4.38.2, tanh later, and which of them
            trained the published weights is not known (logits differ by about 1e-3 on tiny weights). None leaves
            `text_config.hidden_act`, which is tanh in a Gemma.
        aux_drop_path: largest rate of stochastic depth in the ConvNeXt; it grows linearly from 0 over the blocks. 0.1
            as the original, whose tower is frozen but in training mode, so that its features are noisy in training.
            In CAL both passes share the features, and Δ has no such noise. 0 turns it off.
        tie_word_embeddings: one matrix for the embedding and the head; taken over from the language model.
        original_settings: config.json of the original checkpoint that the model was converted from, for the way back.
        original_aux_tower: digest of the ConvNeXt that came with it.

    Raises:
        ValueError: settings that do not fit each other.
    """

    model_type = "mini_gemini"

    sub_configs_defaults = {  # noqa: RUF012 (a ClassVar in the base class)
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model", init_kwargs=CLIP_LARGE),
        "aux_config": SubConfigSpec(
            config_class=AutoConfig, model_type="convnext", init_kwargs={**CONVNEXT_LARGE, "image_size": LARGE_SIDE}
        ),
    }

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    aux_config: dict | PreTrainedConfig | None = None
    image_token_id: int | None = None
    image_grid: Literal[1, 2] = 1
    vision_feature_layer: int = -2
    projector_hidden_act: str = "gelu"
    scale_image_features: bool | None = None
    text_gelu: Literal["tanh", "exact"] | None = None
    aux_drop_path: float | int = 0.1
    tie_word_embeddings: bool = False
    original_settings: dict | None = None
    original_aux_tower: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.aux_config is None and self.image_grid > 1:
            self.aux_config = {**CONVNEXT_LARGE, "image_size": LARGE_SIDE * self.image_grid}
        super().__post_init__(**kwargs)
        text: Any = self.text_config
        if self.image_token_id is None:
            self.image_token_id = text.vocab_size
        if self.scale_image_features is None:
            self.scale_image_features = text.model_type == "gemma"
        self.tie_word_embeddings = self.tie_word_embeddings or text.tie_word_embeddings
        self._set_gelu()
        self._set_drop_path()
        self._check_sizes()

    @property
    def patches_per_side(self) -> int:
        """Patches along a side of what the CLIP tower sees: 24 of the published ones."""
        vision: Any = self.vision_config
        return vision.image_size // vision.patch_size

    @property
    def image_seq_length(self) -> int:
        """Tokens of one picture: 576 of the published ones, and 2880 in HD, where the whole goes before its crops."""
        pictures = 1 if self.image_grid == 1 else self.image_grid**2 + 1
        return pictures * self.patches_per_side**2

    def _set_gelu(self) -> None:
        text: Any = self.text_config
        if self.text_gelu is None:
            return
        if text.model_type != "gemma":
            raise ValueError(
                f"text_gelu={self.text_gelu!r} is a choice of Gemma, and text_config is {text.model_type}: leave it out"
            )
        text.hidden_act = GELUS[self.text_gelu]

    def _set_drop_path(self) -> None:
        aux: Any = self.aux_config
        if not 0 <= self.aux_drop_path < 1:
            raise ValueError(f"aux_drop_path={self.aux_drop_path}: wanted a rate, 0 or more and less than 1")
        if aux.drop_path_rate not in (0, self.aux_drop_path):
            raise ValueError(
                f"aux_config has drop_path_rate={aux.drop_path_rate} and aux_drop_path is {self.aux_drop_path}: set "
                "aux_drop_path alone"
            )
        aux.drop_path_rate = self.aux_drop_path

    def _check_sizes(self) -> None:
        aux: Any = self.aux_config
        cells = self.image_grid * self.patches_per_side
        if aux.image_size % aux.patch_size or (aux.image_size // aux.patch_size) % cells:
            raise ValueError(
                f"a large picture of {aux.image_size} gives a map of {aux.image_size / aux.patch_size:g} places a "
                f"side, which the small one's {cells} patches do not divide: wanted an aux_config.image_size that is "
                f"a multiple of {aux.patch_size * cells}"
            )
