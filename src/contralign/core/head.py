"""The vocabulary head: from hidden states to the score of a label, with or without the whole vocabulary."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from contralign.core.delta import token_scores


@runtime_checkable
class Head(Protocol):
    """What the loss and Δ ask of a vocabulary head."""

    @property
    def vocabulary(self) -> int:
        """Number of words."""
        ...

    def logits(self, rows: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """Logits after the model's own final transform."""
        ...

    def label_logits(
        self, rows: Float[Tensor, "tokens hidden"], labels: Int[Tensor, " tokens"]
    ) -> Float[Tensor, " tokens"]:
        """The logit of one word a token, in float32 (float64 stays)."""
        ...


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """A matrix, perhaps a bias, perhaps a scale and soft-capping behind it: cap · tanh(scale · (W h + b) / cap).

    Attributes:
        weight: (vocab, hidden).
        bias: (vocab,) or None.
        scale: factor on the logits.
        cap: bound of soft-capping (Gemma 2), None for none.
    """

    weight: Float[Tensor, "vocab hidden"]
    bias: Float[Tensor, " vocab"] | None = None
    scale: float = 1.0
    cap: float | None = None

    @property
    def vocabulary(self) -> int:
        """Number of words."""
        return self.weight.shape[0]

    def transformed(self, raw: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Scale and soft-capping."""
        scaled = raw if self.scale == 1.0 else raw * self.scale
        return scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)

    def logits(self, rows: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """Logits over the vocabulary, in the dtype of the matrix product."""
        return self.transformed(F.linear(rows, self.weight, self.bias))

    def label_logits(
        self, rows: Float[Tensor, "tokens hidden"], labels: Int[Tensor, " tokens"]
    ) -> Float[Tensor, " tokens"]:
        """One dot product a token, accumulated in float32: a logit of the bfloat16 matrix product has 8 bits."""
        raw = (upcast(rows) * upcast(self.weight[labels])).sum(dim=-1)
        if self.bias is not None:
            raw = raw + upcast(self.bias[labels])
        return self.transformed(raw)

    def mean_logits(self, rows: Float[Tensor, "tokens hidden"]) -> Float[Tensor, " tokens"]:
        """Mean logit over the vocabulary, without the vocabulary: the logit of the mean word, in float32.

        Raises:
            ValueError: a head with soft-capping, under which the mean of logits is no logit of a mean.
        """
        if self.cap is not None:
            raise ValueError(f"cap={self.cap}: the mean of soft-capped logits needs all of them")
        word, bias = self._mean_word
        raw = (upcast(rows) * word).sum(dim=-1)
        return self.transformed(raw if bias is None else raw + bias)

    @cached_property
    def _mean_word(self) -> tuple[Float[Tensor, " hidden"], Float[Tensor, ""] | None]:
        """Means of matrix and bias over the vocabulary, in float32 (float64 stays); no gradient."""
        weight, dtype = self.weight.detach(), upcast(self.weight[:0]).dtype
        mean = weight.mean(dim=0, dtype=dtype)
        return mean, None if self.bias is None else self.bias.detach().mean(dtype=dtype)


@dataclass(frozen=True)
class OpaqueHead:
    """A head that is known only as a function: LoRA on it, quantised, sharded, or with a transform of its own.

    Attributes:
        function: rows -> logits, the model's own.
        vocabulary: number of words.
        whole: it must be called as often on every rank, so rows are never cut into chunks.
    """

    function: Callable[[Tensor], Tensor]
    vocabulary: int
    whole: bool = False

    def logits(self, rows: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """Whatever the function says."""
        return self.function(rows)

    def label_logits(
        self, rows: Float[Tensor, "tokens hidden"], labels: Int[Tensor, " tokens"]
    ) -> Float[Tensor, " tokens"]:
        """Picked from all logits of the row."""
        return token_scores(self.logits(rows), labels)


@dataclass(frozen=True)
class GatheredHead:
    """A matrix of which this rank holds a part, and all of it only while its module is being called (FSDP, ZeRO-3).

    Whatever is asked of it is done within one such call, however many chunks that takes, so that all ranks call the
    module equally often.

    Attributes:
        within: calls the module with the rows, and has it do nothing but run a function of the whole head and the rows.
        vocabulary: number of words.
    """

    within: Callable[[Tensor, Callable[[LinearHead, Tensor], Any]], Any]
    vocabulary: int

    def logits(self, rows: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """Those of the whole head."""
        return self.within(rows, LinearHead.logits)

    def label_logits(
        self, rows: Float[Tensor, "tokens hidden"], labels: Int[Tensor, " tokens"]
    ) -> Float[Tensor, " tokens"]:
        """Those of the whole head."""
        return self.within(rows, lambda head, rows: head.label_logits(rows, labels))


def upcast(values: Tensor) -> Tensor:
    """float32, and float64 stays."""
    return values if values.dtype == torch.float64 else values.float()
