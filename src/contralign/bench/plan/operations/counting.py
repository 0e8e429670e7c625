"""What is counted how: the five modes, and the choices inside them that an implementation makes."""

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

Mode = Literal["mle", "mle_fused", "cal", "cal_cached", "released"]
Recompute = Literal["none", "all", "early_stop"]
Attention = Literal["causal", "full", "none"]
LastLayer = Literal["all", "output", "query"]

MODES: dict[Mode, str] = {
    "mle": "plain Hugging Face: logits of all positions, float32 copies",
    "mle_fused": "head and loss at label positions, in chunks",
    "cal": "mle_fused and a pass over the text tokens without gradients",
    "cal_cached": "mle_fused with stored Δ: no second pass",
    "released": "mle and a whole second pass with the image keys masked, float32 logits in both",
}


def check_mode(mode: str) -> Mode:
    """The mode, if it is one.

    Raises:
        ValueError: it is not.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is unknown: wanted one of {', '.join(MODES)}")
    return mode


@dataclass(frozen=True, kw_only=True)
class Counting:
    """Choices of an implementation, and of whoever counts.

    Attributes:
        recompute: what checkpointing computes again: "none" (no checkpointing), "all" (reentrant, as in 2024), or
            "early_stop" (non-reentrant, today's default: a layer stops before its last product, which nothing needs).
        attention: query-key pairs that are computed: "causal" (half, as flash kernels do), "full" (eager), or "none"
            (torch's counter does not see the CPU's fused kernel).
        attention_backward: operations of attention's backward pass over its forward pass: 2.5 for flash kernels, which
            compute the scores again, 2 for eager.
        hidden_keys: the masked pass of "released": "skipped" (FlashAttention-2 takes masked rows out of attention) or
            "computed".
        last_layer: what the last decoder layer computes at label positions alone, where the loss reads nothing else:
            nothing ("all"), output projection and MLP ("output"), or the queries too ("query").
        share_prefix: the contrast pass computes the text before the picture once a micro-batch.
        head_products: products that head and loss make of label rows: logits, gradient of inputs, gradient of weights.
        score: "logit" needs one dot product a label; "logprob" needs all logits of the label rows.
        rows: samples of a micro-batch.

    Raises:
        ValueError: a value that is not one of these.
    """

    recompute: Recompute = "early_stop"
    attention: Attention = "causal"
    attention_backward: float = 2.5
    hidden_keys: Literal["skipped", "computed"] = "skipped"
    last_layer: LastLayer = "output"
    share_prefix: bool = True
    head_products: int = 3
    score: Literal["logit", "logprob"] = "logit"
    rows: int = 1

    def __post_init__(self) -> None:
        for setting, kind in get_type_hints(type(self)).items():
            allowed = get_args(kind)  # of a Literal; other types have none
            if allowed and getattr(self, setting) not in allowed:
                raise ValueError(f"{setting}={getattr(self, setting)!r}: wanted one of {', '.join(allowed)}")
        if self.rows < 1:
            raise ValueError(f"rows={self.rows}: a micro-batch has at least one sample")
