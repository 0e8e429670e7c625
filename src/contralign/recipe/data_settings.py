"""What is trained on: the section `data` of a recipe.

A setting that would have no effect is an error, so that what a recipe says is what a run does.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge

from contralign.data.choices import ImageAspect, TemplateName
from contralign.recipe.schema import Positive, Share


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
    template: TemplateName = "chat"
    image_aspect: ImageAspect = "processor"
    max_length: Annotated[int, Ge(2)] | None = None
    sampler: Literal["random", "modality_length"] = "random"
    streaming: bool = False
    shuffle_buffer: Positive | None = None
    count: Positive | None = None
    on_bad: Literal["error", "skip"] = "error"
    swap_noise: Share = 0.0
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("train is empty: name at least one source")
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


def is_builtin(source: str) -> bool:
    """True for "set:split", False for a file."""
    return re.fullmatch(r"[a-z_]+:[a-z_0-9]+", source) is not None


def set_name(source: str) -> str:
    """Name of the built-in set in "set:split"."""
    return source.split(":")[0]
