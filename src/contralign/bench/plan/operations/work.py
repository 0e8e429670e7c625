"""Operations and bytes, the two things that a part of a step costs."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Work:
    """What one part of a step costs.

    Attributes:
        flops: operations of matrix products; a multiply and an add are two.
        bytes: traffic to and from memory that is not part of a matrix product. Counted for the logits and the optimizer
            alone: norms, activations and the like go with the tokens, as the products do, and are left to utilisation.
    """

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, factor: float) -> Work:
        return Work(self.flops * factor, self.bytes * factor)


@dataclass(frozen=True, kw_only=True)
class SampleCost:
    """Work of one training sample by part.

    Attributes:
        vision_forward: towers, mining and projector.
        vision_backward: the same, with what checkpointing computes again.
        decoder_forward: language model, picture and text.
        decoder_recompute: what checkpointing computes again.
        decoder_backward: gradients of inputs and weights.
        head: vocabulary head and loss, forward and backward.
        contrast_decoder: language model of the pass without the picture.
        contrast_head: vocabulary head of that pass.
    """

    vision_forward: Work
    vision_backward: Work
    decoder_forward: Work
    decoder_recompute: Work
    decoder_backward: Work
    head: Work
    contrast_decoder: Work = Work()
    contrast_head: Work = Work()

    @property
    def forward(self) -> Work:
        """The pass with the picture, with the head and the loss."""
        return self.vision_forward + self.decoder_forward + self.head

    @property
    def backward(self) -> Work:
        """All that follows it."""
        return self.vision_backward + self.decoder_recompute + self.decoder_backward

    @property
    def contrast(self) -> Work:
        """The pass without the picture."""
        return self.contrast_decoder + self.contrast_head

    @property
    def total(self) -> Work:
        """All parts."""
        return sum((getattr(self, part.name) for part in fields(self)), Work())
