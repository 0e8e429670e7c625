"""Two processes (gloo, CPU) against one on the same global batch, under DDP, FSDP2 and DeepSpeed ZeRO.

`rank_roles.py` says what the batches of the two ranks hold; where roles change, a rank has text alone, or nothing
labelled, or both, in most steps, and its partner something else.
"""

import itertools
import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration
from worlds.launched import needs_deepspeed, start

LONG = {"steps": 50, "roles": "changing"}
NUMBERS = ("loss", "nll", "delta_q95", "grad_norm", "norm", "sketch")
pytestmark = pytest.mark.slow


def run(folder, ranks, **case):
    folder.mkdir()
    done = start("two_ranks.py", ranks, folder, json.dumps(case))
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process on the batches of both, each setting trained once."""
    kept, numbers = {}, itertools.count()

    def one_process(**case):
        key = json.dumps(case, sort_keys=True)
        if key not in kept:
            kept[key] = run(tmp_path_factory.mktemp("alone") / str(next(numbers)), 1, batch_size=8, **case)
        return kept[key]

    return one_process


def assert_equal(found, wanted, tolerance=1e-5, numbers=NUMBERS):
    for number in numbers:
        assert found[number] == pytest.approx(wanted[number], rel=tolerance, abs=1e-6), number


@pytest.mark.parametrize("form", ["exact", "paper"])
def test_two_ranks_and_accumulation_equal_one_process(form, tmp_path, alone):
    unused = {"arguments": {"ddp_find_unused_parameters": True}}
    for name, batch_size, accumulation in (("two", 4, 1), ("accumulated", 2, 2)):
        split = run(tmp_path / name, 2, form=form, batch_size=batch_size, accumulation=accumulation, **unused)
        assert split["ranks"] == 2
        assert_equal(split, alone(form=form))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_ddp_with_changing_roles_equals_one_process(checkpointing, tmp_path, alone):
    """Layers that nobody reads are frozen; all other parameters get a gradient, so DDP need not look for any."""
    arguments = {"ddp_find_unused_parameters": False, "gradient_checkpointing": checkpointing}
    split = run(tmp_path / "two", 2, unread_layers="freeze", arguments=arguments, **LONG)
    assert split["sharding"] == "none"
    assert_equal(split, alone(unread_layers="freeze", **LONG))


def test_fsdp_with_changing_roles_equals_one_process(tmp_path, alone):
    split = run(tmp_path / "two", 2, engine="fsdp", evaluate=True, save=True, **LONG)
    assert (split["ranks"], split["sharding"], split["head"]) == (2, "layers", "GatheredHead")
    assert_equal(split, alone(evaluate=True, **LONG), numbers=(*NUMBERS, "evaluated"))
    assert_saved(tmp_path / "two" / "saved", split)


def test_fsdp_scales_accumulated_gradients(tmp_path, alone):
    """The step's normaliser is applied to gradients that are shards, before they are clipped."""
    short = {"steps": 16, "roles": "changing", "rows_per_role": 2}
    split = run(tmp_path / "two", 2, engine="fsdp", batch_size=2, accumulation=2, **short)
    assert_equal(split, alone(**short))


def test_fsdp_in_bfloat16_does_not_round_the_normaliser(tmp_path):
    half = {"dtype": "float32", "arguments": {"bf16": True, "ddp_find_unused_parameters": True}}
    split = run(tmp_path / "fsdp", 2, engine="fsdp", **half)
    ddp = run(tmp_path / "ddp", 2, **half)
    assert split["returned_dtype"] == ddp["returned_dtype"] == "torch.float32"
    assert_equal(split, ddp, tolerance=0.01, numbers=("loss", "nll"))


@needs_deepspeed
@pytest.mark.parametrize(
    "engine, sharding, head", [("zero2", "none", "LinearHead"), ("zero3", "modules", "GatheredHead")]
)
def test_deepspeed_with_changing_roles_equals_one_process(engine, sharding, head, tmp_path, alone):
    single = {"dtype": "float32", "evaluate": True, **LONG}
    split = run(tmp_path / "two", 2, engine=engine, save=True, **single)
    assert (split["ranks"], split["sharding"], split["head"]) == (2, sharding, head)
    assert_equal(split, alone(**single), numbers=(*NUMBERS, "evaluated"))
    assert_saved(tmp_path / "two" / "saved", split)


@needs_deepspeed
def test_zero3_with_checkpointing_and_log_probabilities_equals_one_process(tmp_path, alone):
    single = {"dtype": "float32", "score": "logprob", "steps": 16, "roles": "changing"}
    split = run(tmp_path / "two", 2, engine="zero3", arguments={"gradient_checkpointing": True}, **single)
    assert_equal(split, alone(**single))


@needs_deepspeed
def test_released_form_accumulates_under_deepspeed_as_under_ddp(tmp_path):
    case = {"form": "released", "batch_size": 2, "accumulation": 2, "steps": 8, "dtype": "float32"}
    ddp = run(tmp_path / "ddp", 2, arguments={"ddp_find_unused_parameters": True}, **case)
    assert_equal(run(tmp_path / "zero", 2, engine="zero3", **case), ddp)


BY_HAND = (
    {
        "layers": ("layers", "LinearHead"),
        "units": ("layers", "GatheredHead"),
        "checkpointed": ("layers", "GatheredHead"),
        "tied": ("layers", "LinearHead"),
        "late": ("layers", "LinearHead"),
    },
    {
        "logprob": ("layers", "GatheredHead"),
        "adapters": ("layers", "OpaqueHead"),
        "mask": ("layers", "GatheredHead"),
        "generic": ("layers", "GatheredHead"),
        "pieces": ("modules", "GatheredHead"),
        "pieces_mle": ("modules", "GatheredHead"),
        "prompt": ("modules", "GatheredHead"),
    },
    {
        "centred": ("layers", "GatheredHead"),
        "kl": ("layers", "GatheredHead"),
        "kl_pieces": ("modules", "GatheredHead"),
        "dft": ("layers", "GatheredHead"),
    },
)


@pytest.mark.parametrize("plans", BY_HAND, ids=lambda plans: "-".join(plans))
def test_fully_sharded_by_hand_equals_the_unsharded_twin(plans, tmp_path):
    done = start("bare_ranks.py", 2, tmp_path, ",".join(plans))
    assert done.returncode == 0, done.stderr[-6000:]
    results = json.loads((tmp_path / "result.json").read_text())
    for plan, (sharding, head) in plans.items():
        sharded, alone = results[plan]["sharded"], results[plan]["alone"]
        assert (sharded["sharding"], sharded["heads"], alone["sharding"]) == (sharding, [head], "none"), plan
        assert_equal(sharded, alone, tolerance=1e-9, numbers=("loss", "grad_norm", "weights"))


@pytest.mark.parametrize("engine", ["fsdp", pytest.param("zero3", marks=needs_deepspeed)])
def test_a_recipe_with_adapters_saves_whole_models_where_they_are_sharded(engine, tmp_path):
    for name, ranks in (("ddp", 1), (engine, 2)):
        (tmp_path / name).mkdir()
        done = start("recipe_ranks.py", ranks, tmp_path / name, name)
        assert done.returncode == 0, done.stderr[-6000:]
    arms = {}
    for arm in ("mle", "cal"):
        alone, split = (load_file(tmp_path / name / "run" / arm / "model.safetensors") for name in ("ddp", engine))
        assert alone.keys() == split.keys()
        assert all((alone[name] - split[name]).abs().max() < 1e-6 for name in alone)
        arms[arm] = split
    assert any((arms["mle"][name] - arms["cal"][name]).abs().max() > 1e-4 for name in arms["mle"])


def test_a_model_without_a_blank_picture_is_refused_where_a_rank_has_text_alone(tmp_path):
    done = start("bare_ranks.py", 2, tmp_path, "generic_text")
    assert done.returncode != 0
    for rank, came in enumerate(("pictures", "text alone")):
        assert f"[rank{rank}]: ValueError: this rank's batch holds {came} and another rank's does not" in done.stderr


def test_ranks_wait_for_ever_where_one_leaves_the_second_pass_out(tmp_path):
    done = start("bare_ranks.py", 2, tmp_path, "layers", "skip", PATIENCE="12")
    assert done.returncode != 0
    assert "Timeout" in done.stderr
    assert not (tmp_path / "result.json").exists()


def assert_saved(folder, result):
    """The directory that the Trainer wrote holds the weights that training ended with."""
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype="auto")
    state = model.state_dict()
    flat = torch.cat([state[name].flatten() for name in sorted(state)])
    assert flat[:: max(flat.numel() // 500, 1)].tolist() == pytest.approx(result["sketch"])
