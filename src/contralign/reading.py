"""Both passes of a model over collated batches, in eval mode: what evaluation, analysis and scoring share."""

import logging
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from contralign.batch import VLBatch
from contralign.contrast.base import Contrast
from contralign.contrast.drop import DropImage, Words
from contralign.contrast.mask import MaskImage
from contralign.contrast.mean import MeanPicture
from contralign.core.passes import PassComparison, compare_passes, eval_no_grad
from contralign.core.settings import Score
from contralign.core.sharding import any_rank
from contralign.data.batches.collator import VLCollator
from contralign.data.batches.encoded_batch import EncodedBatch
from contralign.data.records.messages import Sample
from contralign.description import describe, is_own
from contralign.models.adapters.adapter import REMOVING_CONTRASTS, Adapter, UnsupportedModel
from contralign.models.adapters.registry import adapter_for

logger = logging.getLogger(__name__)

SCORES: tuple[Score, ...] = ("logit", "logprob")
_PROOF_TOLERANCE = 0.02
_SETTLING_SAMPLES, _SETTLING_BATCH = 64, 8


class SampleReader:
    """Runs both passes over samples: Δ, loss and more of their label tokens.

    Args:
        model: a model that `adapter_for` serves; put into eval mode for each batch, and back.
        collator: of its processor.
        contrast: of the second pass; None is `default_contrast` of the model, and "mask" if the first batch shows that
            to be wrong.
        scores: forms of Δ to compute.

    Raises:
        UnsupportedModel: no adapter serves the model, or the contrast is not right for it.
        ValueError: a contrast that degrades pictures, with a collator that does not keep them.
    """

    def __init__(
        self, model: Any, collator: VLCollator, contrast: Contrast | None = None, scores: Sequence[Score] = SCORES
    ) -> None:
        self.adapter = adapter_for(model, collator.image_inputs)
        self.collator = collator.with_scores(None)
        chosen = default_contrast(self.adapter) if contrast is None else contrast
        self.contrast = adapt_contrast(chosen, self.adapter, collator.tokenizer)
        self.scores = tuple(scores)
        self.adapter.check_contrast(self.contrast.name, num_tokens=0)
        if self.contrast.reencodes and not collator.keep_pictures:
            raise ValueError(
                f"contrast={self.contrast.name!r} degrades the original pictures: collate with keep_pictures=True"
            )
        self._proven = is_proven(self.adapter, self.contrast)
        self._may_hide = contrast is None and "mask" in self.adapter.contrasts

    def __call__(self, samples: Sequence[Sample], draw: int = 0) -> tuple[EncodedBatch, PassComparison]:
        """Collate one batch and run both passes over it.

        Args:
            samples: ending with an answer.
            draw: number of the batch, which seeds contrasts that draw at random.

        Raises:
            BadRecord: a bad sample under the collator's `on_bad="error"`.
            UnsupportedModel: rows too long for the contrast, or the first batch shows that "drop" is not right.
        """
        encoded = self.collator.encode_batch(samples)
        return encoded, self.look(encoded, draw)

    def look(self, encoded: EncodedBatch, draw: int = 0) -> PassComparison:
        """Run both passes over a collated batch; see `__call__`."""
        self.adapter.check_contrast(self.contrast.name, encoded.inputs["input_ids"].shape[1])
        with torch.inference_mode(), eval_no_grad(self.adapter.model):
            batch = self._prepared(encoded, draw)
            self._proven = self._proven or self._drop_is_proven(batch)
            return compare_passes(self.adapter, self.contrast, batch, self.scores)

    def read_batches(
        self, samples: Sequence[Sample], batch_size: int, label: str
    ) -> Iterator[tuple[EncodedBatch, PassComparison]]:
        """Yield every batch of the samples in order, with both passes, under a progress bar called `label`.

        Raises:
            ValueError: "shuffle" with batches of one.
        """
        check_batch_size(self.contrast, batch_size)
        self.fix_mean(samples)
        batches = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
        shown = tqdm(self.collated(batches), desc=label, total=len(batches), disable=None, dynamic_ncols=True)
        for number, encoded in enumerate(shown):
            yield encoded, self.look(encoded, draw=number)

    def fix_mean(self, samples: Sequence[Sample]) -> None:
        """Set the running mean of contrast "mean" from 64 random samples with pictures, unless it has one already.

        So it depends neither on the batch size nor on where a killed run resumed. Other contrasts: nothing.
        """
        if not isinstance(self.contrast, MeanPicture) or self.contrast.running.batches:
            return
        drawn = random.Random("mean picture").sample(range(len(samples)), len(samples))
        chosen = list(islice((samples[index] for index in drawn if samples[index].pictures), _SETTLING_SAMPLES))
        collator = self.collator.with_own_counts()
        for start in range(0, len(chosen), _SETTLING_BATCH):
            encoded = collator.encode_batch(chosen[start : start + _SETTLING_BATCH])
            with torch.inference_mode(), eval_no_grad(self.adapter.model):
                self.contrast.observe(self._prepared(encoded))

    def _drop_is_proven(self, batch: VLBatch) -> bool:
        """`drop_is_proven`; if "drop" is wrong and was only the default, use "mask"."""
        try:
            return drop_is_proven(self.adapter, batch)
        except UnsupportedModel as error:
            if not self._may_hide:
                raise
            logger.warning("%s. Reading goes on with 'mask'", error)
            self.contrast = MaskImage()
            return True

    def _prepared(self, encoded: EncodedBatch, draw: int = 0) -> VLBatch:
        return self.adapter.prepare(send_to_device(encoded.inputs, self.adapter.model.device), draw=draw)

    def collated(self, batches: Iterable[Sequence[Sample]]) -> Iterator[EncodedBatch]:
        """Yield every batch collated; a thread prepares the next one meanwhile."""
        with ThreadPoolExecutor(max_workers=1) as ahead:
            waiting: deque[Future[EncodedBatch]] = deque()
            for samples in batches:
                waiting.append(ahead.submit(self.collator.encode_batch, samples))
                if len(waiting) > 1:
                    yield waiting.popleft().result()
            for last in waiting:
                yield last.result()


def default_contrast(adapter: Adapter) -> Contrast:
    """The cheap "drop" if it is known to equal "mask" on this model, else "mask".

    It is for LLaVA and for the classes measured in docs/models.md; if the adapter is not `proven`, the first batch is
    checked all the same.
    """
    is_sure = (adapter.proven or adapter.verified) and adapter.window is None
    return DropImage() if is_sure or "mask" not in adapter.contrasts else MaskImage()


def contrast_settings(contrast: Contrast) -> dict[str, Any]:
    """A contrast as a score file names it: its word, and those of its settings that are set and change Δ.

    One that is not contralign's own is named with its class, and with its package where that adds names to contralign.

    Raises:
        ValueError: its settings are not plain, so that another one could not be told from it.
    """
    told = describe(contrast)
    if told["settings"] is None:
        raise ValueError(
            f"contrast={contrast!r}: a score file has to name its settings, and not all of them are plain numbers, "
            "texts, lists or mappings: make it a dataclass, with field(compare=False) for what changes no Δ"
        )
    settings = {name: value for name, value in told.pop("settings").items() if name != "pack" and value is not None}
    return {"contrast": contrast.name, "contrast_settings": settings if is_own(contrast) else {**told, **settings}}


def adapt_contrast(contrast: Contrast, adapter: Adapter, tokenizer: Any) -> Contrast:
    """A contrast set up for a model: packing if the model allows it, and the embeddings of a prompt.

    The tokenizer is needed for a prompt alone.

    Raises:
        ValueError: a prompt without a tokenizer, without tokens, or with the model's image token in it.
    """
    if not isinstance(contrast, DropImage | MeanPicture):
        return contrast
    if isinstance(contrast, MeanPicture) or contrast.prompt is None:
        return replace(contrast, pack=adapter.supports_packing)
    ids = _prompt_ids(contrast.prompt, adapter, tokenizer)

    def words() -> Words:
        here = ids.to(adapter.model.device)
        return here, adapter.embed_text(here)

    return replace(contrast, pack=adapter.supports_packing, words=words)


def _prompt_ids(prompt: str, adapter: Adapter, tokenizer: Any) -> Tensor:
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ValueError(
            f"prompt={prompt!r} has to be cut into tokens: pass processor=... (CALTrainer: processing_class=...)"
        )
    ids = torch.tensor(tokenizer(prompt, add_special_tokens=False)["input_ids"], dtype=torch.long)
    if not len(ids):
        raise ValueError(f"prompt={prompt!r} has no tokens: wanted a short text such as 'an image'")
    if bool(adapter.placeholder_mask(ids.unsqueeze(0)).any()):
        raise ValueError(f"prompt={prompt!r} holds the model's image token: wanted words alone")
    return ids


def check_batch_size(contrast: Contrast, batch_size: int) -> None:
    """Refuse "shuffle" with batches of one, where no row can get another row's picture.

    Raises:
        ValueError: these.
    """
    if contrast.name == "shuffle" and batch_size < 2:
        raise ValueError(
            f"contrast='shuffle' with batch_size={batch_size}: rows exchange pictures inside their batch; wanted 2 or "
            "more"
        )


def is_proven(adapter: Adapter, contrast: Contrast) -> bool:
    """True if image tokens may be taken out without a check by `drop_is_proven`."""
    return adapter.proven or contrast.name not in REMOVING_CONTRASTS


def drop_is_proven(adapter: Adapter, batch: VLBatch) -> bool:
    """Check on a batch that Δ of "drop" equals Δ of "mask", so that image tokens may be taken out.

    "mean" and "shuffle" rest on this as well. Autocast is off: in bfloat16, rounding alone exceeds the tolerance. With
    sharded parameters all ranks compare in the same step, the first in which one of them can.

    Returns:
        False if no label of the batch has a picture before it: there is nothing to compare yet.

    Raises:
        UnsupportedModel: they differ by more than 2 % of the largest |Δ|, or of 1 if that is larger.
    """
    together = adapter.sharded
    comparable = DropImage()(batch).row_index.numel() > 0
    if not (any_rank(comparable, batch.input_ids.device) if together else comparable):
        return False
    with torch.autocast(batch.input_ids.device.type, enabled=False):
        dropped = compare_passes(adapter, DropImage(pack=adapter.supports_packing), batch).delta["logit"]
        masked = compare_passes(adapter, MaskImage(), batch).delta["logit"]
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
