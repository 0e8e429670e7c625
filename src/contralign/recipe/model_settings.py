"""What training starts from: the section `model` of a recipe, with its adapters and its precision.

A setting that would have no effect is an error, so that what a recipe says is what a run does.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt

from contralign.models.assembly.family_names import FamilyName, check_parts
from contralign.recipe.schema import Positive, Rate

Part = Literal["projector", "vision_tower", "language_model", "image_newline"]

TINY = "tiny"
PARTS = ("language_model", "vision_tower", "aux_tower")


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters on some of the parts that learn; merged into them at the end of every stage.

    Attributes:
        parts: the parts that get adapters in stages that train them; the other parts of a stage learn in full beside.
        r: rank.
        alpha: scale; the update is multiplied by alpha / r.
        dropout: dropout on the adapters' input; off in the contrast pass.
        target_modules: "all-linear" of these parts, or the last names of modules, such as q_proj.
    """

    parts: tuple[Part, ...] = ("language_model",)
    r: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        if not self.parts or not set(self.parts) <= {"language_model", "vision_tower"}:
            raise ValueError(f"parts={list(self.parts)}: wanted language_model, vision_tower, or both")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The model that training starts from: one that is there (`path`), or one put together from parts (`family`).

    Attributes:
        path: "tiny" builds the tiny LLaVA; anything else is a model directory or a name on the hub.
        family: put a model of this family together from the parts named below, once, into the run directory.
        language_model: of the family: a directory or a name on the hub.
        vision_tower: of the family: CLIP, likewise.
        aux_tower: of the family: the high-resolution ConvNeXt of Mini-Gemini, likewise.
        tokenizer: of the family, where it is not the language model's own: likewise.
        projector: of the family: trained before; a model directory, or a file such as mm_projector.bin. None starts a
            new one.
        shape: "tiny" takes the parts' architectures in small, with random weights and a tokenizer learnt from the texts
            of the stages: nothing is fetched. `model=tiny-shape` on the command line rehearses a whole recipe with it.
        tiny: keyword settings of the tiny LLaVA's builder.
        tokenizer_stages: stages from whose texts the tokenizer of a tiny model learns; empty is all. With the stages
            named that come before an ablation's cells part, cells of other texts share a tokenizer, and so a start.
        dtype: of the weights; with "float32", `trainer.bf16: true` computes in bfloat16 all the same. What learns is
            float32 while it does, so "bfloat16" is for what does not, and needs `trainer.bf16: true`.
        attn_implementation: attention of transformers, such as "sdpa" or "flash_attention_2"; None is its own choice.
        lora: adapters instead of the whole language model.
        quantization: of the language model's layers while adapters learn on them (QLoRA): "nf4", "int8" or "none". What
            is saved is dequantised. One process a model: not with FSDP or DeepSpeed.
        cache_features: encode every picture once: what the frozen vision tower gives is kept for all stages, arms and
            evaluations of this process.
        feature_gib: most memory for kept features; what goes beyond is encoded every time.
        feature_folder: keep features there too, for other runs and processes.
    """

    path: str | None = None
    family: FamilyName | None = None
    language_model: str | None = None
    vision_tower: str | None = None
    aux_tower: str | None = None
    tokenizer: str | None = None
    projector: str | None = None
    shape: Literal["full", "tiny"] = "full"
    tiny: dict[str, Any] = field(default_factory=dict)
    tokenizer_stages: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16"] = "float32"
    attn_implementation: str | None = None
    lora: LoraSettings | None = None
    quantization: Literal["none", "nf4", "int8"] = "none"
    cache_features: bool = False
    feature_gib: Rate = 2.0
    feature_folder: str | None = None

    def __post_init__(self) -> None:
        self._check_parts()
        if self.tiny and self.path != TINY:
            raise ValueError(f"tiny has no effect with {self.origin}: leave it out, or set path: {TINY}")
        if self.tokenizer_stages and not self.learns_tokenizer:
            raise ValueError(f"tokenizer_stages has no effect with {self.origin}, which has a tokenizer")
        if self.cache_features and self.path == TINY:
            raise ValueError(f"cache_features: the vision tower of path: {TINY} learns in a stage of its own")
        if not self.cache_features and (self.feature_folder is not None or self.feature_gib != 2.0):
            raise ValueError("feature_gib and feature_folder have no effect without cache_features: true")

    def _check_parts(self) -> None:
        if (self.path is None) == (self.family is None):
            raise ValueError(f"path={self.path!r} and family={self.family!r}: give one of them")
        if self.family is None:
            idle = [name for name in (*PARTS, "tokenizer", "projector") if getattr(self, name) is not None]
            idle += ["shape"] if self.shape != "full" else []
            if idle:
                raise ValueError(f"{' and '.join(idle)} has no effect with path={self.path!r}: set family instead")
            return
        for name in ("language_model", "vision_tower"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} is missing: family={self.family!r} is put together from parts")
        check_parts(self.family, self.aux_tower)
        if self.shape == "tiny":
            idle = [name for name in ("tokenizer", "projector") if getattr(self, name) is not None]
            if idle:
                raise ValueError(f"{' and '.join(idle)} has no effect with shape: tiny, whose own is new")

    @property
    def is_made(self) -> bool:
        """True where a run has to make its start model before it can train."""
        return self.family is not None or self.path == TINY

    @property
    def learns_tokenizer(self) -> bool:
        """True where the start model's tokenizer is learnt from the texts of the stages."""
        return self.path == TINY or self.shape == "tiny"

    @property
    def origin(self) -> str:
        """What training starts from, in words."""
        return f"path={self.path!r}" if self.family is None else f"family={self.family!r} of {self.language_model}"

    @property
    def parts(self) -> dict[str, Any]:
        """Family and parts, as the functions of `contralign.models.assembly.assemble` take them."""
        return {"family": self.family, **{name: getattr(self, name) for name in PARTS}}
