"""Ovis 2: around every picture stand indicator tokens, which the model fills from its visual vocabulary."""

from transformers import PreTrainedModel

from contralign.models.adapters.adapter import PictureEncoder
from contralign.models.adapters.generic import GenericAdapter


class Ovis2Adapter(GenericAdapter):
    """Indicator tokens are part of the picture: what they hold in front of one is nothing that text alone has."""

    def __init__(self, model: PreTrainedModel, encode_pictures: PictureEncoder | None = None) -> None:
        super().__init__(model, encode_pictures)
        self.image_token_ids += list(model.config.visual_indicator_token_ids)
