"""`ContrastiveAlignment`: CAL around one model, for a bare training loop and for every Trainer."""

import functools
import inspect
import logging
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from transformers.utils import ModelOutput

from contralign.batch import CACHED_DELTA as CACHED
from contralign.contrast.mean import MeanPicture
from contralign.core.head import upcast
from contralign.core.label_loss import label_loss
from contralign.core.loss import ratio, token_coefficients
from contralign.core.passes import run_passes, scatter_tokens
from contralign.core.zero_loss import connected_loss
from contralign.models.adapters.adapter import Adapter, PictureEncoder
from contralign.models.adapters.registry import adapter_for
from contralign.reading import adapt_contrast, drop_is_proven, is_proven
from contralign.training.config import CalConfig
from contralign.weighting.base import TokenReadings, Wanted, column_of, live_readings, main_reading, stored_reading

logger = logging.getLogger(__name__)

MARK = "contrastive_alignment"


@dataclass
class CalOutput(ModelOutput):
    """What one step says of its batch; arrays are (batch, seq - 1), position t holds the label that it predicts.

    Attributes:
        loss: the scalar to call backward on: `numerator / denominator` of this batch.
        numerator: see `contralign.core.loss.token_coefficients`; carries the gradient.
        denominator: the same; no gradient.
        nll: negative log-likelihood of every label token in nats, without gradient; 0 elsewhere.
        delta: Δ of every label token, or what else the weighting reads of two looks (`main_reading`); Δ is 0 for rows
            without a picture, and all is 0 for a weighting that takes one look.
        weights: weight of every label token; 0 elsewhere.
        valid: bool, True at label tokens.
        correct: bool, True where the label was the most likely token.
        has_image: (batch,) bool.

    Every field is always set; the defaults are what `ModelOutput` asks of a dataclass.
    """

    loss: Tensor = None  # type: ignore[assignment]
    numerator: Tensor = None  # type: ignore[assignment]
    denominator: Tensor = None  # type: ignore[assignment]
    nll: Tensor = None  # type: ignore[assignment]
    delta: Tensor = None  # type: ignore[assignment]
    weights: Tensor = None  # type: ignore[assignment]
    valid: Tensor = None  # type: ignore[assignment]
    correct: Tensor = None  # type: ignore[assignment]
    has_image: Tensor = None  # type: ignore[assignment]


class ContrastiveAlignment:
    """CAL around one model.

    ```python
    cal = ContrastiveAlignment(model, CalConfig())
    out = cal(batch)
    out.loss.backward()
    ```

    Both passes and the loss run inside one call of the model's own forward, so that DDP, FSDP, autocast and PEFT
    wrappers see an ordinary step. Build it before `accelerator.prepare` and before any wrapper; a call without
    CAL (`model(**batch)`, `generate`) is untouched.

    Args:
        model: a Hugging Face image-text-to-text model, PEFT allowed.
        config: the settings; the default is the paper's.
        processor: the model's processor; only contrasts that degrade the picture, and a prompt, need it.
        encode_pictures: pictures -> inputs of the vision tower, where the processor's image processor alone is not what
            the collator does.

    Raises:
        UnsupportedModel: CAL cannot be right for this model or contrast.
        ValueError: the contrast needs a processor and none was given.
    """

    def __init__(
        self,
        model: nn.Module,
        config: CalConfig | None = None,
        *,
        processor: Any = None,
        encode_pictures: PictureEncoder | None = None,
    ) -> None:
        self.config = config or CalConfig()
        self.model = model
        self.adapter: Adapter = adapter_for(model, encode_pictures or _image_processor(processor))
        self.weighting = self.config.token_weighting()
        contrast = self.config.second_look() if self.config.compares else None
        self.contrast = contrast and adapt_contrast(contrast, self.adapter, getattr(processor, "tokenizer", processor))
        if self.contrast is not None:
            if self.contrast.reencodes and self.adapter.encode_pictures is None:
                raise ValueError(
                    f"contrast={self.contrast.name!r} encodes a degraded picture: pass processor=... "
                    "(CALTrainer: processing_class=...)"
                )
            self.adapter.check_contrast(self.contrast.name, num_tokens=0)
        self.draw = 0
        self._proven = not self.config.check_views or self.contrast is None or is_proven(self.adapter, self.contrast)
        self._warned = False
        _install(self.adapter.model)

    def __call__(self, batch: Mapping[str, Any]) -> CalOutput:
        """One step on a collated batch: both passes, Δ, weights, loss.

        Args:
            batch: what the collator gave: input_ids, labels, attention_mask, pixel_values …

        Raises:
            ValueError: the batch does not fit together; see `Adapter.prepare`.
            UnsupportedModel: the first batch shows that "drop" is not right for this model.
        """
        out = self.model(**self.marked(batch))
        self.draw += 1
        return out

    def marked(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments with which the model, wrapped or not, runs a CAL step instead of its own forward.

        Args:
            batch: what the collator gave.
        """
        return {name: value for name, value in batch.items() if name != CACHED} | {MARK: _Step(self, batch.get(CACHED))}

    def state_dict(self) -> dict[str, Tensor]:
        """What the next step depends on beside the model: the number of the draw, and the running mean of pictures.

        `accelerator.register_for_checkpointing(cal)` keeps it in a bare loop; each process has its own.
        """
        state = {"draw": torch.tensor([self.draw])}
        if isinstance(self.contrast, MeanPicture) and (mean := self.contrast.running).value is not None:
            state |= {"mean": mean.value.detach().cpu(), "mean_batches": torch.tensor([mean.batches])}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The opposite of `state_dict`."""
        self.draw = int(state["draw"])
        if isinstance(self.contrast, MeanPicture) and "mean" in state:
            self.contrast.running.value = state["mean"].clone()
            self.contrast.running.batches = int(state["mean_batches"])

    def _step(self, inputs: Mapping[str, Any], cached: Tensor | None) -> CalOutput:
        config = self.config
        self._check_cached(cached, inputs)
        with record_function("contralign: encode"):
            batch = self.adapter.prepare(inputs, draw=self.draw)
        if self.contrast is not None:
            self.adapter.check_contrast(self.contrast.name, num_tokens=batch.input_ids.shape[1])
            self._warn_of_dropout()
            self._proven = self._proven or drop_is_proven(self.adapter, batch)
            if isinstance(self.contrast, MeanPicture) and self.adapter.model.training:
                self.contrast.observe(batch)
        readings = live_readings(self.weighting, scored=cached is not None)
        passes = run_passes(self.adapter, self.contrast, batch, readings, at_every_position=config.form == "released")
        valid = passes.valid
        measured: dict[Wanted, Tensor] = {**passes.readings}
        if cached is not None and (stored := stored_reading(self.weighting)) is not None:
            measured[stored] = cached[:, 1:]
        tokens = TokenReadings(readings=measured, valid=valid, has_image=passes.has_image)
        weights = self.weighting(tokens).to(upcast(passes.rows[:0]).dtype)
        coefficients, denominator = token_coefficients(weights, valid, config.form)
        # Divided before and not after: the gradient is made with the loss, and in bfloat16 every factor rounds it.
        shares = ratio(coefficients, denominator)[valid]
        with record_function("contralign: label logits and loss"):
            found = label_loss(passes.rows, passes.targets[valid], shares, passes.head)
        loss = connected_loss(found.total, self.adapter.model)
        main = main_reading(self.weighting)
        return CalOutput(
            loss=loss,
            numerator=loss * denominator,
            denominator=denominator.detach(),
            nll=scatter_tokens(found.nll, valid),
            delta=torch.zeros_like(weights) if main is None else tokens[main].masked_fill(~valid, 0),
            weights=weights,
            valid=valid,
            correct=scatter_tokens(found.correct, valid),
            has_image=passes.has_image,
        )

    def _check_cached(self, cached: Tensor | None, inputs: Mapping[str, Any]) -> None:
        if self.config.scores is None and cached is not None:
            raise ValueError(f"the batch brings {CACHED!r}, which has no effect without CalConfig(scores=FILE)")
        if self.config.scores is not None and (cached is None or cached.shape != inputs["input_ids"].shape):
            came = "nothing" if cached is None else f"shape {tuple(cached.shape)}"
            column = column_of(stored_reading(self.weighting) or "delta_logit")
            raise ValueError(
                f"CalConfig(scores={self.config.scores!r}) wants {CACHED!r} in every batch, (batch, seq), {column} at "
                f"label tokens; got {came}. VLCollator(scores=...) puts it there; another collator has to"
            )

    def _warn_of_dropout(self) -> None:
        if self._warned:
            return
        self._warned = True
        noisy = [
            name
            for name, module in self.adapter.model.named_modules()
            if isinstance(module, nn.Dropout) and module.training and module.p > 0
        ]
        if noisy:
            logger.warning(
                "dropout is on in %d modules (first: %s) of the pass with the picture and off in the other, so Δ "
                "carries its noise; dropout 0 gives cleaner weights",
                len(noisy),
                noisy[0],
            )


class _Step:
    """What a marked call carries past the wrappers of the model, which round every tensor that they find (FSDP2)."""

    def __init__(self, owner: ContrastiveAlignment, cached: Tensor | None) -> None:
        self.owner, self.cached = owner, cached


def _image_processor(processor: Any) -> PictureEncoder | None:
    """Pictures through the image part of a processor, where it has one."""
    image_processor = getattr(processor, "image_processor", None)
    return image_processor and (lambda pictures: dict(image_processor(images=list(pictures), return_tensors="pt")))


def _install(model: nn.Module) -> None:
    """Let the model's forward run a CAL step when a call carries the mark, and itself otherwise.

    The new forward is a bound method, so that a deep copy of the model runs its own.

    Raises:
        ValueError: accelerate has already wrapped the forward for mixed precision, and would be bypassed.
    """
    if "_original_forward" in model.__dict__:
        raise ValueError(
            "accelerate has prepared this model already: build ContrastiveAlignment before accelerator.prepare(model)"
        )
    replaced = model.__dict__.get("forward")
    if getattr(replaced, MARK, False):
        return
    plain = replaced or type(model).forward

    @functools.wraps(plain)
    def marked(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        step: _Step | None = kwargs.pop(MARK, None)
        called = functools.partial(plain, self) if replaced is None else plain
        if step is None:
            return called(*args, **kwargs)
        names = inspect.signature(called).parameters
        return step.owner._step({**dict(zip(names, args, strict=False)), **kwargs}, step.cached)

    setattr(marked, MARK, True)
    model.forward = types.MethodType(marked, model)  # type: ignore[method-assign]
