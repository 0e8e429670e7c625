"""Accelerators as numbers from their data sheets; a network as a DGX node of that generation has it."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One accelerator and its links.

    Attributes:
        name: as written on the command line.
        peak_flops: dense bf16 operations a second of the tensor cores (a multiply and an add are two).
        memory_bandwidth: bytes a second.
        memory_gib: what it holds; data sheets count in GB of 1e9 bytes.
        link_bandwidth: bytes a second and direction between the GPUs of one node (NVLink).
        node_bandwidth: bytes a second and direction between two nodes of 8, all network cards of a node together.
    """

    name: str
    peak_flops: float
    memory_bandwidth: float
    memory_gib: float
    link_bandwidth: float
    node_bandwidth: float

    def gather_bandwidth(self, gpus: int) -> float:
        """Bytes a second that reach each of `gpus` GPUs in an all-gather by rings.

        Every byte crosses a node's border once, spread over all of its cards, so the slower of both links decides.
        """
        return self.link_bandwidth if gpus <= 8 else min(self.link_bandwidth, self.node_bandwidth)


GB = 1e9
GIB = 2**30

A100 = Gpu(  # SXM, 80 GB; DGX A100: 8 cards of 200 Gb/s
    name="a100",
    peak_flops=312e12,
    memory_bandwidth=2039 * GB,
    memory_gib=80 * GB / GIB,
    link_bandwidth=300 * GB,
    node_bandwidth=200 * GB,
)
H100 = Gpu(  # SXM, 80 GB; DGX H100: 8 cards of 400 Gb/s
    name="h100",
    peak_flops=989e12,
    memory_bandwidth=3350 * GB,
    memory_gib=80 * GB / GIB,
    link_bandwidth=450 * GB,
    node_bandwidth=400 * GB,
)
# SXM, 141 GB; the same die and links as h100
H200 = replace(H100, name="h200", memory_bandwidth=4800 * GB, memory_gib=141 * GB / GIB)
GPUS = {gpu.name: gpu for gpu in (A100, H100, H200)}
