"""The order of training records: between ranks, over epochs, and after a kill; streams likewise."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from safetensors.torch import load_file
from torch.utils.data import BatchSampler, DataLoader
from transformers import TrainingArguments
from transformers.trainer_pt_utils import get_dataloader_sampler
from worlds.small_recipes import STAGE, small_plan, write_records
from worlds.small_streams import tar_members, write_jsonl, write_parquet, write_tar

from contralign.checkpoints.resumable_sampler import SKIPPED_FOLDER, ModalityLengthSampler
from contralign.checkpoints.resuming_trainer import ResumingTrainer
from contralign.data.batches.collator import VLCollator
from contralign.data.batches.modality_sampler import epoch_generator, modality_length_order
from contralign.data.records.messages import Sample, Turn
from contralign.data.streams.streaming import StreamedSamples
from contralign.recipe.schema import merge
from contralign.run.callbacks import StageBar
from contralign.run.run import run_plan

LENGTHS = [(-1) ** (number % 3) * (number % 13 + 1) for number in range(64)]


def sharded(rank, ranks=2):
    sampler = ModalityLengthSampler(LENGTHS, batch_size=4, num_chunks=ranks, seed=3)
    loader = DataLoader(range(64), batch_sampler=BatchSampler(sampler, 4, drop_last=False), collate_fn=list)
    return prepare_data_loader(loader, num_processes=ranks, process_index=rank)


def batches(loader, epoch):
    get_dataloader_sampler(loader).set_epoch(epoch)
    loader.set_epoch(epoch)
    return list(loader)


def test_ranks_take_disjoint_parts_of_one_order():
    parts = [batches(sharded(rank), epoch=0) for rank in range(2)]
    assert len(parts[0]) == len(parts[1]) == 8
    dealt = [index for pair in zip(*parts, strict=True) for batch in pair for index in batch]
    draws = epoch_generator(3, 0)
    assert dealt == modality_length_order(LENGTHS, 4, 2, generator=draws, shuffle_generator=draws)
    assert sorted(dealt) == list(range(64))


def test_ranks_get_batches_of_one_modality_at_the_same_time():
    parts = [batches(sharded(rank), epoch=0) for rank in range(2)]
    for ours, theirs in list(zip(*parts, strict=True))[:-2]:
        assert len({LENGTHS[index] > 0 for index in ours + theirs}) == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_resumed_epoch_goes_on_in_its_own_order(ranks):
    for rank in range(ranks):
        whole = batches(sharded(rank, ranks), epoch=1)
        assert whole != batches(sharded(rank, ranks), epoch=0)
        assert batches(skip_first_batches(sharded(rank, ranks), 3), epoch=1) == whole[3:]


def small_trainer(folder, samples=None, **settings):
    if samples is None:
        samples = [Sample(str(number), (Turn("user", "a " * number), Turn("assistant", "b"))) for number in range(1, 9)]
    args = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[], **settings)
    return ResumingTrainer(model=torch.nn.Linear(1, 1), args=args, train_dataset=samples, data_collator=list)


def test_the_order_follows_data_seed_and_the_seed_without_it(tmp_path):
    seeds = []
    for settings in ({"seed": 5}, {"seed": 5, "data_seed": 9}):
        trainer = small_trainer(tmp_path, **settings)
        trainer.group_by_modality([-1] * 8)
        seeds.append(trainer._get_train_sampler().seed)
    assert seeds == [5, 9]


def test_a_megabatch_is_what_a_step_of_all_ranks_takes(tmp_path):
    trainer = small_trainer(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=3)
    trainer.group_by_modality([-1] * 8)
    sampler = trainer._get_train_sampler()
    assert (sampler.batch_size, sampler.num_chunks) == (2, 3)


def test_lengths_of_other_records_are_refused(tmp_path):
    with pytest.raises(ValueError, match="3 lengths for 8 training records"):
        small_trainer(tmp_path).group_by_modality([1, 2, 3])


def test_a_strategy_of_the_trainer_beside_it_is_refused(tmp_path):
    with pytest.raises(ValueError, match="train_sampling_strategy='sequential' has no effect"):
        small_trainer(tmp_path, train_sampling_strategy="sequential").group_by_modality([1] * 8)


def test_without_being_asked_the_order_is_the_trainer_s_own(tmp_path):
    assert type(small_trainer(tmp_path)._get_train_sampler()).__name__ == "RandomSampler"


def test_both_arms_of_a_recipe_take_the_order_it_names(tmp_path, monkeypatch):
    seen = []
    original = VLCollator.__call__
    monkeypatch.setattr(
        VLCollator, "__call__", lambda self, samples: seen.append([s.id for s in samples]) or original(self, samples)
    )
    records = json.loads(write_records(tmp_path, 12).read_text())
    for text_only in (1, 4, 6, 7, 9):
        del records[text_only]["image"]
        records[text_only]["conversations"][0]["value"] = "what colour?" + " again" * text_only
    (tmp_path / "mixed.json").write_text(json.dumps(records))
    recipe = small_plan(
        tmp_path,
        data={"train": [str(tmp_path / "mixed.json")], "sampler": "modality_length"},
        stages={"it": {**STAGE, "steps": 6, "batch_size": 2, "cal": True}},
    )
    run_plan(recipe, {})
    lengths = [-(5 + number) - 1 if number in (1, 4, 6, 7, 9) else 7 for number in range(12)]
    draws = epoch_generator(recipe.recipe.seed, 0)
    order = modality_length_order(lengths, 2, 1, generator=draws, shuffle_generator=draws)
    assert seen == 2 * [[f"r{index}" for index in order[start : start + 2]] for start in range(0, 12, 2)]


def write_mixture(folder):
    """18 records in three files, and a broken line."""
    path = write_jsonl(folder / "a.jsonl", range(7))
    path.write_text(path.read_text() + "no json\n")
    write_tar(folder / "b.tar", tar_members(range(7, 12)))
    write_parquet(folder / "c.parquet", range(12, 18))
    return [str(folder / name) for name in ("a.jsonl", "b.tar", "c.parquet")]


def stream_recipe(folder, name, **changes):
    data = {"train": write_mixture(folder), "streaming": True, "shuffle_buffer": 4, "on_bad": "skip"}
    stage = {**STAGE, "steps": 6, "batch_size": 2, "grad_accumulation": 2, "cal": True}
    values = {"data": data, "stages": {"it": stage}, "arms": None, "trainer": {"save_steps": 2, "logging_steps": 1}}
    return small_plan(folder, output_dir=str(folder / name), **merge(values, changes))


def test_the_loader_of_a_stream_is_endless_follows_data_seed_and_notes_beside_the_checkpoints(tmp_path):
    stream = StreamedSamples(write_mixture(tmp_path), tmp_path, on_bad="skip")
    loaders = [
        small_trainer(
            tmp_path / "out", stream, max_steps=3, per_device_train_batch_size=4, **seeds
        ).get_train_dataloader()
        for seeds in ({"seed": 5}, {"seed": 1, "data_seed": 5}, {"seed": 6})
    ]
    taken = [[sample.id for _, batch in zip(range(20), loader, strict=False) for sample in batch] for loader in loaders]
    assert len(taken[0]) == 80
    assert taken[0] == taken[1] != taken[2]
    assert set(Counter(taken[0]).values()) <= {4, 5}
    (tmp_path / "out" / SKIPPED_FOLDER / "00007.count").write_bytes(b"1")
    small_trainer(tmp_path / "out", stream, max_steps=3).get_train_dataloader()
    assert not (tmp_path / "out" / SKIPPED_FOLDER).exists()
    next(iter(loaders[0]))
    assert len(list((tmp_path / "out" / SKIPPED_FOLDER).iterdir())) == 2
    assert stream.report.counts == {"bad_json": 1}


def test_a_recipe_trains_on_a_stream_and_names_what_it_left_out(tmp_path):
    run = run_plan(stream_recipe(tmp_path, "run"), {})
    left_out = json.loads((run / "bad_records.json").read_text())["it"]
    assert left_out["counts"] == {"bad_json": 1}
    assert left_out["records"][0]["record"] == "a.jsonl:8"
    assert left_out["total"] >= 6 * 2 * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_that_turn_out_to_be_bad_are_named_whichever_worker_meets_them(tmp_path, workers):
    recipe = stream_recipe(tmp_path, "run", trainer={"dataloader_num_workers": workers})
    (tmp_path / "3.png").write_bytes(b"no picture")
    (tmp_path / "5.png").unlink()
    run = run_plan(recipe, {})
    left_out = json.loads((run / "bad_records.json").read_text())["it"]
    assert left_out["counts"] == {"corrupt_picture": 1, "missing_picture": 1, "bad_json": 1}
    assert {"a.jsonl, r3", "a.jsonl, r5"} < {found["record"] for found in left_out["records"]}


def test_an_evaluation_may_go_over_the_training_records_of_a_stream_once(tmp_path):
    write_jsonl(tmp_path / "eval.jsonl", range(2))
    seen = []

    def look(arm, folder):
        seen.append([[sample.id for sample in arm.train.samples] for _ in range(2)])
        return {"held_out": len(arm.held_out)}

    changes = {"data": {"eval": [str(tmp_path / "eval.jsonl")]}, "evaluate": {"look": None}}
    run = run_plan(stream_recipe(tmp_path, "run", stages={"it": {"steps": 1}}, **changes), {"look": look})
    assert seen == [[[f"r{number}" for number in range(18)]] * 2]
    assert json.loads((run / "results.json").read_text())["arms"]["cal"]["look"]["held_out"] == 2


@pytest.mark.bit_exact
@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("on_bad", ["skip", "error"])
def test_a_run_over_a_stream_that_dies_and_is_resumed_ends_as_an_unbroken_one(tmp_path, monkeypatch, workers, on_bad):
    changes = {"trainer": {"dataloader_num_workers": workers}, "data": {"on_bad": on_bad}}
    if on_bad == "error":
        changes["data"]["train"] = write_mixture(tmp_path)[1:]
    recipes = [stream_recipe(tmp_path, name, **changes) for name in ("whole", "broken")]
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")  # of the JSONL file
    whole = run_plan(recipes[0], {})

    def die(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StageBar, "on_step_end", die)
        with pytest.raises(KeyboardInterrupt):
            run_plan(recipes[1], {})
    broken = run_plan(recipes[1], {}, resume=True)
    for name in ("loss", "nll", "grad_norm"):
        numbers = [[event[name] for event in run.metrics.read() if name in event] for run in (whole, broken)]
        assert len(numbers[0]) == 6
        assert numbers[0] == numbers[1]
    weights, others = (load_file(run / "cal" / "model.safetensors") for run in (whole, broken))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    if on_bad == "skip":
        reports = [json.loads((run / "bad_records.json").read_text())["it"] for run in (whole, broken)]
        assert reports[0]["counts"] == reports[1]["counts"] == {"corrupt_picture": 7, "bad_json": 1}


def test_a_stream_that_other_loader_processes_go_on_with_is_warned_about(tmp_path, monkeypatch, caplog):
    write_mixture(tmp_path)

    def die(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StageBar, "on_step_end", die)
        with pytest.raises(KeyboardInterrupt):
            run_plan(stream_recipe(tmp_path, "broken"), {})
    with caplog.at_level("WARNING", logger="contralign"):
        run_plan(stream_recipe(tmp_path, "broken", trainer={"dataloader_num_workers": 1}), {}, resume=True)
    (told,) = [record.getMessage() for record in caplog.records if "loader processes" in record.getMessage()]
    assert "read by 0 loader processes before and is read by 1 now" in told and "dataloader_num_workers=0" in told


def on_two_ranks(folder, name, stop):
    """Exit status of stream_ranks.py under torchrun."""
    script = Path(__file__).parents[1] / "ranks" / "stream_ranks.py"
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", str(script), str(folder), name, stop]
    variables = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, *words], env=os.environ | variables, capture_output=True, timeout=600)
    print(done.stderr.decode()[-3000:])
    return done.returncode


@pytest.mark.bit_exact
@pytest.mark.slow
def test_two_ranks_share_a_stream_and_go_on_with_it_after_dying(tmp_path):
    write_mixture(tmp_path)
    assert on_two_ranks(tmp_path, "whole", "0") == 0
    assert on_two_ranks(tmp_path, "broken", "5") != 0
    assert on_two_ranks(tmp_path, "broken", "0") == 0
    taken = {
        name: [json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
        for name in ("whole", "broken")
    }
    first_pass = [[name for batch in part[:4] for name in batch] for part in taken["whole"]]
    assert len(set(first_pass[0] + first_pass[1])) == 16
    for whole, broken in zip(taken["whole"], taken["broken"], strict=True):
        assert broken[:5] == whole[3:8]  # one more batch is fetched ahead
    weights, others = (load_file(tmp_path / name / "cal" / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    report = json.loads((tmp_path / "broken" / "bad_records.json").read_text())
    assert report["it"]["counts"] == {"bad_json": 1}


def test_ranks_that_share_a_model_are_refused(tmp_path, monkeypatch):
    trainer = small_trainer(tmp_path, StreamedSamples(write_mixture(tmp_path), tmp_path), max_steps=1)
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", 2)
    with pytest.raises(ValueError, match="dealt to 2 ranks, but 1 take batches of their own"):
        trainer.get_train_dataloader()
