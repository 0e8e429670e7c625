"""LLaVA-NeXT: `LlavaNextForConditionalGeneration` (training_spec, sections 2.4 and 5).

Any rule of tiles and counts that model and processor share is served; `contralign.models.use_original_tiling`
makes it the released code's.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from contralign.models.adapters.llava import LlavaAdapter


class LlavaNextAdapter(LlavaAdapter):
    """LLaVA whose pictures are several tiles and take as many tokens as their shape needs, newlines among them."""

    def _image_features(self, vision_inputs: Mapping[str, Any]) -> list[Tensor]:
        if "image_sizes" not in vision_inputs:
            raise ValueError(
                f"the batch holds {sorted(vision_inputs)} and no image_sizes, on which the number of a picture's "
                "tiles and tokens depends: collate with the model's LlavaNextProcessor and keep all it returns"
            )
        return super()._image_features(vision_inputs)

    def _blank_features(self, like: Tensor) -> Tensor:
        """Features of an empty square: on a rank with text alone tower, projector and newline still take part."""
        side = self.model.config.vision_config.image_size
        most = 1 + max(height * width for height, width in self.model.config.image_grid_pinpoints) // side**2
        tiles = like.new_zeros(1, most, 3, side, side)  # the model takes as many as its grid for a square has
        sizes = torch.tensor([[side, side]], device=like.device)
        return torch.cat(self._image_features({"pixel_values": tiles, "image_sizes": sizes}))

    def _check_counts(self, image_mask: Tensor, counts: list[int], num_pictures: int) -> None:
        """Refuse pictures that do not fill the runs of image tokens one after the other, even where the sums agree."""
        after = image_mask.roll(-1, dims=1)
        after[:, -1] = False
        run_ends = image_mask.flatten().cumsum(0)[(image_mask & ~after).flatten()]
        picture_ends = torch.tensor(counts, device=image_mask.device).cumsum(0)
        num_tokens = int(image_mask.sum())
        if num_tokens != sum(counts) or not bool(torch.isin(run_ends, picture_ends).all()):
            raise ValueError(
                f"{num_tokens} image tokens in the batch (a row: {image_mask.sum(dim=1).tolist()}) but "
                f"{sum(counts)} image features (a picture: {counts}): were image tokens cut off by a maximum "
                "length, do pictures stand in another order than their tokens, or do processor and model follow "
                "different rules? Call contralign.models.use_original_tiling(model, processor) once both are loaded"
            )
