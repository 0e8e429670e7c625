"""recipes/accelerate/*.yaml: accelerate understands all of them, and they leave to the recipe what it says itself."""

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from contralign.recipe.recipe_file import PACKAGED

FILES = PACKAGED / "accelerate"
NAMES = ("ddp", "fsdp2", "zero2", "zero3")


def launched_with(name, *words):
    """The arguments of `accelerate launch` with a file, and the environment that it gives its processes."""
    given = ["--config_file", str(FILES / f"{name}.yaml"), *words, "train.py"]
    args = _validate_launch_command(launch_command_parser().parse_args(given))[0]
    args.deepspeed_fields_from_accelerate_config = ""
    environment = prepare_deepspeed_cmd_env(args)[1] if args.use_deepspeed else prepare_multi_gpu_env(args)
    return args, environment


@pytest.fixture
def in_environment(monkeypatch):
    """Puts into this process what a launch would give to one of its own."""

    def put(name):
        for key, value in launched_with(name)[1].items():
            monkeypatch.setenv(key, value)

    return put


def test_there_are_these_files_and_no_others():
    assert sorted(path.name for path in FILES.iterdir()) == sorted(f"{name}.yaml" for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_knows_every_key(name):
    """It refuses unknown ones at the top itself; those of the engines it would take in silence."""
    assert isinstance(load_config_from_file(str(FILES / f"{name}.yaml")), ClusterConfig)
    known = {action.dest for action in launch_command_parser()._actions}
    values = yaml.safe_load((FILES / f"{name}.yaml").read_text())
    engine = {key for inner in values.values() if isinstance(inner, dict) for key in inner}
    assert engine <= known
    assert len(engine) == {"ddp": 0, "fsdp2": 8}.get(name, len(engine) or -1)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_recipe_says_is_left_to_it(name):
    environment = launched_with(name)[1]
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
    assert environment.get("ACCELERATE_GRADIENT_CLIPPING", "auto") == "auto"
    assert environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "auto") == "auto"
    assert environment.get("FSDP_ACTIVATION_CHECKPOINTING", "false") == "false"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_file_serves_many_machines(name):
    """No ssh, no hostfile: every machine starts its own processes and finds the first."""
    words = ["--num_machines", "2", "--num_processes", "16", "--machine_rank", "1"]
    args, _ = launched_with(name, *words, "--main_process_ip", "node0", "--main_process_port", "29500")
    assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("2", "8", 1)
    assert (args.rdzv_endpoint, args.rdzv_backend) == ("node0:29500", "static")


def test_fsdp2_shards_by_layers(in_environment):
    in_environment("fsdp2")
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert plugin.transformer_cls_names_to_wrap == ["LlamaDecoderLayer", "CLIPEncoderLayer"]
    assert plugin.state_dict_type.name == "SHARDED_STATE_DICT"
    assert plugin.cpu_ram_efficient_loading and not plugin.activation_checkpointing
    assert type(plugin.cpu_offload).__name__ == "OffloadPolicy"  # the one that keeps all on the device


@pytest.mark.parametrize("stage", [2, 3])
def test_zero_clips_as_the_recipe_says_and_can_save_whole_models(stage, in_environment):
    in_environment(f"zero{stage}")
    config = DeepSpeedPlugin().deepspeed_config
    assert config["zero_optimization"]["stage"] == stage
    assert config["gradient_clipping"] == config["gradient_accumulation_steps"] == "auto"
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] == (stage == 3)


def test_engines_are_what_the_names_say():
    kinds = [load_config_from_file(str(FILES / f"{name}.yaml")).distributed_type for name in NAMES]
    assert kinds == [DistributedType.MULTI_GPU, DistributedType.FSDP, *[DistributedType.DEEPSPEED] * 2]
