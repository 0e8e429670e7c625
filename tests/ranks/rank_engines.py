"""DDP, FSDP2 and DeepSpeed between CPU processes: TrainingArguments, and what accelerate must be told first."""

from __future__ import annotations

from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType


def ddp() -> dict[str, Any]:
    return {"use_cpu": True}


def fsdp() -> dict[str, Any]:
    """accelerate turns FSDP on between GPUs only: it is told that there are some, and the device stays the CPU."""
    plain = PartialState.__init__

    def between_gpus(self: PartialState, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = between_gpus
    return {
        "use_cpu": True,
        "fsdp": True,
        "fsdp_config": {"transformer_layer_cls_to_wrap": ["LlamaDecoderLayer", "CLIPEncoderLayer"]},
    }


def zero(stage: int) -> dict[str, Any]:
    """accelerate knows DeepSpeed between devices only, and would take the CPU for one process."""
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would compile; gloo does as well
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_CPU)
    return {
        "deepspeed": {
            "zero_optimization": {
                "stage": stage,
                "stage3_param_persistence_threshold": 0,
                "stage3_gather_16bit_weights_on_model_save": True,
            },
            "gradient_clipping": "auto",
            "zero_allow_untested_optimizer": True,
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
        }
    }


ENGINES = {"ddp": ddp, "fsdp": fsdp, "zero2": lambda: zero(2), "zero3": lambda: zero(3)}
