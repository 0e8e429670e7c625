"""How long work takes on a cluster, and what its GPUs hold.

A pass takes as long as its products and its memory traffic one after the other, or as long as its collectives where
those take longer (they run side by side).
"""

from dataclasses import dataclass

from contralign.bench.plan.gpus import Gpu
from contralign.bench.plan.operations.counting import Counting
from contralign.bench.plan.operations.work import SampleCost, Work
from contralign.bench.plan.shapes import VLModel

STATE_BYTES = 12  # float32 master weights and two Adam moments
UPDATE_TRAFFIC = 30  # reads a bf16 gradient and the state, writes the state and the bf16 weight


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    """Shares of a data sheet's numbers that a run reaches.

    Attributes:
        products: of the peak operations, products that checkpointing repeats included; the calibrated number.
        memory: of the memory bandwidth.
        network: of the links' bandwidth.

    Raises:
        ValueError: a share outside (0, 1].
    """

    products: float = 0.455
    memory: float = 0.8
    network: float = 0.8

    def __post_init__(self) -> None:
        for name in ("products", "memory", "network"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: a share of the peak lies in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A model spread over GPUs.

    Attributes:
        model: what is trained.
        gpu: on which.
        gpus: on how many.
        accumulation: micro-batches an optimizer step.
        efficiency: shares of the data sheet that are reached.
        node_bandwidth: bytes a second between nodes, in place of the GPU's own.

    Raises:
        ValueError: a batch that does not divide.
    """

    model: VLModel
    gpu: Gpu
    gpus: int
    accumulation: int
    efficiency: Efficiency
    node_bandwidth: float | None = None

    def __post_init__(self) -> None:
        parts = self.gpus * self.accumulation
        if self.gpus < 1 or self.accumulation < 1 or self.model.global_batch % parts:
            raise ValueError(
                f"{self.gpus} GPUs with accumulation {self.accumulation}: the batch of {self.model.global_batch} "
                "samples does not divide into as many micro-batches; wanted two numbers whose product divides it"
            )

    @property
    def micro_batch(self) -> int:
        """Samples a GPU takes at once."""
        return self.model.global_batch // (self.gpus * self.accumulation)

    def compute_seconds(self, work: Work) -> float:
        """One sample's products and memory traffic, times the micro-batch."""
        products = work.flops / (self.gpu.peak_flops * self.efficiency.products)
        traffic = work.bytes / (self.gpu.memory_bandwidth * self.efficiency.memory)
        return self.micro_batch * (products + traffic)

    def gather_seconds(self, weights: int) -> float:
        """An all-gather of so many bf16 weights; a reduce-scatter of their gradients takes as long."""
        bandwidth = self.gpu.gather_bandwidth(self.gpus)
        if self.node_bandwidth is not None and self.gpus > 8:
            bandwidth = min(self.gpu.link_bandwidth, self.node_bandwidth)
        share = (self.gpus - 1) / self.gpus
        return 2 * weights * share / (bandwidth * self.efficiency.network)

    def update_seconds(self) -> float:
        """The optimizer step on this GPU's share of the weights."""
        traffic = UPDATE_TRAFFIC * self.model.trained_parameters / self.gpus
        return traffic / (self.gpu.memory_bandwidth * self.efficiency.memory)

    def step_seconds(self, cost: SampleCost) -> float:
        """One optimizer step: contrast, forward and backward of every micro-batch, then the update."""
        forward, backward, contrast = map(self.compute_seconds, (cost.forward, cost.backward, cost.contrast))
        reduce = self.gather_seconds(self.model.trained_parameters)
        if self.model.sharding == "zero3":
            gather = self.gather_seconds(self.sharded_parameters)
            micro_step = max(forward, gather) + max(backward, gather + reduce)
            micro_step += max(contrast, gather) if contrast else 0.0
            return self.accumulation * micro_step + self.update_seconds()
        last_backward = max(backward, reduce) - backward
        return self.accumulation * (forward + backward + contrast) + last_backward + self.update_seconds() + reduce

    @property
    def sharded_parameters(self) -> int:
        """Weights that ZeRO-3 spreads and gathers for every pass: what is trained, and the language model."""
        model = self.model
        return model.trained_parameters + (not model.train_decoder) * model.decoder.parameters

    def state_bytes(self) -> float:
        """Weights, gradients and optimizer state a GPU holds."""
        trained = self.model.trained_parameters
        whole = trained + self.model.frozen_parameters
        shared = self.sharded_parameters if self.model.sharding == "zero3" else 0
        return 2 * shared / self.gpus + 2 * (whole - shared) + (2 + STATE_BYTES) * trained / self.gpus

    def input_bytes(self, counting: Counting) -> float:
        """bf16 inputs of all decoder layers, which checkpointing keeps."""
        decoder = self.model.decoder
        kept = 2 * decoder.hidden * decoder.layers * self.model.sample.all * self.micro_batch
        return 0.0 if counting.recompute == "none" else kept
