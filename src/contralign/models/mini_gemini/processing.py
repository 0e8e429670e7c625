"""Text and pictures together: `<image>` becomes as many tokens as the picture takes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from transformers.processing_utils import MultiModalData, ProcessorMixin

from contralign.models.decoder.image_token import IMAGE_TOKEN, add_image_token
from contralign.models.mini_gemini.configuration import MiniGeminiConfig
from contralign.models.mini_gemini.image_processing import MiniGeminiImageProcessor


class MiniGeminiProcessor(ProcessorMixin):
    """A tokenizer and a `MiniGeminiImageProcessor`.

    Args:
        image_processor: it says how large the small picture is and how it is cut.
        tokenizer: with one token for `image_token`; see `for_config`.
        patch_size: of the CLIP tower.
        chat_template: Jinja text for `apply_chat_template`.
        image_token: stands for a picture in the text.

    Raises:
        ValueError: the tokenizer takes the image token for several.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        patch_size: int = 14,
        chat_template: str | None = None,
        image_token: str = IMAGE_TOKEN,
    ) -> None:
        self.patch_size = patch_size
        self.image_token = image_token
        ids = tokenizer.encode(image_token, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(
                f"the tokenizer reads {image_token!r} as {len(ids)} tokens: wanted one; add it with "
                f"tokenizer.add_tokens([{image_token!r}], special_tokens=True)"
            )
        self.image_token_id = ids[0]
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def for_config(cls, config: MiniGeminiConfig, tokenizer: Any, **image_settings: Any) -> MiniGeminiProcessor:
        """The processor of a model; a tokenizer without `<image>` gets it, as an added special token.

        Args:
            config: of the model.
            tokenizer: of its language model; changed in place.
            image_settings: for the image processor, such as `do_pad=True`.

        Raises:
            ValueError: the image token's id is not the one in `config`.
        """
        vision: Any = config.vision_config
        add_image_token(tokenizer)
        images = MiniGeminiImageProcessor.for_config(config, **image_settings)
        processor = cls(images, tokenizer, patch_size=vision.patch_size)
        if processor.image_token_id != config.image_token_id:
            raise ValueError(
                f"<image> has the id {processor.image_token_id} in the tokenizer and image_token_id is "
                f"{config.image_token_id} in the config: give the config the tokenizer's"
            )
        return processor

    def replace_image_token(self, image_inputs: Mapping[str, Any], image_idx: int, **kwargs: Any) -> str:
        """As many image tokens as patches in all small pictures: 576 at true size, 2880 in HD."""
        *slots, _, height, width = image_inputs["pixel_values"][image_idx].shape
        return self.image_token * (prod(slots) * (height // self.patch_size) * (width // self.patch_size))

    def _get_num_multimodal_tokens(self, image_sizes: Any = None, **kwargs: Any) -> MultiModalData:
        if image_sizes is None:
            return MultiModalData()
        grid = self.image_processor.image_grid
        slots = 1 if grid == 1 else grid**2 + 1
        tokens = slots * (self.image_processor.low_res_size // self.patch_size) ** 2
        return MultiModalData(num_image_tokens=[tokens] * len(image_sizes), num_image_patches=[1] * len(image_sizes))
