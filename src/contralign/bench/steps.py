"""The ways to take a training step that a benchmark compares: forward and backward of one batch, no optimizer.

Every way is a function from a workload to a function that gives the loss. One model serves them all: a call without
CAL's mark runs the model's own forward.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import record_function

from contralign.batch import IGNORE_INDEX
from contralign.bench.workload import Workload
from contralign.core.loss import RELEASED_EPS
from contralign.models.decoder.recorder import recorded_arguments
from contralign.training.alignment import CACHED, ContrastiveAlignment
from contralign.training.config import CalConfig
from contralign.weighting.registry import WEIGHTINGS

Forward = Callable[[], Tensor]

BACKWARD = "contralign: backward"
_ALPHA, _BETA, _WINDOW = 1, 5, 3


def mle(workload: Workload) -> Forward:
    """Plain Hugging Face: the model's own loss, logits at every position."""
    return lambda: workload.model(**workload.batch).loss


def released(workload: Workload) -> Forward:
    """The way of the released code (training_spec 1.2) on the model of today.

    Pictures are encoded once. A pass without gradient goes over all tokens, the keys of image tokens masked, then the
    pass with gradient; both make float32 logits at every position, which are shifted and flattened.
    """
    model, labels = workload.model, workload.batch["labels"][:, 1:].reshape(-1)
    image = workload.batch["input_ids"] == model.config.image_token_id

    def forward() -> Tensor:
        inputs = _decoder_inputs(workload)
        with torch.no_grad():
            hidden_keys = {**inputs, "attention_mask": inputs["attention_mask"].masked_fill(image, 0)}
            without_picture = model(**hidden_keys).logits.float()
        logits = model(**inputs).logits.float()
        return released_loss(_shifted(logits), _shifted(without_picture), labels)

    return forward


def _aligned(**settings: Any) -> Callable[[Workload], Forward]:
    """CAL with these settings of `CalConfig`, the others as they come."""

    def mode(workload: Workload) -> Forward:
        alignment = ContrastiveAlignment(workload.model, CalConfig(**settings))
        return lambda: alignment(workload.batch).loss

    return mode


def _stored(reading: str, of: CalConfig, config: CalConfig) -> Callable[[Workload], Forward]:
    """A mode whose numbers come with the batch: `reading` is taken once, from a step of `of` on the same model."""

    def mode(workload: Workload) -> Forward:
        with torch.no_grad():
            found = getattr(ContrastiveAlignment(workload.model, of)(workload.batch), reading)
        alignment = ContrastiveAlignment(workload.model, config)
        batch = {**workload.batch, CACHED: F.pad(found, (1, 0))}
        return lambda: alignment(batch).loss

    return mode


DEFAULT_MODES: dict[str, Callable[[Workload], Forward]] = {
    "mle": mle,
    # The same loss through contralign's head and loss: logits at label positions only, every weight 1.
    "mle_fused": _aligned(contrast="none"),
    "cal": _aligned(),  # second pass over the text tokens, Δ from raw logits
    "cal_logprob": _aligned(score="logprob"),
    "cal_cached": _stored("delta", CalConfig(), CalConfig(scores="in the batch")),  # no second pass
    "released": released,
}
"""What is compared where nobody says otherwise."""

MODES: dict[str, Callable[[Workload], Forward]] = {
    **DEFAULT_MODES,
    "cal_mean": _aligned(contrast="mean"),  # the second pass keeps a few tokens of the mean picture
    "cal_shuffle": _aligned(contrast="shuffle"),  # the second pass sees another row's picture
    **{name: _aligned(weighting=name) for name in WEIGHTINGS if name not in ("cal", "uniform", "rho1")},
    # The reference's loss is that of the model itself.
    "rho1": _stored("nll", CalConfig(contrast="none"), CalConfig(weighting="rho1", scores="in the batch")),
}
"""What can be compared; every ratio is to `mle`."""


def released_loss(logits: Tensor, without_picture: Tensor, labels: Tensor) -> Tensor:
    """The released code's loss, from flattened float32 logits of both passes.

    Args:
        logits: (tokens, vocab), shifted: row t predicts `labels[t]`.
        without_picture: the same of the masked pass.
        labels: (tokens,), `IGNORE_INDEX` where no loss is taken; Δ of token id 0 stands there.
    """
    labelled = labels != IGNORE_INDEX
    with torch.no_grad():
        words = labels.masked_fill(~labelled, 0).unsqueeze(1)
        delta = (logits.gather(1, words) - without_picture.gather(1, words)).squeeze(1)
        weights = F.avg_pool1d(
            delta.clamp(_ALPHA, _BETA)[None, None], _WINDOW, stride=1, padding=_WINDOW // 2, count_include_pad=False
        )[0, 0]
    nll = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORE_INDEX)
    return (nll * weights).sum() / (weights[labelled].sum() + RELEASED_EPS)


def take_step(forward: Forward) -> Tensor:
    """Forward and backward; gradients are added to those that are there.

    Returns:
        The loss, without a graph.
    """
    loss = forward()
    with record_function(BACKWARD):
        loss.backward()
    return loss.detach()


def clear_gradients(workload: Workload) -> None:
    """Give the gradients' memory back, so that the next step starts from nothing, as after an optimizer step."""
    workload.model.zero_grad(set_to_none=True)


def _shifted(logits: Tensor) -> Tensor:
    return logits[:, :-1].reshape(-1, logits.shape[-1])


def _decoder_inputs(workload: Workload) -> dict[str, Any]:
    """What the model hands to its decoder: embeddings with the pictures in place, mask, positions."""
    inputs = {name: value for name, value in workload.batch.items() if name != "labels"}
    arguments, _ = recorded_arguments(workload.model.get_decoder(), lambda: workload.model.base_model(**inputs))
    read = {name: arguments[name] for name in ("inputs_embeds", "position_ids") if name in arguments}
    return {**read, "attention_mask": workload.batch["attention_mask"], "use_cache": False}
