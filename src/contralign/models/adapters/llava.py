"""LLaVA-1.5: `LlavaForConditionalGeneration` (training_spec, section 5)."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contralign.core.sharding import runs_on_many_ranks
from contralign.models.adapters.adapter import Adapter, counted_positions


class LlavaAdapter(Adapter):
    """Text embeddings with projected image features in the places of the image tokens, read by a causal decoder."""

    def placeholder_mask(self, input_ids: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
        """True where the id is the configuration's image token."""
        return input_ids == self.model.config.image_token_id

    def embed(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        position_ids: Int[Tensor, "*axes batch seq"] | None,
        vision_inputs: Mapping[str, Any],
    ) -> tuple[Float[Tensor, "batch seq hidden"], Int[Tensor, "*axes batch seq"]]:
        """Look up the text, encode the pictures, put their features in place.

        Id 0 is looked up at image tokens: an original Vicuna has no row for the image token's id.
        """
        image_mask = self.placeholder_mask(input_ids)
        embeds = self.model.get_input_embeddings()(input_ids.masked_fill(image_mask, 0))
        if "pixel_values" in vision_inputs:
            features = self._image_features(vision_inputs)
            self._check_counts(image_mask, [len(picture) for picture in features], len(vision_inputs["pixel_values"]))
            in_one = torch.cat(features).to(embeds.device, embeds.dtype)
            embeds = embeds.masked_scatter(image_mask.unsqueeze(-1), in_one)
        elif bool(image_mask.any()):
            raise ValueError(
                f"{int(image_mask.sum())} image tokens and no pixel_values: give the pictures, or take the tokens out"
            )
        elif runs_on_many_ranks():
            embeds = embeds + 0 * self._blank_features(embeds).sum().to(embeds.device, embeds.dtype)
        return embeds, counted_positions(input_ids, position_ids)

    def logits(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """The linear head; LLaVA puts nothing behind it."""
        return self.model.get_output_embeddings()(hidden)

    def _image_features(self, vision_inputs: Mapping[str, Any]) -> list[Tensor]:
        """Projected features, (tokens, hidden) each, in the order of their image tokens."""
        return list(self.model.get_image_features(**vision_inputs).pooler_output)

    def _blank_features(self, like: Tensor) -> Tensor:
        """Features of an empty picture: on a rank with text alone, tower and projector still take part in the step."""
        side = self.model.config.vision_config.image_size
        picture = like.new_zeros(1, 3, side, side)  # not like a parameter, of which this rank may hold a shard
        return torch.cat(self._image_features({"pixel_values": picture}))

    def _check_counts(self, image_mask: Tensor, counts: list[int], num_pictures: int) -> None:
        num_tokens, num_features = int(image_mask.sum()), sum(counts)
        if num_tokens != num_features:
            raise ValueError(
                f"{num_tokens} image tokens in the batch (a row: {image_mask.sum(dim=1).tolist()}) but {num_features} "
                f"image features from {num_pictures} pictures: were image tokens cut off by a maximum length, or is "
                "the processor's patch_size / num_additional_image_tokens another than the model's?"
            )
