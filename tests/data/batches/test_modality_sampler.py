"""The order of records by modality and length, against the original's."""

import json
from pathlib import Path

import pytest
import torch

from contralign.data.batches.modality_sampler import (
    epoch_generator,
    length_order,
    modality_length_order,
    modality_lengths,
)
from contralign.data.records.messages import IMAGE, Sample, Turn

CASES = json.loads((Path(__file__).parents[2] / "golden" / "modality_sampler.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_two_passes_have_the_order_of_the_original(case):
    torch.manual_seed(case["torch_seed"])
    assert case["generator_seed"] is None
    order = modality_length_order if case["group_by_modality"] else length_order
    passes = [order(case["lengths"], case["batch_size"], case["world_size"]) for _ in range(2)]
    assert passes == case["orders"]


def test_a_pass_takes_every_record_once():
    lengths = [(-1) ** (number % 3) * (number % 17 + 1) for number in range(203)]
    order = modality_length_order(lengths, 4, 3)
    assert sorted(order) == list(range(203))


def test_batches_are_of_one_modality_but_for_the_last_block():
    lengths = [5 if number % 3 else -7 for number in range(120)]
    order = modality_length_order(lengths, 4, 2)
    kinds = [{lengths[index] > 0 for index in order[start : start + 4]} for start in range(0, 104, 4)]
    assert all(len(kind) == 1 for kind in kinds)
    assert order[104:] == sorted(order[104:])


def test_own_generators_leave_the_global_state_alone_and_decide_everything():
    lengths = [(-1) ** number * (number + 1) for number in range(60)]

    def drawn(epoch):
        own = epoch_generator(3, epoch)
        return modality_length_order(lengths, 2, 2, generator=own, shuffle_generator=own)

    before = torch.get_rng_state()
    first = drawn(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert drawn(0) == first
    assert drawn(1) != first


def test_the_generator_of_the_original_reaches_only_the_megabatches():
    lengths = [(-1) ** number * (number + 1) for number in range(60)]
    orders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        orders.append(modality_length_order(lengths, 2, 2, generator=epoch_generator(0, 0)))
    assert orders[0] != orders[1]


def test_an_epoch_of_one_seed_is_not_another_epoch_of_another():
    first = torch.randperm(50, generator=epoch_generator(0, 1))
    other = torch.randperm(50, generator=epoch_generator(1, 0))
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("lengths", "batch_size", "chunks", "message"),
    [([3, 0, -2], 1, 1, "a 0"), ([], 1, 1, "no lengths"), ([1, 2], 0, 1, "batch_size=0"), ([1], 1, 0, "num_chunks=0")],
)
def test_what_cannot_be_ordered_is_refused(lengths, batch_size, chunks, message):
    with pytest.raises(ValueError, match=message):
        modality_length_order(lengths, batch_size, chunks)


def test_a_length_is_the_words_of_all_turns_with_the_modality_as_its_sign(red):
    asked = (Turn("user", f"{IMAGE}\nwhat is this?"), Turn("assistant", "a  red\ndog"))
    said = (Turn("user", "hello you"), Turn("assistant", "hi"))
    assert modality_lengths([Sample("one", asked, (red,)), Sample("two", said)]) == [7, -3]


def test_a_sample_without_a_word_is_refused():
    with pytest.raises(ValueError, match="'mute' has no words"):
        modality_lengths([Sample("mute", (Turn("user", ""), Turn("assistant", " ")))])
