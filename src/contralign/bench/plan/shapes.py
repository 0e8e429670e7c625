"""What a vision-language model is to a cost model: the sizes of its matrices."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A LLaMA-shaped language model.

    Attributes:
        hidden: width of the residual stream.
        layers: number of decoder layers.
        heads: query heads.
        kv_heads: key and value heads.
        intermediate: width of the gated MLP (three matrices).
        vocab: rows of the vocabulary head.
        head_dim: width of one head; None is hidden / heads.
        tied: the head shares its matrix with the embeddings.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    head_dim: int | None = None
    tied: bool = False

    @property
    def attention_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * (self.head_dim or self.hidden // self.heads)

    @property
    def kv_weights(self) -> int:
        """Weights of one layer's key and value matrices."""
        return 2 * self.hidden * self.attention_width * self.kv_heads // self.heads

    @property
    def query_weights(self) -> int:
        """Weights of one layer's query matrix; the output matrix has as many."""
        return self.hidden * self.attention_width

    @property
    def down_weights(self) -> int:
        """Weights of the last of the three MLP matrices; each of them has as many."""
        return self.hidden * self.intermediate

    @property
    def layer_weights(self) -> int:
        """Weights of all matrices of one layer."""
        return self.kv_weights + 2 * self.query_weights + 3 * self.down_weights

    @property
    def head_weights(self) -> int:
        """Weights of the vocabulary head."""
        return self.hidden * self.vocab

    @property
    def parameters(self) -> int:
        """All weights but the norms (less than 0.01 %)."""
        return self.layers * self.layer_weights + self.head_weights * (1 if self.tied else 2)


@dataclass(frozen=True, kw_only=True)
class Tower:
    """A ViT read at an inner layer; the defaults are CLIP ViT-L/14 at 336 pixels, read one layer before the last.

    Attributes:
        hidden: width.
        layers: all layers run forward.
        read_layers: layers below the one that is read: only these have gradients.
        intermediate: width of the MLP (two matrices).
        side: pixels of a square tile.
        patch: pixels of a square patch.
    """

    hidden: int = 1024
    layers: int = 24
    read_layers: int = 23
    intermediate: int = 4096
    side: int = 336
    patch: int = 14

    @property
    def patches(self) -> int:
        """Patches of a tile."""
        return (self.side // self.patch) ** 2

    @property
    def patch_weights(self) -> int:
        """Weights of the matrix that embeds a patch."""
        return 3 * self.patch**2 * self.hidden

    @property
    def layer_weights(self) -> int:
        """Weights of all matrices of one layer."""
        return 4 * self.hidden**2 + 2 * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """All matrices."""
        return self.layers * self.layer_weights + self.patch_weights


@dataclass(frozen=True, kw_only=True)
class AuxTower:
    """Mini-Gemini's second, frozen tower (ConvNeXt-L) with the mining that reads it (training spec, section 4).

    Attributes:
        side: pixels of the square picture.
        widths: channels of the four stages.
        depths: blocks of the four stages.
        mined: width that keys and values are brought to.
    """

    side: int
    widths: tuple[int, ...] = (192, 384, 768, 1536)
    depths: tuple[int, ...] = (3, 3, 27, 3)
    mined: int = 1024

    @property
    def tower_products(self) -> int:
        """Multiplications of one forward run: depth-wise 7 x 7, two matrices a block, and the steps between stages."""
        total, below = 0, 3
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            places = (self.side // (4 * 2**stage)) ** 2
            window = 16 if stage == 0 else 4
            total += places * (depth * (49 * width + 8 * width**2) + window * below * width)
            below = width
        return total

    @property
    def mining_products(self) -> int:
        """Multiplications that make keys and values for one tile: 192 x 192 fine places, 8 x 8 for every patch."""
        return 2 * 192**2 * sum(self.widths) * self.mined

    @property
    def parameters(self) -> int:
        """Weights of the two matrices a block, which are nearly all."""
        return sum(8 * width**2 * depth for width, depth in zip(self.widths, self.depths, strict=True))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Token counts of one training sample with one picture, in the order prefix, picture, rest.

    Attributes:
        image: image tokens.
        text: all text tokens, before and after the picture.
        labels: text tokens that carry a label.
        prefix: text tokens before the picture, the same in every sample (system prompt).

    Raises:
        ValueError: counts that cannot be.
    """

    image: int
    text: int
    labels: int
    prefix: int = 0

    def __post_init__(self) -> None:
        if min(self.image, self.prefix) < 0 or self.text < 1 or not 1 <= self.labels <= self.text - self.prefix:
            raise ValueError(
                f"{self}: wanted at least one label, no more labels than text tokens after the prefix, "
                "and no negative count"
            )

    @property
    def all(self) -> int:
        """Tokens of the pass with the picture."""
        return self.image + self.text


@dataclass(frozen=True, kw_only=True)
class VLModel:
    """A vision-language model in one stage of its training; the defaults are those of instruction tuning.

    Attributes:
        name: as written on the command line.
        decoder: the language model.
        sample: token counts of the average sample.
        tower: the vision tower.
        tiles: pictures that the tower sees a sample; 0 leaves the tower and the projector out.
        train_tower: the tower has gradients.
        train_decoder: the language model's weights have gradients; False is alignment pre-training, whose backward pass
            still runs through all of it, to the projector.
        aux: a second, frozen tower.
        global_batch: samples an optimizer step.
        samples: samples of the one epoch.
        sharding: "zero3" gathers weights for every pass, "zero2" once a step.
    """

    name: str
    decoder: Decoder
    sample: Sample
    tower: Tower = Tower()
    tiles: int = 1
    train_tower: bool = False
    train_decoder: bool = True
    aux: AuxTower | None = None
    global_batch: int = 128
    samples: int = 665_298
    sharding: Literal["zero2", "zero3"] = "zero3"

    @property
    def projector_weights(self) -> int:
        """Weights of the projector's two matrices."""
        return self.decoder.hidden * (self.tower.hidden + self.decoder.hidden)

    @property
    def mining_weights(self) -> int:
        """Weights of the three matrices that mine the second tower."""
        return self.tower.hidden**2 + 2 * sum(self.aux.widths) * self.aux.mined if self.aux else 0

    @property
    def trained_parameters(self) -> int:
        """Weights with gradients and optimizer state."""
        decoder = self.train_decoder * self.decoder.parameters
        return decoder + self.projector_weights + self.mining_weights + self.train_tower * self.tower.parameters

    @property
    def frozen_parameters(self) -> int:
        """Weights without."""
        fine = self.aux.parameters if self.aux else 0
        decoder = (not self.train_decoder) * self.decoder.parameters
        return fine + decoder + (not self.train_tower) * self.tower.parameters
