"""Seconds, hours and bytes of training on GPUs that need not be here.

Ratios of two modes hardly depend on how much of its peak a GPU reaches; hours do, and for them one number is
calibrated, on a run without CAL (`benchmarks/plan_validation.py`).
"""

from dataclasses import dataclass, replace

from contralign.bench.plan.cluster import Cluster, Efficiency
from contralign.bench.plan.gpus import GIB, GPUS
from contralign.bench.plan.lookup import by_name
from contralign.bench.plan.models import find_model
from contralign.bench.plan.operations.counting import MODES, Counting, Mode, check_mode
from contralign.bench.plan.operations.counts import count
from contralign.bench.plan.operations.logits import loss_memory
from contralign.bench.plan.shapes import VLModel


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a mode costs on so many GPUs.

    Attributes:
        model: its name.
        mode: one of `MODES`.
        gpus: how many.
        gpu: which.
        micro_batch: samples a GPU takes at once.
        accumulation: micro-batches an optimizer step.
        step_seconds: one optimizer step.
        hours: one epoch.
        flops_per_sample: matrix products of a sample.
        state_gib: weights, gradients and optimizer state a GPU holds.
        inputs_gib: inputs of the decoder layers that checkpointing keeps; 0 without checkpointing, where all
            activations are kept and this model counts none.
        loss_gib: peak of the logits.
        fits: these three together are less than the GPU's memory; what a layer needs while it runs comes on top. None
            without checkpointing.
        time_ratio: step time over that of `mle`.
        flop_ratio: operations over those of `mle`.
        loss_memory_ratio: `loss_gib` over that of `mle`.
        floor: what the text's forward pass adds to a plain step: text / (3 or 4 · all tokens), 4 with checkpointing.
    """

    model: str
    mode: Mode
    gpus: int
    gpu: str
    micro_batch: int
    accumulation: int
    step_seconds: float
    hours: float
    flops_per_sample: float
    state_gib: float
    inputs_gib: float
    loss_gib: float
    fits: bool | None
    time_ratio: float
    flop_ratio: float
    loss_memory_ratio: float
    floor: float


def predict(
    model: VLModel | str,
    mode: Mode,
    *,
    gpus: int,
    gpu: str,
    checkpointing: bool = True,
    accumulation: int = 1,
    efficiency: Efficiency | None = None,
    node_bandwidth: float | None = None,
    counting: Counting | None = None,
) -> Plan:
    """Predict one mode.

    Args:
        model: a name of `models.MODELS`, or your own numbers.
        mode: one of `MODES`.
        gpus: how many, in nodes of 8.
        gpu: a name of `gpus.GPUS`.
        checkpointing: as today's default does it; False keeps all activations.
        accumulation: micro-batches an optimizer step.
        efficiency: shares of the data sheet that are reached.
        node_bandwidth: bytes a second and direction between two nodes; None is a DGX's.
        counting: choices of the implementation, in place of today's; decides about checkpointing, and its `rows` are
            set to the micro-batch.

    Raises:
        ValueError: unknown model, mode or GPU; a batch that does not divide; checkpointing said twice.
    """
    mode = check_mode(mode)
    if counting is not None and not checkpointing:
        raise ValueError("checkpointing=False has no effect beside counting: say it there, Counting(recompute='none')")
    cluster = Cluster(
        model=find_model(model) if isinstance(model, str) else model,
        gpu=by_name(GPUS, gpu, "GPU"),
        gpus=gpus,
        accumulation=accumulation,
        efficiency=efficiency or Efficiency(),
        node_bandwidth=node_bandwidth,
    )
    counting = counting or Counting(recompute="early_stop" if checkpointing else "none")
    return _plan(cluster, mode, replace(counting, rows=cluster.micro_batch))


def predict_all(model: VLModel | str, *, gpus: int, gpu: str) -> list[Plan]:
    """All modes side by side, with checkpointing; arguments and errors as of `predict`."""
    return [predict(model, mode, gpus=gpus, gpu=gpu) for mode in MODES]


def _plan(cluster: Cluster, mode: Mode, counting: Counting) -> Plan:
    model = cluster.model
    cost, plain = count(model, mode, counting), count(model, "mle", counting)
    seconds = cluster.step_seconds(cost)
    loss, plain_loss = (loss_memory(model.decoder, model.sample, m, cluster.micro_batch) for m in (mode, "mle"))
    state, inputs = cluster.state_bytes(), cluster.input_bytes(counting)
    keeps_all = counting.recompute == "none"
    return Plan(
        model=model.name,
        mode=mode,
        gpus=cluster.gpus,
        gpu=cluster.gpu.name,
        micro_batch=cluster.micro_batch,
        accumulation=cluster.accumulation,
        step_seconds=seconds,
        hours=seconds * model.samples / model.global_batch / 3600,
        flops_per_sample=cost.total.flops,
        state_gib=state / GIB,
        inputs_gib=inputs / GIB,
        loss_gib=loss / GIB,
        fits=None if keeps_all else (state + inputs + loss) / GIB < cluster.gpu.memory_gib,
        time_ratio=seconds / cluster.step_seconds(plain),
        flop_ratio=cost.total.flops / plain.total.flops,
        loss_memory_ratio=loss / plain_loss,
        floor=model.sample.text / ((3 if keeps_all else 4) * model.sample.all),
    )
