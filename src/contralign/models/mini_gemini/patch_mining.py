"""Patch info mining: every patch of the small picture asks the part of the large one that it shows (spec 4.3)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class MiniGeminiPatchMining(nn.Module):
    """Attention of one head from each patch to its window of the large picture's map; nothing crosses windows.

    Args:
        patch_width: channels of the small picture's patches; also of queries, keys and values.
        map_width: channels of the large picture's map.
    """

    gradient_checkpointing = False

    def __init__(self, patch_width: int, map_width: int) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.LayerNorm(patch_width), nn.Linear(patch_width, patch_width))
        self.key = nn.Sequential(nn.LayerNorm(map_width), nn.Linear(map_width, patch_width))
        self.value = nn.Sequential(nn.LayerNorm(map_width), nn.Linear(map_width, patch_width))

    def forward(
        self,
        patches: Float[Tensor, "pictures patches width"],
        feature_map: Float[Tensor, "pictures channels rows columns"],
    ) -> Float[Tensor, "pictures patches width"]:
        """What each patch finds; the caller adds it to the patch.

        With activation checkpointing the windows, by far the largest tensors here, are made again in the backward.
        """
        if self.gradient_checkpointing and self.training:
            return checkpoint(self._mine, patches, feature_map, use_reentrant=False)
        return self._mine(patches, feature_map)

    def _mine(self, patches: Tensor, feature_map: Tensor) -> Tensor:
        seen = windows(feature_map, patches_per_side=round(patches.shape[1] ** 0.5))
        queries, keys, values = self.query(patches).unsqueeze(2), self.key(seen), self.value(seen)
        scores = queries @ (keys.transpose(-1, -2) / keys.shape[-1] ** 0.5)
        return (scores.nan_to_num().softmax(dim=-1) @ values).squeeze(2)


def windows(
    feature_map: Float[Tensor, "pictures channels rows columns"], patches_per_side: int
) -> Float[Tensor, "pictures patches places channels"]:
    """The map cut in as many windows as there are patches, both row by row; so are the places in a window."""
    pictures, channels, rows, columns = feature_map.shape
    high, wide = rows // patches_per_side, columns // patches_per_side
    cut = feature_map.reshape(pictures, channels, patches_per_side, high, patches_per_side, wide)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(pictures, patches_per_side**2, high * wide, channels)


def map_parts(
    feature_map: Float[Tensor, "pictures channels rows columns"], grid: int
) -> Float[Tensor, "pictures parts channels rows_a_part columns_a_part"]:
    """The maps that belong to the whole small picture and to its crops, in this order.

    Without crops the whole's is the map itself. With them it is the map made smaller by `grid`, bilinearly and in
    float32, and a crop's is its part of the map, row by row.
    """
    if grid == 1:
        return feature_map.unsqueeze(1)
    pictures, channels, rows, columns = feature_map.shape
    whole = F.interpolate(feature_map.float(), scale_factor=1 / grid, mode="bilinear", align_corners=False)
    cut = feature_map.reshape(pictures, channels, grid, rows // grid, grid, columns // grid)
    crops = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    return torch.cat([whole.to(feature_map.dtype).unsqueeze(1), crops], dim=1)
