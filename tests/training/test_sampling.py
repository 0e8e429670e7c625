"""The order of training records: between ranks, over epochs, and after a kill."""

import json

import pytest
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from small_recipes import STAGE, small_recipe, write_records
from torch.utils.data import BatchSampler, DataLoader
from transformers import TrainingArguments

from contralign.data.collator import VLCollator
from contralign.data.messages import Sample, Turn
from contralign.data.modality_sampler import epoch_generator, modality_length_order
from contralign.training.checkpoint import ResumingTrainer
from contralign.training.run import run_recipe
from contralign.training.sampling import ModalityLengthSampler, innermost_sampler

LENGTHS = [(-1) ** (number % 3) * (number % 13 + 1) for number in range(64)]


def sharded(rank, ranks=2):
    sampler = ModalityLengthSampler(LENGTHS, batch_size=4, num_chunks=ranks, seed=3)
    loader = DataLoader(range(64), batch_sampler=BatchSampler(sampler, 4, drop_last=False), collate_fn=list)
    return prepare_data_loader(loader, num_processes=ranks, process_index=rank)


def batches(loader, epoch):
    innermost_sampler(loader).set_epoch(epoch)
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


def small_trainer(folder, **settings):
    from torch import nn

    samples = [Sample(str(number), (Turn("user", "a " * number), Turn("assistant", "b"))) for number in range(1, 9)]
    args = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[], **settings)
    return ResumingTrainer(model=nn.Linear(1, 1), args=args, train_dataset=samples)


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
    recipe = small_recipe(
        tmp_path,
        data={"train": [str(tmp_path / "mixed.json")], "sampler": "modality_length"},
        stages={"it": {**STAGE, "steps": 6, "batch_size": 2, "cal": True}},
    )
    run_recipe(recipe, {})
    lengths = [-(5 + number) - 1 if number in (1, 4, 6, 7, 9) else 7 for number in range(12)]
    draws = epoch_generator(recipe.seed, 0)
    order = modality_length_order(lengths, 2, 1, generator=draws, shuffle_generator=draws)
    assert seen == 2 * [[f"r{index}" for index in order[start : start + 2]] for start in range(0, 12, 2)]
