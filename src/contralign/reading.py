"""Reading records twice without training: collated batches through both passes of a model in eval mode.

Evaluation counts on it, analysis shows it, scoring writes it down.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from contralign.batch import VLBatch
from contralign.contrast.base import Contrast
from contralign.contrast.drop import DropImage, Words
from contralign.contrast.mask import MaskImage
from contralign.contrast.mean import MeanPicture
from contralign.core.passes import TwoLooks, look_twice, second_look
from contralign.core.settings import Score
from contralign.core.sharding import any_rank
from contralign.data.batches.collator import VLCollator
from contralign.data.batches.encoded_batch import EncodedBatch
from contralign.data.records.messages import Sample
from contralign.description import describe, is_own
from contralign.models.adapters.adapter import TAKING_OUT, Adapter, UnsupportedModel
from contralign.models.adapters.registry import adapter_for

logger = logging.getLogger(__name__)

SCORES: tuple[Score, ...] = ("logit", "logprob")
_PROOF_TOLERANCE = 0.02
_SETTLING_SAMPLES, _SETTLING_BATCH = 64, 8


class SampleReader:
    """A model and its collator: samples in, both passes of their label tokens out.

    Args:
        model: a model that `adapter_for` can serve; read in eval mode, its mode is put back.
        collator: of its processor.
        contrast: what the second pass sees; None is `without_picture` of the model, and hiding the image tokens if the
            first batch shows that to be wrong.
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
        chosen = without_picture(self.adapter) if contrast is None else contrast
        self.contrast = fitted(chosen, self.adapter, collator.tokenizer)
        self.scores = tuple(scores)
        self.adapter.check_contrast(self.contrast.name, num_tokens=0)
        if self.contrast.reencodes and not collator.keep_pictures:
            raise ValueError(
                f"contrast={self.contrast.name!r} degrades the original pictures: collate with keep_pictures=True"
            )
        self._proven = is_proven(self.adapter, self.contrast)
        self._may_hide = contrast is None and "mask" in self.adapter.contrasts

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
        with torch.inference_mode(), second_look(self.adapter.model):
            batch = self._prepared(encoded, draw)
            self._proven = self._proven or self._drop_is_proven(batch)
            return look_twice(self.adapter, self.contrast, batch, self.scores)

    def over(self, samples: Sequence[Sample], batch_size: int, label: str) -> Iterator[tuple[EncodedBatch, TwoLooks]]:
        """All samples in their order, `batch_size` at a time, under a progress bar called `label`.

        Raises:
            ValueError: "shuffle" on batches of one, whose picture nobody can be given.
        """
        check_batch_size(self.contrast, batch_size)
        self.settle(samples)
        starts = range(0, len(samples), batch_size)
        batches = [samples[start : start + batch_size] for start in starts]
        shown = tqdm(self.collated(batches), desc=label, total=len(batches), disable=None, dynamic_ncols=True)
        for number, encoded in enumerate(shown):
            yield encoded, self.look(encoded, draw=number)

    def settle(self, samples: Sequence[Sample]) -> None:
        """Fix the mean of "mean", unless something was observed already; nothing for other contrasts.

        It is that of 64 samples with pictures, drawn from all of them: neither the size of batches nor where reading
        began changes it.
        """
        if not isinstance(self.contrast, MeanPicture) or self.contrast.running.batches:
            return
        drawn = random.Random("mean picture").sample(range(len(samples)), len(samples))
        chosen = list(islice((samples[index] for index in drawn if samples[index].pictures), _SETTLING_SAMPLES))
        collator = self.collator.apart()
        for start in range(0, len(chosen), _SETTLING_BATCH):
            encoded = collator.encode_batch(chosen[start : start + _SETTLING_BATCH])
            with torch.inference_mode(), second_look(self.adapter.model):
                self.contrast.observe(self._prepared(encoded))

    def _drop_is_proven(self, batch: VLBatch) -> bool:
        """As `drop_is_proven`; where nobody asked for "drop", image tokens are hidden if it is not right."""
        try:
            return drop_is_proven(self.adapter, batch)
        except UnsupportedModel as error:
            if not self._may_hide:
                raise
            logger.warning("%s. Reading goes on with 'mask'", error)
            self.contrast = MaskImage()
            return True

    def _prepared(self, encoded: EncodedBatch, draw: int = 0) -> VLBatch:
        device = self.adapter.model.device
        inputs = {
            name: value.to(device) if isinstance(value, Tensor) else value for name, value in encoded.inputs.items()
        }
        return self.adapter.prepare(inputs, draw=draw)

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
    """The cheap contrast where it is known to equal hiding the image tokens, and hiding them where it is not.

    That is so for LLaVA and for the classes that docs/models.md has measured; where an adapter is not `proven`, the
    first batch is to show it all the same.
    """
    is_sure = (adapter.proven or adapter.measured) and adapter.window is None
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


def fitted(contrast: Contrast, adapter: Adapter, tokenizer: Any) -> Contrast:
    """The contrast as a model takes it: packed where it may be, and a prompt in the model's own words.

    Args:
        contrast: as it was named.
        adapter: of the model.
        tokenizer: of the model; None does where there is no prompt.

    Raises:
        ValueError: a prompt without a tokenizer, without tokens, or with the model's image token in it.
    """
    if isinstance(contrast, MeanPicture):
        return replace(contrast, pack=adapter.packs)
    if not isinstance(contrast, DropImage):
        return contrast
    if contrast.prompt is None:
        return replace(contrast, pack=adapter.packs)
    ids = _prompt_ids(contrast.prompt, adapter, tokenizer)

    def words() -> Words:
        here = ids.to(adapter.model.device)
        return here, adapter.embed_text(here)

    return replace(contrast, pack=adapter.packs, words=words)


def _prompt_ids(prompt: str, adapter: Adapter, tokenizer: Any) -> Tensor:
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ValueError(
            f"prompt={prompt!r} has to be cut into tokens: pass processor=... (CALTrainer: processing_class=...)"
        )
    ids = torch.tensor(tokenizer(prompt, add_special_tokens=False)["input_ids"], dtype=torch.long)
    if not len(ids):
        raise ValueError(f"prompt={prompt!r} has no tokens: wanted a short text such as 'an image'")
    if bool(adapter.placeholders(ids.unsqueeze(0)).any()):
        raise ValueError(f"prompt={prompt!r} holds the model's image token: wanted words alone")
    return ids


def check_batch_size(contrast: Contrast, batch_size: int) -> None:
    """Refuse batches in which no row can have another row's picture.

    Raises:
        ValueError: "shuffle" with batches of one.
    """
    if contrast.name == "shuffle" and batch_size < 2:
        raise ValueError(
            f"contrast='shuffle' with batch_size={batch_size}: rows exchange pictures inside their batch; wanted 2 or "
            "more"
        )


def is_proven(adapter: Adapter, contrast: Contrast) -> bool:
    """True where no proof is needed that image tokens may be taken out: `drop_is_proven` gives it otherwise."""
    return adapter.proven or contrast.name not in TAKING_OUT


def drop_is_proven(adapter: Adapter, batch: VLBatch) -> bool:
    """Compare Δ of "drop" with that of "mask" on a batch, if a label of it sees a picture.

    What is shown is that image tokens may be taken out, on which "mean" and "shuffle" rest as well.

    Autocast is off for it: two ways of computing the same differ more by rounding in bfloat16 than the check lets pass.
    Where parameters are sharded, all ranks compare in the same step, the first in which one of them can.

    Args:
        adapter: of the model; one that is not `proven` is asked for proof.
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
    with torch.autocast(batch.input_ids.device.type, enabled=False):
        dropped = look_twice(adapter, DropImage(pack=adapter.packs), batch).delta["logit"]
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
