"""Ways to take Σ coefficient · nll of label tokens from their hidden states, one function each.

Every candidate maps a `Problem` to a scalar that carries the gradient of rows, head and bias. What a candidate has no
argument for raises `NotOffered`; nothing is put around a candidate to make up for it, but for a factor on the logits,
which any caller can put on the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

import torch
import torch.nn.functional as F
from torch import Tensor

from contralign.core.head import LinearHead, OpaqueHead, upcast
from contralign.core.label_loss import CHUNK_BYTES, label_loss

MIB = 2**20
CHUNK_MIB = (4, 16, 64, 256, 1024)
FEW_ROWS = 5
"""Rows a chunk where the matrix of gradients wants several chunks of a small problem."""


class NotOffered(Exception):
    """The candidate has no argument for what the problem asks."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Label rows and the head they go through: cap · tanh(scale · (W h + b) / cap).

    Attributes:
        rows: (tokens, hidden).
        weight: (vocab, hidden).
        labels: (tokens,).
        coefficients: (tokens,), float32 or float64.
        bias: (vocab,) or None.
        scale: factor on the logits.
        cap: bound of soft-capping, None for none.
    """

    rows: Tensor
    weight: Tensor
    labels: Tensor
    coefficients: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    @property
    def learning(self) -> list[Tensor]:
        """Rows, weight and bias, those of them that want a gradient."""
        return [each for each in (self.rows, self.weight, self.bias) if each is not None and each.requires_grad]

    @property
    def head(self) -> LinearHead:
        """The head in our own form."""
        return LinearHead(weight=self.weight, bias=self.bias, scale=self.scale, cap=self.cap)

    def weighted(self, nll: Tensor) -> Tensor:
        """Σ coefficient · nll."""
        return (self.coefficients.to(nll.dtype) * nll).sum()

    def scaled_by_rows(self) -> Problem:
        """The same problem with the factor on the rows; for candidates without one of their own."""
        if self.scale == 1.0:
            return self
        if self.bias is not None:
            raise NotOffered("scale with a bias")
        return replace(self, rows=self.rows * self.scale, scale=1.0)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One implementation.

    Attributes:
        total: the weighted loss.
        package: distribution it comes from, None for contralign itself.
        dtype: what its correctness is judged in.
        triton_kernel: a GPU kernel; on a CPU it can only be interpreted, and not be timed.
    """

    total: Callable[[Problem], Tensor]
    package: str | None = "torch"
    dtype: torch.dtype = torch.float32
    triton_kernel: bool = False

    @property
    def release(self) -> str | None:
        """Package and version, None where it is not installed."""
        if self.package is None:
            return "this tree"
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            return None


def plain(problem: Problem) -> Tensor:
    """All logits at once, then torch's cross-entropy."""
    logits = problem.head.transformed(upcast(F.linear(problem.rows, problem.weight, problem.bias)))
    return problem.weighted(F.cross_entropy(logits, problem.labels, reduction="none"))


def torchs(problem: Problem, rows_per_chunk: int | None) -> Tensor:
    """`F.linear_cross_entropy` of torch 2.13; None leaves the size of chunks to it."""
    if problem.cap is not None:
        raise NotOffered("soft-cap")
    problem = problem.scaled_by_rows()
    nll = F.linear_cross_entropy(
        problem.rows,
        problem.weight,
        problem.labels,
        linear_bias=problem.bias,
        reduction="none",
        options=torch.nn.LinearCrossEntropyOptions(batch_chunk_size=rows_per_chunk),
    )
    return problem.weighted(nll)


def chunk_of(rows: int, problem: Problem) -> int:
    """Bytes of the logits of so many rows, in the precision they are kept in."""
    return rows * problem.weight.shape[0] * upcast(problem.rows[:0]).element_size()


def rows_of(chunk_bytes: int, problem: Problem) -> int:
    """Rows whose float32 logits fill a chunk."""
    return max(chunk_bytes // (4 * problem.weight.shape[0]), 1)


def ours(problem: Problem, rows_per_chunk: int | None = None) -> Tensor:
    """`contralign.core.label_loss.label_loss`, the fused path; None leaves chunks as they are shipped."""
    chunk_bytes = CHUNK_BYTES if rows_per_chunk is None else chunk_of(rows_per_chunk, problem)
    return label_loss(problem.rows, problem.labels, problem.coefficients, problem.head, chunk_bytes).total


def our_fallback(problem: Problem, rows_per_chunk: int | None = None) -> Tensor:
    """The same function for a head known only as a function of rows."""
    chunk_bytes = CHUNK_BYTES if rows_per_chunk is None else chunk_of(rows_per_chunk, problem)
    head = OpaqueHead(problem.head.logits, problem.head.vocabulary)
    return label_loss(problem.rows, problem.labels, problem.coefficients, head, chunk_bytes).total


def trls(problem: Problem) -> Tensor:
    """TRL's log-probabilities in tiles over rows and words, with the tile its trainers use."""
    from trl.kernels import ChunkedLogProbFunction

    log_probabilities = ChunkedLogProbFunction.apply(
        problem.rows, problem.weight, problem.bias, problem.labels, 1.0, 32768, problem.cap, problem.scale, ()
    )[0]
    return -problem.weighted(log_probabilities)


def ligers(problem: Problem) -> Tensor:
    """Liger's fused linear cross-entropy with one loss a token."""
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    problem = problem.scaled_by_rows()
    cap = problem.cap
    if not problem.rows.is_cuda:
        from triton_interpreter import Scalar, prepare_liger

        prepare_liger()
        cap = cap if cap is None else Scalar(cap)
    arguments = (None, -100, 0.0, 0.0, "none", cap)  # class weights, ignored id, z-loss, smoothing, ...
    return problem.weighted(
        LigerFusedLinearCrossEntropyFunction.apply(
            problem.rows, problem.weight, problem.labels, problem.bias, *arguments
        )[0]
    )


def ligers_scaled(problem: Problem) -> Tensor:
    """Liger's newer loss a token with a temperature: Hopper kernels of its own, 512 rows at a time elsewhere."""
    from liger_kernel.ops.fused_linear_scaled_cross_entropy import LigerFusedLinearScaledCrossEntropyFunction

    if problem.bias is not None or problem.cap is not None:
        raise NotOffered("bias, soft-cap")
    return problem.weighted(
        LigerFusedLinearScaledCrossEntropyFunction.apply(
            problem.rows, problem.weight, problem.labels, 1 / problem.scale
        )
    )


def apples(problem: Problem, implementation: str, filter_eps: str | None = "high") -> Tensor:
    """Cut cross-entropy; `filter_eps="high"` is its default, which leaves small gradients out."""
    from cut_cross_entropy import linear_cross_entropy

    if problem.bias is not None:
        raise NotOffered("bias")
    problem = problem.scaled_by_rows()
    if implementation == "cce" and not problem.rows.is_cuda:
        from triton_interpreter import prepare_cut_cross_entropy

        prepare_cut_cross_entropy()
    nll = linear_cross_entropy(
        problem.rows,
        problem.weight,
        problem.labels,
        softcap=problem.cap,
        reduction="none",
        impl=implementation,
        filter_eps=filter_eps,
    )
    return problem.weighted(nll)


CANDIDATES: dict[str, Candidate] = {
    "plain": Candidate(total=plain),
    "torch, automatic chunks": Candidate(total=lambda problem: torchs(problem, None)),
    "torch, chunks as ours": Candidate(total=lambda problem: torchs(problem, rows_of(CHUNK_BYTES, problem))),
    "torch, 5 rows a chunk": Candidate(total=lambda problem: torchs(problem, FEW_ROWS)),
    "ours": Candidate(total=ours, package=None),
    "ours, 5 rows a chunk": Candidate(total=lambda problem: ours(problem, FEW_ROWS), package=None),
    **{
        f"ours, {mib} MiB": Candidate(
            total=lambda problem, mib=mib: ours(problem, rows_of(mib * MIB, problem)), package=None
        )
        for mib in CHUNK_MIB
    },
    "ours, any head": Candidate(total=our_fallback, package=None),
    "ours, any head, 5 rows a chunk": Candidate(total=lambda problem: our_fallback(problem, FEW_ROWS), package=None),
    "TRL": Candidate(total=trls, package="trl"),
    "Liger": Candidate(total=ligers, package="liger-kernel", triton_kernel=True),
    "Liger, scaled": Candidate(total=ligers_scaled, package="liger-kernel"),
    "cut-cross-entropy": Candidate(
        total=lambda problem: apples(problem, "cce"),
        package="cut-cross-entropy",
        dtype=torch.float16,
        triton_kernel=True,
    ),
    "cut-cross-entropy, unfiltered": Candidate(
        total=lambda problem: apples(problem, "cce", filter_eps=None),
        package="cut-cross-entropy",
        dtype=torch.float16,
        triton_kernel=True,
    ),
    "cut-cross-entropy, torch_compile": Candidate(
        total=lambda problem: apples(problem, "torch_compile"), package="cut-cross-entropy"
    ),
}
