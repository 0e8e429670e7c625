"""LLaVA-NeXT: `LlavaNextForConditionalGeneration` (training_spec, sections 2.4 and 5).

Any rule of tiles and counts that model and processor share is served; `use_original_tiling`
(`contralign.models.anyres.tiling`) makes it the released code's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contralign.core.sharding import runs_on_many_ranks
from contralign.models.adapters.adapter import counted_positions
from contralign.models.adapters.llava import LlavaAdapter


class LlavaNextAdapter(LlavaAdapter):
    """LLaVA whose pictures are several tiles and take as many tokens as their shape needs, newlines among them."""

    def embed(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        position_ids: Int[Tensor, "*axes batch seq"] | None,
        vision_inputs: Mapping[str, Any],
    ) -> tuple[Float[Tensor, "batch seq hidden"], Int[Tensor, "*axes batch seq"]]:
        """Look up the text, encode the pictures' tiles, put what the model packs of them in place.

        Id 0 is looked up at image tokens: an original Vicuna has no row for the image token's id.
        """
        image_mask = self.placeholder_mask(input_ids)
        embeds = self.model.get_input_embeddings()(input_ids.masked_fill(image_mask, 0))
        if "pixel_values" in vision_inputs:
            pictures = self._packed(vision_inputs)
            _check_counts(image_mask, [len(picture) for picture in pictures])
            features = torch.cat(pictures).to(embeds.device, embeds.dtype)
            embeds = embeds.masked_scatter(image_mask.unsqueeze(-1), features)
        elif bool(image_mask.any()):
            raise ValueError(
                f"{int(image_mask.sum())} image tokens and no pixel_values: give the pictures, or take the tokens out"
            )
        elif runs_on_many_ranks():
            embeds = embeds + 0 * self._blank_features(embeds).sum().to(embeds.device, embeds.dtype)
        return embeds, counted_positions(input_ids, position_ids)

    def _packed(self, vision_inputs: Mapping[str, Any]) -> list[Tensor]:
        if "image_sizes" not in vision_inputs:
            raise ValueError(
                f"the batch holds {sorted(vision_inputs)} and no image_sizes, on which the number of a picture's "
                "tiles and tokens depends: collate with the model's LlavaNextProcessor and keep all it returns"
            )
        return list(self.model.get_image_features(**vision_inputs).pooler_output)

    def _blank_features(self, like: Tensor) -> Tensor:
        """Features of an empty square: on a rank with text alone tower, projector and newline still take part."""
        side = self.model.config.vision_config.image_size
        most = 1 + max(height * width for height, width in self.model.config.image_grid_pinpoints) // side**2
        tiles = like.new_zeros(1, most, 3, side, side)  # the model takes as many as its grid for a square has
        sizes = torch.tensor([[side, side]], device=like.device)
        return torch.cat(self._packed({"pixel_values": tiles, "image_sizes": sizes}))


def _check_counts(image_mask: Bool[Tensor, "batch seq"], picture_tokens: list[int]) -> None:
    """Refuse pictures that do not fill the runs of image tokens one after the other, even where the sums agree."""
    after = image_mask.roll(-1, dims=1)
    after[:, -1] = False
    run_ends = image_mask.flatten().cumsum(0)[(image_mask & ~after).flatten()]
    picture_ends = torch.tensor(picture_tokens, device=image_mask.device).cumsum(0)
    num_tokens = int(image_mask.sum())
    if num_tokens != sum(picture_tokens) or not bool(torch.isin(run_ends, picture_ends).all()):
        raise ValueError(
            f"{num_tokens} image tokens in the batch (a row: {image_mask.sum(dim=1).tolist()}) but "
            f"{sum(picture_tokens)} image features (a picture: {picture_tokens}): were image tokens cut off by a "
            "maximum length, do pictures stand in another order than their tokens, or do processor and model follow "
            "different rules? Call contralign.models.anyres.tiling.use_original_tiling(model, processor) once both are "
            "loaded"
        )
