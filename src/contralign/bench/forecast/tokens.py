"""How many tokens a record has: measured where the processor is here, estimated or assumed where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from contralign.batch import IGNORE_INDEX
from contralign.bench.plan.models import GEMMA_PREFIX, LABELS, TEXT, V1_PREFIX
from contralign.data.batches.collator import VLCollator
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.images import open_image
from contralign.data.records.messages import IMAGE, Sample
from contralign.models.anyres.tiling import best_grid, num_tokens

MEASURED = 32
"""Records whose pictures are opened to measure."""

TOKENS_A_WORD = 1.35
"""Of English in LLaMA's tokenizer (assumption); of a turn's frame, two more."""

PLAIN = {"text": 30, "labels": 28}
"""Of a caption of LLaVA's pre-training (assumption)."""

USUAL_PICTURE = (640, 480)
"""COCO's size, the most common one: assumed for anyres where no picture is at hand."""

PREFIXES = {"vicuna_v1": V1_PREFIX, "gemma": GEMMA_PREFIX}
"""Text tokens before the first picture, by template."""


@dataclass(frozen=True, kw_only=True)
class RecordTokens:
    """Mean lengths of a record.

    Attributes:
        image: image tokens; None where only the model's processor could say, and it is not here.
        text: all other tokens.
        labels: those of `text` with a label.
        tiles: pictures that the vision tower sees.
        how: where the numbers are from.
    """

    image: float | None
    text: float
    labels: float
    tiles: float
    how: str

    @property
    def all(self) -> float:
        """Tokens that the language model reads."""
        return (self.image or 0.0) + self.text


def measure(samples: Sequence[Sample], collate: VLCollator, image_token_id: int) -> RecordTokens | None:
    """Lengths of some records, read as training will read them; None where not one can be.

    Args:
        samples: records of the stage.
        collate: of the stage.
        image_token_id: of the model.
    """
    counts = []
    for sample in samples[:: -(-len(samples) // MEASURED)] if samples else ():
        try:
            batch = collate.encode_batch([sample])
        except (BadRecord, OSError):
            continue
        if batch.samples[0] is None:
            continue
        ids, labels = batch.inputs["input_ids"], batch.inputs["labels"]
        image = int((ids == image_token_id).sum())
        counts.append((image, ids.numel() - image, int((labels != IGNORE_INDEX).sum()), _tiles(batch.inputs)))
    if not counts:
        return None
    image, text, label, tiles = (fmean(column) for column in zip(*counts, strict=True))
    how = f"measured on {len(counts)} records"
    return RecordTokens(image=image, text=text, labels=label, tiles=tiles, how=how)


def estimate(samples: Sequence[Sample], config: Any, template: str, max_length: int | None = None) -> RecordTokens:
    """Lengths without a processor: words for tokens, and pictures by the rule of the family.

    Args:
        samples: records that were looked at; none at all are replaced by assumptions (docs/plan.md).
        config: of the model.
        template: of the stage.
        max_length: of the stage: text beyond it is cut.
    """
    image, tiles = _of_pictures(samples, config)
    if not samples:
        assumed = PLAIN if template == "plain" else {"text": TEXT, "labels": LABELS}
        return RecordTokens(image=image, tiles=tiles, how="assumed (docs/plan.md)", **assumed)
    answers = [_words(sample, "assistant", template) for sample in samples]
    asked = [0.0 if template == "plain" else _words(sample, "user", template) for sample in samples]
    whole = [PREFIXES.get(template, 1) + answer + question for answer, question in zip(answers, asked, strict=True)]
    left = [1.0 if max_length is None else min(1.0, max_length / length) for length in whole]
    text = fmean(length * share for length, share in zip(whole, left, strict=True))
    labels = fmean(answer * share for answer, share in zip(answers, left, strict=True))
    how = f"estimated from {len(samples)} records, {TOKENS_A_WORD} tokens a word (no tokenizer here)"
    return RecordTokens(image=image, text=text, labels=max(1.0, labels), tiles=tiles, how=how)


def _words(sample: Sample, role: str, template: str) -> float:
    turns = [turn.text.replace(IMAGE, " ").split() for turn in sample.turns if turn.role == role]
    return sum(TOKENS_A_WORD * len(words) + (1 if template == "plain" else 2) for words in turns)


def _of_pictures(samples: Sequence[Sample], config: Any) -> tuple[float | None, float]:
    """Image tokens of a record, and tiles that the tower sees."""
    sizes = [[_size(picture) for picture in sample.pictures] for sample in samples[:LIMIT]] or [[USUAL_PICTURE]]
    each = [[_of_picture(size, config) for size in row] for row in sizes]
    if any(found is None for row in each for found in row):
        return None, 0.0
    whole = [[found for found in row if found is not None] for row in each]
    tokens = fmean(sum(found[0] for found in row) for row in whole)
    return tokens, fmean(sum(found[1] for found in row) for row in whole)


LIMIT = 200


def _size(picture: Any) -> tuple[int, int]:
    try:
        return open_image(picture).size
    except BadRecord:
        return USUAL_PICTURE


def _of_picture(size: tuple[int, int], config: Any) -> tuple[int, int] | None:
    """Image tokens and tiles of one picture; None for a family whose processor alone knows."""
    if config.model_type == "llava":
        return (config.vision_config.image_size // config.vision_config.patch_size) ** 2, 1
    if config.model_type == "mini_gemini":
        return config.image_seq_length, 1 if config.image_grid == 1 else config.image_grid**2 + 1
    if config.model_type == "llava_next":
        tower = config.vision_config
        columns, rows = best_grid(size, tower.image_size)
        return num_tokens(size, tower.image_size, tower.patch_size), 1 + columns * rows
    return None


def _tiles(inputs: dict[str, Any]) -> int:
    """Tiles in a batch; (pictures, tiles, …) where there are several a picture, else one each."""
    pixels = inputs.get("pixel_values")
    if not isinstance(pixels, torch.Tensor):
        return 0
    return pixels.shape[0] * (pixels.shape[1] if pixels.dim() == 5 else 1)
