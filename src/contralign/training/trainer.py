"""`CALTrainer` and `with_cal`: CAL in the Hugging Face Trainer and in every subclass of it.

The step's loss is Σ numerator / Σ denominator over all its micro-batches and ranks (`contralign.core.loss.loss_terms`).
With one micro-batch the denominator is known before the backward pass. With several it is not, since weights come out
of the forward pass: then numerators are accumulated, and the gradients are scaled once, on the step where they are
synchronised and before they are clipped.
"""

import functools
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from contralign.checkpoints.resuming_trainer import ResumingTrainer
from contralign.core.loss import ratio
from contralign.data.batches.collator import VLCollator
from contralign.description import check_same
from contralign.reading import check_batch_size
from contralign.training.alignment import CACHED, CalOutput, ContrastiveAlignment
from contralign.training.config import CalConfig
from contralign.training.scores import with_cached_scores
from contralign.training.statistics import CalStatistics
from contralign.weighting.cal import Cal

logger = logging.getLogger(__name__)


class _CALMixin(ResumingTrainer):
    """The overrides that `with_cal` puts before a Trainer class."""

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, cal: CalConfig | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cal_config = cal or CalConfig()
        self.alignment = self._align(self.cal_config)
        self.eval_alignment = self.alignment
        self._eval_collator: VLCollator | None = None
        self._said_how_evaluated = False
        if self.cal_config.scores is not None:
            # Training takes Δ from the file, and evaluation, whose samples are not in it, from the model itself.
            self.eval_alignment = self._align(self.cal_config.without_scores())
            if isinstance(self.data_collator, VLCollator):
                self._eval_collator = self.data_collator.with_scores(None)
                contrast = self.eval_alignment.contrast
                self._eval_collator.keep_pictures |= contrast is not None and contrast.reencodes
                self.data_collator = with_cached_scores(self.cal_config, self.data_collator, self.train_dataset)
        # num_items_in_batch, the label count of the whole step, is asked for whatever the model class declares.
        self.model_accepts_loss_kwargs = True
        weighting = self.alignment.weighting
        bounds = (weighting.alpha, weighting.beta) if isinstance(weighting, Cal) else ()
        self._train_statistics, self._eval_statistics = CalStatistics(*bounds), CalStatistics(*bounds)
        self._step_terms: list[Tensor] = []
        self._micro_batch = 0
        self._refuse_what_has_no_effect()
        self._keep_outputs_accurate()

    def _align(self, config: CalConfig) -> ContrastiveAlignment:
        collator: Any = self.data_collator
        return ContrastiveAlignment(
            cast(nn.Module, self.model),
            config,
            processor=self.processing_class,
            encode_pictures=collator.image_inputs if isinstance(collator, VLCollator) else None,
        )

    def _refuse_what_has_no_effect(self) -> None:
        if self.args.label_smoothing_factor:
            raise ValueError(f"label_smoothing_factor={self.args.label_smoothing_factor} has no effect on the CAL loss")
        if self.compute_loss_func is not None:
            raise ValueError("compute_loss_func has no effect with CAL: it never sees the second pass; leave it out")
        if getattr(self.args, "loss_type", "nll") != "nll":
            raise ValueError(f"loss_type={self.args.loss_type!r} has no effect with CAL: leave it out")  # type: ignore[attr-defined]
        if self.alignment.contrast is not None:
            check_batch_size(self.alignment.contrast, self.args.per_device_train_batch_size)
        if self.args.n_gpu > 1:
            raise ValueError("nn.DataParallel is not supported: start with accelerate launch or torchrun")
        deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        if deepspeed and self.args.gradient_accumulation_steps > 1 and self.cal_config.form != "released":
            raise ValueError(
                f"form={self.cal_config.form!r} with gradient_accumulation_steps="
                f"{self.args.gradient_accumulation_steps} under DeepSpeed: its engine holds the gradients, so the "
                "step's normaliser cannot be applied; accumulate 1, or use form='released'"
            )

    def _keep_outputs_accurate(self) -> None:
        """Accelerate has FSDP2 round all that a forward returns to bfloat16, and with it Σ w, by which ranks divide."""
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        policy = getattr(plugin, "mixed_precision_policy", None)
        if plugin is not None and isinstance(policy, MixedPrecisionPolicy):
            plugin.mixed_precision_policy = replace(policy, output_dtype=None)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        """The usual placing; under DeepSpeed the Trainer rounds what it places, and Δ of a file is kept from that."""
        cached = inputs.get(CACHED)
        placed = cast("dict[str, Any]", super()._prepare_inputs(inputs))
        return placed if cached is None else {**placed, CACHED: cached.to(self.args.device)}

    def exact_state(self) -> dict[str, Tensor]:
        """See `ResumingTrainer`; CAL adds its settings, its draws, its running mean, and what it counts for a log."""
        settings = bytearray(json.dumps(self.cal_config.described()).encode())
        parts = {"alignment": self.alignment.state_dict(), "statistics": self._train_statistics.state()}
        if self.eval_alignment is not self.alignment:
            parts["eval_alignment"] = self.eval_alignment.state_dict()
        own = {f"{part}/{name}": value for part, state in parts.items() for name, value in state.items()}
        return {**super().exact_state(), **own, "settings": torch.frombuffer(settings, dtype=torch.uint8)}

    def load_exact_state(self, state: Mapping[str, Tensor]) -> None:
        """See `ResumingTrainer`.

        Raises:
            ValueError: the checkpoint is of another weighting or contrast.
        """
        if "settings" in state:
            check_same(json.loads(bytes(state["settings"].tolist())), self.cal_config.described())
        super().load_exact_state(state)

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")}

        self.alignment.load_state_dict(part("alignment"))
        if self.eval_alignment is not self.alignment:
            self.eval_alignment.load_state_dict(part("eval_alignment"))
        self._train_statistics.load(part("statistics"), self.args.device)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The CAL loss; in training what `training_step` takes the gradient of, in evaluation that of the batch."""
        alignment = self.alignment if model.training or CACHED in inputs else self.eval_alignment
        out: CalOutput = model(**alignment.marked(inputs))
        numerator, denominator = out.numerator, out.denominator
        if not model.training:
            self._eval_statistics.add(out)
            self.eval_alignment.draw += 1
            return (out.loss, out) if return_outputs else out.loss
        self._train_statistics.add(out)
        terms = torch.stack([numerator.detach(), denominator]).double()
        if self.current_gradient_accumulation_steps == 1:
            terms = cast(Tensor, self.accelerator.reduce(terms, reduction="sum"))
            scale = terms[1]
        elif self.cal_config.form == "released":
            # Known beforehand, 1 a micro-batch and rank, and so right where gradients cannot be scaled (DeepSpeed).
            scale = torch.as_tensor(self.current_gradient_accumulation_steps * self.accelerator.num_processes)
        else:
            # Any number that all ranks share will do; the label count keeps gradients in the usual range.
            scale = torch.as_tensor(1.0 if num_items_in_batch is None else num_items_in_batch)
        self._step_terms.append(terms)
        self._scale = scale.to(numerator)
        loss = ratio(numerator, self._scale) * self.accelerator.num_processes
        return (loss, out) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One micro-batch; on the last of a step the gradients get the step's true normaliser.

        Returns:
            0 on every micro-batch but the last, there the loss of the whole step: what the Trainer adds up and logs is
            then the true loss.
        """
        steps = max(self.current_gradient_accumulation_steps, 1)
        self.alignment.draw = self.state.global_step * self.args.gradient_accumulation_steps + self._micro_batch
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._micro_batch += 1
        if self._micro_batch < steps:
            return torch.zeros_like(loss)
        terms = torch.stack(self._step_terms).sum(dim=0)
        numerator, denominator = terms if steps == 1 else cast(Tensor, self.accelerator.reduce(terms, reduction="sum"))
        self._step_terms, self._micro_batch = [], 0
        if steps > 1:
            factor = float(ratio(self._scale.double(), denominator)) if denominator else 0.0
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        return ratio(numerator, denominator).to(loss)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor | None, Any, Any]:
        """The CAL loss in eval mode; logits, where they are asked for, come from a plain forward."""
        if inputs.get("labels") is None:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs = cast("dict[str, Any]", self._prepare_inputs(inputs))
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
            if prediction_loss_only:
                return loss.detach(), None, None
            shown = {name: value for name, value in inputs.items() if name not in ("labels", "pictures", CACHED)}
            logits = model(**shown).logits
        return loss.detach(), logits.detach(), inputs["labels"]

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The usual loader; its batches bring no Δ of a score file, which holds training samples."""
        with self._evaluation_batches():
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """See `get_eval_dataloader`."""
        with self._evaluation_batches():
            return super().get_test_dataloader(*args, **kwargs)

    @contextmanager
    def _evaluation_batches(self) -> Iterator[None]:
        if self._eval_collator is None:
            yield
            return
        if not self._said_how_evaluated:
            self._said_how_evaluated = True
            logger.warning(
                "evaluation takes Δ from the model as it is, with a second pass: %s holds training samples",
                self.cal_config.scores,
            )
        training, self.data_collator = self.data_collator, self._eval_collator
        try:
            yield
        finally:
            self.data_collator = training

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The usual loop; its loss becomes that of the whole data set, however it was cut into batches."""
        self._eval_statistics.clear()
        draw, self.eval_alignment.draw = self.eval_alignment.draw, 0
        output = super().evaluation_loop(*args, **kwargs)
        self.eval_alignment.draw = draw
        report = self._report(self._eval_statistics)
        prefix = kwargs.get("metric_key_prefix", "eval")
        if report and output.metrics is not None:
            output.metrics[f"{prefix}_loss"] = report.pop("cal_loss")
            output.metrics.update({f"{prefix}_{name}": value for name, value in report.items()})
        return output

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Training logs also say what the weights did: see `CalStatistics.report`."""
        if "loss" in logs:
            report = self._report(self._train_statistics)
            logs.update({name: value for name, value in report.items() if name != "cal_loss"})
        super().log(logs, *args, **kwargs)

    def _report(self, statistics: CalStatistics) -> dict[str, float]:
        pad = functools.partial(self.accelerator.pad_across_processes, pad_index=math.nan)  # type: ignore[arg-type]
        report = statistics.report(cast(Any, self.accelerator.gather), cast(Any, pad))
        statistics.clear()
        if not self.cal_config.compares:  # no Δ was taken
            report = {name: value for name, value in report.items() if not name.startswith(("share_at_", "delta_"))}
        return report


@functools.cache
def with_cal(trainer_class: type[Trainer]) -> type[Trainer]:
    """A Trainer class that trains with CAL: `with_cal(SFTTrainer)(model=..., args=..., cal=CalConfig())`.

    The new class takes every argument of the old one and `cal`, and logs, beside the weighted loss, the plain
    negative log-likelihood and what the weights did.

    Args:
        trainer_class: `transformers.Trainer` or a subclass that leaves the training loop to it, such as TRL's
            `SFTTrainer`.

    Raises:
        ValueError: not a Trainer class.
    """
    if not (isinstance(trainer_class, type) and issubclass(trainer_class, Trainer)):
        raise ValueError(f"with_cal({trainer_class!r}): wanted a subclass of transformers.Trainer (the class itself)")
    name = f"CAL{trainer_class.__name__}"
    return cast("type[Trainer]", type(name, (_CALMixin, trainer_class), {"__doc__": with_cal.__doc__}))


CALTrainer = with_cal(Trainer)
"""The Trainer of transformers with CAL: `with_cal` says what it takes beside the arguments of that."""
