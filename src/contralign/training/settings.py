"""The sections of a recipe: one frozen dataclass each, every default and every check beside the setting it is about.

A setting that would have no effect is an error, so that what a recipe says is what a run does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from contralign.data.aspect import ImageAspect
from contralign.models.family_names import FamilyName, check_parts

Part = Literal["projector", "vision_tower", "language_model", "image_newline"]
Template = Literal["chat", "plain", "vicuna_v1", "gemma"]
Schedule = Literal["cosine", "linear", "constant", "constant_with_warmup"]

TINY = "tiny"
PARTS = ("language_model", "vision_tower", "aux_tower")
ALONE = {"text": "language_model", "tower": "vision_tower"}
"""Kinds of stages in which one part of the tiny LLaVA learns by itself."""
ALONE_SETTINGS = ("kind", "steps", "epochs", "learning_rate", "batch_size", "warmup", "data")


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
    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        at_least("r", self.r, 1)
        at_least("alpha", self.alpha, 1)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout}: wanted a share in [0, 1)")
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
    feature_gib: float = 2.0
    feature_folder: str | None = None

    def __post_init__(self) -> None:
        self._check_parts()
        if self.tiny and self.path != TINY:
            raise ValueError(f"tiny has no effect with {self.origin}: leave it out, or set path: {TINY}")
        if self.tokenizer_stages and not self.learns_tokenizer:
            raise ValueError(f"tokenizer_stages has no effect with {self.origin}, which has a tokenizer")
        if self.cache_features and self.path == TINY:
            raise ValueError(f"cache_features: the vision tower of path: {TINY} learns in a stage of its own")
        if not self.feature_gib > 0:
            raise ValueError(f"feature_gib={self.feature_gib}: wanted a number above 0")
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
        """Family and parts, as the functions of `contralign.models.assembly` take them."""
        return {"family": self.family, **{name: getattr(self, name) for name in PARTS}}


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Records, and how they become token ids and pictures.

    Attributes:
        train: sources in order: "set:split" of a built-in set, or JSON / JSONL files.
        eval: sources held out; evaluations run on them.
        image_root: picture folder of every file in `train` and `eval`, or one for all.
        settings: keyword settings of built-in sets, by set and by source: `scenes: {glyphs: 200}` holds for all its
            splits, `scenes:train: {count: 4000}` for one.
        pictures: false leaves the pictures out and trains on the text alone, so that a language model learns the manner
            of the captions before it learns to look.
        template: how a conversation is written: the model's own chat template, or one of LLaVA's.
        image_aspect: what is done to a picture that is not square, before the processor sees it.
        max_length: tokens of a record, image tokens included; longer records are cut. None cuts nothing.
        sampler: order of the training records: "random", or "modality_length", LLaVA's batches of one modality and of
            about one length.
        streaming: read the training records as they come, for sets larger than the disk or the memory; `eval` is read
            whole. See docs/streaming.md.
        shuffle_buffer: records of a stream that one is drawn from; 1 keeps the order inside of files. None is 1000.
        count: records of a stream, as far as known: what `epochs` of a stage is counted by.
        on_bad: what a broken record does: "error" ends the run, "skip" counts it in bad_records.json.
        swap_noise: share of training records that get another record's picture (figure 3).
        noise_seed: seed of the swaps; None takes the recipe's seed.
    """

    train: tuple[str, ...]
    eval: tuple[str, ...] = ()
    image_root: tuple[str, ...] = ()
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    pictures: bool = True
    template: Template = "chat"
    image_aspect: ImageAspect = "processor"
    max_length: int | None = None
    sampler: Literal["random", "modality_length"] = "random"
    streaming: bool = False
    shuffle_buffer: int | None = None
    count: int | None = None
    on_bad: Literal["error", "skip"] = "error"
    swap_noise: float = 0.0
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("train is empty: name at least one source")
        if self.max_length is not None:
            at_least("max_length", self.max_length, 2)
        if not 0 <= self.swap_noise <= 1:
            raise ValueError(f"swap_noise={self.swap_noise}: wanted a share in [0, 1]")
        if self.noise_seed is not None and self.swap_noise == 0:
            raise ValueError(f"noise_seed={self.noise_seed} has no effect with swap_noise=0: leave it out")
        if self.swap_noise and not self.pictures:
            raise ValueError(f"swap_noise={self.swap_noise} has no effect with pictures: false")
        self._check_streaming()
        self._check_roots_and_settings()

    def _check_streaming(self) -> None:
        for name in ("shuffle_buffer", "count"):
            value = getattr(self, name)
            if value is not None and not self.streaming:
                raise ValueError(f"{name}={value} has no effect without streaming: true")
            if value is not None:
                at_least(name, value, 1)
        if not self.streaming:
            return
        if self.sampler != "random":
            raise ValueError(f"sampler={self.sampler!r} needs all lengths before the first step: not with streaming")
        if self.swap_noise:
            raise ValueError(f"swap_noise={self.swap_noise} pairs records of the whole set: not with streaming")
        made = [source for source in self.train if is_builtin(source)]
        if made:
            raise ValueError(f"train: {made[0]} is a built-in set, made in memory: not with streaming")

    def _check_roots_and_settings(self) -> None:
        sources = (*self.train, *self.eval)
        files = [source for source in sources if not is_builtin(source)]
        if self.image_root and not files:
            raise ValueError("image_root has no effect: every source is a built-in set, which brings its pictures")
        if len(self.image_root) > 1 and len(self.image_root) != len(files):
            raise ValueError(
                f"image_root has {len(self.image_root)} folders for {len(files)} files: give one, or one a file"
            )
        used = [source for source in sources if is_builtin(source)]
        for name in self.settings:
            if name not in used and name not in map(set_name, used):
                raise ValueError(f"settings.{name} has no effect: train and eval have no such built-in set: {used}")

    def source_settings(self, source: str) -> dict[str, Any]:
        """Keyword settings of one built-in source: those of its set, changed by its own."""
        return {**self.settings.get(set_name(source), {}), **self.settings.get(source, {})}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of training with one optimizer.

    Attributes:
        kind: "align" trains on pictures with text. Two kinds give the tiny LLaVA what real parts know: "text" trains
            its language model on the chats alone, "tower" its vision tower to tell which words go with a picture.
        train: the parts that learn; the others are frozen.
        steps: optimizer steps; give this or `epochs`.
        epochs: passes over the records.
        learning_rate: peak learning rate.
        vision_learning_rate: of the vision tower, where it is another; same schedule.
        projector_learning_rate: of the projector, where it is another; same schedule.
        batch_size: records a device and a micro-batch.
        grad_accumulation: micro-batches a step.
        global_batch: records a step, on all devices together; accumulation then follows from their number.
        warmup: below 1 a share of the steps, from 1 on a number of steps.
        schedule: of the learning rate.
        weight_decay: of AdamW, on matrices only.
        max_grad_norm: the gradient's norm is clipped to it; 0 clips nothing, as the released recipes do.
        on_nan: what a step whose loss or gradient is NaN or infinite does: "stop" ends the run and names its records,
            "skip" leaves the step out, and ends the run after five in a row. It may change with --resume.
        cal: train with CAL; the first such stage is where the arms part.
        data: settings of `data` that differ in this stage.
    """

    kind: Literal["align", "text", "tower"] = "align"
    train: tuple[Part, ...] = ()
    steps: int | None = None
    epochs: float | None = None
    learning_rate: float
    vision_learning_rate: float | None = None
    projector_learning_rate: float | None = None
    batch_size: int
    grad_accumulation: int = 1
    global_batch: int | None = None
    warmup: float = 0.0
    schedule: Schedule = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    on_nan: Literal["stop", "skip"] = "stop"
    cal: bool = False
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_length()
        for name in ("learning_rate", "vision_learning_rate", "projector_learning_rate"):
            rate = getattr(self, name)
            if rate is not None and not rate > 0:
                raise ValueError(f"{name}={rate}: wanted a number above 0")
        at_least("batch_size", self.batch_size, 1)
        at_least("grad_accumulation", self.grad_accumulation, 1)
        if self.global_batch is not None:
            self._check_global_batch(self.global_batch)
        for name in ("warmup", "weight_decay", "max_grad_norm"):
            at_least(name, getattr(self, name), 0)
        if self.warmup and self.schedule == "constant":
            raise ValueError(f"warmup={self.warmup} has no effect with schedule='constant': set constant_with_warmup")
        if self.kind == "align":
            self._check_align()
        else:
            self._check_alone()

    def _check_length(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"steps={self.steps} and epochs={self.epochs}: give one of them")
        if self.steps is not None:
            at_least("steps", self.steps, 1)
        if self.epochs is not None and not self.epochs > 0:
            raise ValueError(f"epochs={self.epochs}: wanted a number above 0")

    def _check_alone(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in ALONE_SETTINGS and value != item.default:
                raise ValueError(
                    f"{item.name}={value} has no effect with kind={self.kind!r}, which trains the "
                    f"{ALONE[self.kind]} by itself: leave it out"
                )

    def _check_align(self) -> None:
        if not self.train:
            raise ValueError("train is empty: name the parts that learn, such as [projector, language_model]")
        if len(set(self.train)) != len(self.train):
            raise ValueError(f"train={list(self.train)} names a part twice")
        if self.vision_learning_rate is not None and "vision_tower" not in self.train:
            raise ValueError("vision_learning_rate has no effect: vision_tower is not in train")
        if self.projector_learning_rate is not None and "projector" not in self.train:
            raise ValueError("projector_learning_rate has no effect: projector is not in train")

    def _check_global_batch(self, global_batch: int) -> None:
        if self.grad_accumulation != 1:
            raise ValueError(
                f"grad_accumulation={self.grad_accumulation} has no effect with global_batch={global_batch}, from "
                "which it follows: leave one of them out"
            )
        if global_batch < 1 or global_batch % self.batch_size:
            raise ValueError(f"global_batch={global_batch}: wanted a multiple of batch_size ({self.batch_size})")

    def accumulation(self, world: int) -> int:
        """Micro-batches a step on `world` devices.

        Raises:
            ValueError: they cannot share `global_batch`; the message says what can.
        """
        if self.global_batch is None:
            return self.grad_accumulation
        micro_batches = self.global_batch // self.batch_size
        if micro_batches % world == 0:
            return micro_batches // world
        shares = self.global_batch // world if self.global_batch % world == 0 else 0
        batches = [size for size in range(1, shares + 1) if shares % size == 0]
        devices = [number for number in range(1, micro_batches + 1) if micro_batches % number == 0]
        fitting = f", or batch_size {_listed(batches)} on {world}" if batches else ""
        raise ValueError(
            f"global_batch={self.global_batch} in batches of {self.batch_size} cannot be shared by {world} devices: "
            f"take {_listed(devices)} of them{fitting}"
        )

    @property
    def part_rates(self) -> dict[Part, float]:
        """Peak learning rates of the parts that have their own."""
        rates: dict[Part, float | None] = {
            "vision_tower": self.vision_learning_rate,
            "projector": self.projector_learning_rate,
        }
        return {part: rate for part, rate in rates.items() if rate is not None}


def is_builtin(source: str) -> bool:
    """True for "set:split", False for a file."""
    return re.fullmatch(r"[a-z_]+:[a-z_0-9]+", source) is not None


def set_name(source: str) -> str:
    """Name of the built-in set in "set:split"."""
    return source.split(":")[0]


def at_least(name: str, value: float, low: float) -> None:
    """Refuse a `value` below `low`.

    Raises:
        ValueError: it is below.
    """
    if not value >= low:
        raise ValueError(f"{name}={value}: wanted {low} or more")


def _listed(numbers: list[int]) -> str:
    """1, 2 or 4."""
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last
