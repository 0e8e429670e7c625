"""The tower that sees the picture large: the trunk of a CLIP ConvNeXt, all four of its stages read (spec 4.2)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import ConvNextConfig
from transformers.models.convnext.modeling_convnext import ConvNextEmbeddings, ConvNextEncoder, ConvNextPreTrainedModel


class _NoAttention(ConvNextPreTrainedModel):
    """Takes every attention implementation, which is chosen for all parts of a model at once: it has no attention."""

    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True


class MiniGeminiAuxStages(ConvNextEncoder, _NoAttention):
    """The stages behind the stem."""


class MiniGeminiAuxTower(_NoAttention):
    """A ConvNeXt without a head: no pooling and no norm behind its stages, whose raw outputs make one map.

    Parameters have the names they have in `ConvNextModel`, less the final norm, which the original does not hold.
    """

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__(config)
        self.embeddings = ConvNextEmbeddings(config)
        self.encoder = MiniGeminiAuxStages(config)
        self.post_init()

    def stages(self, pixel_values: Float[Tensor, "pictures channels height width"]) -> list[Tensor]:
        """What every stage gives: (pictures, its width, height / 4, width / 4), the next ones half the side before."""
        features = self.embeddings(pixel_values.to(self.embeddings.patch_embeddings.weight.dtype))
        outputs = []
        for stage in self.encoder.stages:
            features = stage(features)
            outputs.append(features)
        return outputs

    def forward(
        self, pixel_values: Float[Tensor, "pictures channels height width"]
    ) -> Float[Tensor, "pictures widths rows columns"]:
        """The stages beside each other in channels, the coarser ones enlarged to the finest bilinearly in float32."""
        finest, *coarser = self.stages(pixel_values)
        return torch.cat([finest, *(_enlarged(stage, finest) for stage in coarser)], dim=1)


def _enlarged(stage: Tensor, like: Tensor) -> Tensor:
    size = (like.shape[-2], like.shape[-1])
    return F.interpolate(stage.float(), size=size, mode="bilinear", align_corners=False).to(stage.dtype)
