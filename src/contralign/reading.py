"""Reading records twice without training: collated batches through both passes of a model in eval mode.

Evaluation counts on it, analysis shows it, scoring writes it down.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from contralign.batch import VLBatch
from contralign.contrast.base import Contrast
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.core.delta import Score
from contralign.core.passes import TwoLooks, look_twice, second_look
from contralign.data.collator import VLCollator
from contralign.data.encoded_batch import EncodedBatch
from contralign.data.messages import Sample
from contralign.models.adapter import Adapter, UnsupportedModel
from contralign.models.registry import adapter_for
from contralign.models.sharding import any_rank

logger = logging.getLogger(__name__)

SCORES: tuple[Score, ...] = ("logit", "logprob")
_PROOF_TOLERANCE = 0.02


class SampleReader:
    """A model and its collator: samples in, both passes of their label tokens out.

    Args:
        model: a model that `adapter_for` can serve; read in eval mode, its mode is put back.
        collator: of its processor.
        contrast: what the second pass sees; None is `without_picture` of the model.
        scores: which Δ to take.

    Raises:
        UnsupportedModel: no adapter serves the model, or the contrast is not right for it.
        ValueError: a contrast that degrades pictures, and a collator that does not keep them.
    """

    def __init__(
        self,
        model: Any,
        collator: VLCollator,
        contrast: Contrast | None = None,
        scores: Sequence[Score] = SCORES,
    ) -> None:
        self.adapter = adapter_for(model, collator.picture_inputs)
        self.collator = collator.with_scores(None)
        self.contrast = without_picture(self.adapter) if contrast is None else contrast
        if isinstance(self.contrast, DropImage):
            self.contrast = DropImage(pack=self.adapter.packs)
        self.scores = tuple(scores)
        self.adapter.check_contrast(self.contrast.name, num_tokens=0)
        if self.contrast.reencodes and not collator.keep_pictures:
            raise ValueError(
                f"contrast={self.contrast.name!r} degrades the original pictures: collate with keep_pictures=True"
            )
        self._proven = self.adapter.proven or self.contrast.name != "drop"

    def __call__(self, samples: Sequence[Sample], draw: int = 0) -> tuple[EncodedBatch, TwoLooks]:
        """One batch.

        Args:
            samples: ending with an answer.
            draw: number of the batch, for contrasts that draw at random.

        Raises:
            BadRecord: a bad sample under the collator's `on_bad="error"`.
            UnsupportedModel: rows too long for the contrast, or the first batch shows that "drop" is not right.
        """
        encoded = self.collator.encode_batch(samples)
        return encoded, self.look(encoded, draw)

    def look(self, encoded: EncodedBatch, draw: int = 0) -> TwoLooks:
        """Both passes over a collated batch; see `__call__`."""
        self.adapter.check_contrast(self.contrast.name, encoded.inputs["input_ids"].shape[1])
        device = self.adapter.model.device
        inputs = {
            name: value.to(device) if isinstance(value, Tensor) else value for name, value in encoded.inputs.items()
        }
        with torch.inference_mode(), second_look(self.adapter.model):
            batch = self.adapter.prepare(inputs, draw=draw)
            self._proven = self._proven or drop_is_proven(self.adapter, self.contrast, batch)
            return look_twice(self.adapter, self.contrast, batch, self.scores)

    def over(self, samples: Sequence[Sample], batch_size: int, label: str) -> Iterator[tuple[EncodedBatch, TwoLooks]]:
        """All samples in their order, `batch_size` at a time, under a progress bar called `label`."""
        starts = range(0, len(samples), batch_size)
        batches = [samples[start : start + batch_size] for start in starts]
        shown = tqdm(self.collated(batches), desc=label, total=len(batches), disable=None, dynamic_ncols=True)
        for number, encoded in enumerate(shown):
            yield encoded, self.look(encoded, draw=number)

    def collated(self, batches: Iterable[Sequence[Sample]]) -> Iterator[EncodedBatch]:
        """Every batch collated; while one is being looked at, a thread opens the pictures of the next."""
        with ThreadPoolExecutor(max_workers=1) as ahead:
            waiting: Future[EncodedBatch] | None = None
            for samples in batches:
                coming = ahead.submit(self.collator.encode_batch, samples)
                if waiting is not None:
                    yield waiting.result()
                waiting = coming
            if waiting is not None:
                yield waiting.result()


def without_picture(adapter: Adapter) -> Contrast:
    """The cheap contrast where it is known to equal hiding the image tokens, and hiding them where it is not."""
    is_sure = adapter.proven and adapter.window is None
    return DropImage() if is_sure or "mask" not in adapter.contrasts else MaskImage()


def contrast_settings(contrast: Contrast) -> dict[str, Any]:
    """A contrast as a score file names it: its word, and what a degraded picture was degraded with.

    "drop" and "mask" have no settings that could change Δ.
    """
    settings = asdict(contrast) if contrast.reencodes else {}  # type: ignore[call-overload]
    return {"contrast": contrast.name, "contrast_settings": settings}


def drop_is_proven(adapter: Adapter, contrast: Contrast, batch: VLBatch) -> bool:
    """Compare Δ of "drop" with that of "mask" on a batch, if a label of it sees a picture.

    Where parameters are sharded, all ranks compare in the same step, the first in which one of them can.

    Args:
        adapter: of the model; one that is not `proven` is asked for proof.
        contrast: "drop", packed or not.
        batch: from the adapter's `prepare`.

    Returns:
        False where there was nothing to compare yet.

    Raises:
        UnsupportedModel: they differ by more than 2 % of the largest |Δ| (of 1 where that is smaller).
    """
    together = adapter.sharded
    comparable = DropImage()(batch).row_index.numel() > 0
    if not (any_rank(comparable, batch.input_ids.device) if together else comparable):
        return False
    dropped = look_twice(adapter, contrast, batch).delta["logit"]
    masked = look_twice(adapter, MaskImage(), batch).delta["logit"]
    difference = float((dropped - masked).abs().max())
    scale = max(float(masked.abs().max()), 1.0)
    differs = not difference <= _PROOF_TOLERANCE * scale
    if any_rank(differs, batch.input_ids.device) if together else differs:
        raise UnsupportedModel(
            f"on the first batch Δ of contrast='drop' differs from that of 'mask' by {difference:.3g} (|Δ| up to "
            f"{scale:.3g}): this {type(adapter.model).__name__} does more than causal attention over its tokens. Use "
            "contrast='mask', or in training check_views=False if you know that dropping is right"
        )
    logger.info("contrast='drop' equals 'mask' on the first batch to %.2g", difference)
    return True
