import io
import logging
import pickle
from copy import deepcopy

import pytest
import torch
from PIL import Image
from transformers import PaliGemmaProcessor, SiglipImageProcessorPil
from worlds.hf_messages import hf_messages

from contralign.batch import IGNORE_INDEX
from contralign.data.batches.aspect import MEAN_COLOUR
from contralign.data.batches.collator import VLCollator
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import IMAGE, Sample, Turn


def hf_inputs(processor, sample: Sample) -> dict:
    """The batch of one row as the processor itself makes it."""
    settings = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True, "return_tensors": "pt"}
    return processor.apply_chat_template(hf_messages(sample), **settings)


@pytest.mark.parametrize("which", ["one_picture", "two_pictures", "no_picture"])
def test_ids_and_labels_are_those_of_the_processor_itself(which, any_processor, request):
    sample = request.getfixturevalue(which)
    batch, wanted = VLCollator(any_processor)([sample]), hf_inputs(any_processor, sample)
    assert torch.equal(batch["input_ids"], wanted["input_ids"])
    assert torch.equal(batch["labels"] != IGNORE_INDEX, wanted["assistant_masks"].bool())
    assert torch.equal(batch["attention_mask"], wanted["attention_mask"])
    assert set(batch) == (set(wanted) - {"assistant_masks"}) | {"labels"}
    if "token_type_ids" in wanted:
        assert torch.equal(batch["token_type_ids"], wanted["token_type_ids"])


def test_pixels_are_those_of_the_processor_itself(llava, two_pictures):
    batch, wanted = VLCollator(llava)([two_pictures]), hf_inputs(llava, two_pictures)
    assert torch.equal(batch["pixel_values"], wanted["pixel_values"])


@pytest.mark.parametrize("side", ["right", "left"])
def test_rows_of_a_batch_equal_rows_alone_and_padding_is_ignored(
    side, any_processor, one_picture, two_pictures, no_picture
):
    samples, collate = [one_picture, two_pictures, no_picture], VLCollator(any_processor, padding_side=side)
    batch = collate(samples)
    for index, sample in enumerate(samples):
        alone = collate([sample])
        here = batch["attention_mask"][index].bool()
        edge = here[0] if side == "right" else here[-1]
        assert edge and here.sum() == alone["input_ids"].shape[1]
        for name in ("input_ids", "labels"):
            assert torch.equal(batch[name][index][here], alone[name][0])
        assert (batch["labels"][index][~here] == IGNORE_INDEX).all()
        assert (batch["input_ids"][index][~here] == any_processor.tokenizer.pad_token_id).all()


def test_no_label_stands_at_an_image_token(any_processor, one_picture, two_pictures):
    batch = VLCollator(any_processor)([one_picture, two_pictures])
    image = batch["input_ids"] == any_processor.image_token_id
    assert image.any()
    assert (batch["labels"][image] == IGNORE_INDEX).all()


def test_a_batch_of_text_has_no_pixels(any_processor, no_picture):
    batch = VLCollator(any_processor, keep_pictures=True)([no_picture, no_picture])
    assert "pixel_values" not in batch
    assert batch["pictures"] == ((), ())


def test_original_pictures_are_kept_by_row(llava, one_picture, two_pictures, no_picture, red, blue):
    batch = VLCollator(llava, keep_pictures=True, image_aspect="pad")([two_pictures, no_picture, one_picture])
    assert batch["pictures"] == ((red, blue), (), (red,))
    assert "pictures" not in VLCollator(llava)([one_picture])


def test_kinds_stand_at_their_tokens_on_both_padding_sides(llava, one_picture, two_pictures):
    for side in ("right", "left"):
        batch = VLCollator(llava, padding_side=side).encode_batch([two_pictures, one_picture])
        named = {}
        for token, kind in zip(batch.inputs["input_ids"][1].tolist(), batch.kinds[1], strict=True):
            if kind:
                named[kind] = named.get(kind, "") + llava.tokenizer.decode(token)
        assert named == {"visual": " red", "filler": " dog"}
        assert batch.kinds[0] == [None] * batch.inputs["input_ids"].shape[1]
        spans = batch.token_spans[1]
        labelled = batch.inputs["labels"][1] != IGNORE_INDEX
        assert all(labelled[column] for column, span in enumerate(spans) if span)


def test_vicuna_on_a_processor_puts_whole_pictures_between_the_pieces(llava_vicuna, red):
    sample = Sample("s", (Turn("user", f"{IMAGE}\nWhat?"), Turn("assistant", "A dog.")), (red,))
    batch = VLCollator(llava_vicuna, template="vicuna_v1")([sample])
    tokens = llava_vicuna.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
    first = tokens.index("<image>")
    assert tokens[first - 1 : first + 6] == ["▁", "<image>", "<image>", "<image>", "<image>", "▁", "<0x0A>"]
    learned = [label for label in batch["labels"][0].tolist() if label != IGNORE_INDEX]
    assert llava_vicuna.tokenizer.convert_ids_to_tokens(learned) == ["▁A", "▁dog", ".", "</s>"]


@pytest.fixture(scope="module")
def llava_vicuna(make_llava, llama_like):
    processor = make_llava()
    tokenizer = deepcopy(llama_like)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"], "pad_token": "<unk>", "eos_token": "</s>"})
    processor.tokenizer = tokenizer
    processor.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    return processor


def test_truncation_drops_the_picture_that_does_not_fit(llava, two_pictures, red):
    turns = (*two_pictures.turns[:2], Turn("user", f"and {IMAGE}"), Turn("assistant", "the dog"))
    sample = Sample("three", turns, (*two_pictures.pictures, red))
    whole = VLCollator(llava, keep_pictures=True).encode_batch([sample])
    third = whole.rows[0].image_starts[2]
    cut = VLCollator(llava, keep_pictures=True, max_length=third + 2)([sample])
    assert cut["input_ids"].shape[1] == third
    assert cut["pixel_values"].shape[0] == 2 and whole.inputs["pixel_values"].shape[0] == 3
    assert torch.equal(cut["pixel_values"], whole.inputs["pixel_values"][:2])
    assert len(cut["pictures"][0]) == 2


def test_a_sample_that_truncation_leaves_without_labels_is_bad(llava, one_picture):
    with pytest.raises(BadRecord, match=r"one: .*max_length=10.*no_label_left"):
        VLCollator(llava, max_length=10)([one_picture])


def broken_picture_sample() -> Sample:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(file, format="PNG")
    cut = Image.open(io.BytesIO(file.getvalue()[:800]))
    return Sample("broken", (Turn("user", f"{IMAGE}what?"), Turn("assistant", "a dog")), (cut,))


def test_an_undecodable_picture_is_named_under_error(llava, one_picture):
    with pytest.raises(BadRecord, match=r"broken: .*cannot be decoded") as refusal:
        VLCollator(llava)([one_picture, broken_picture_sample()])
    assert refusal.value.reason == "corrupt_picture"


def test_an_undecodable_picture_drops_its_row_under_skip_counted_and_logged_once(llava, one_picture, caplog):
    collate = VLCollator(llava, on_bad="skip")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            batch = collate([broken_picture_sample(), one_picture])
    assert torch.equal(batch["input_ids"], VLCollator(llava)([one_picture])["input_ids"])
    assert batch["pixel_values"].shape[0] == 1
    assert collate.skipped == {"corrupt_picture": 3}
    assert sum("broken" in message for message in caplog.messages) == 1


def test_a_batch_names_what_was_left_out_of_it(llava, one_picture):
    collate = VLCollator(llava, on_bad="skip")
    batches = [collate.encode_batch(batch) for batch in ([one_picture], [broken_picture_sample(), one_picture])]
    assert [[(bad.record, bad.reason) for bad in batch.skipped_records] for batch in batches] == [
        [],
        [("broken", "corrupt_picture")],
    ]


def test_settings_are_all_that_token_ids_and_pixels_depend_on(llava, make_llava):
    settings = VLCollator(llava, max_length=9, image_aspect="pad").settings
    assert settings | {"tokenizer": "", "image_processor": ""} == {
        "template": "chat",
        "max_length": 9,
        "image_aspect": "pad",
        "tokenizer": "",
        "image_processor": "",
    }
    assert VLCollator(llava, max_length=9, image_aspect="pad", padding_side="left").settings == settings
    larger = make_llava(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    assert (
        VLCollator(larger, max_length=9, image_aspect="pad").settings["image_processor"] != settings["image_processor"]
    )


def test_a_batch_with_no_good_sample_is_one_row_with_nothing_to_learn(llava):
    batch = VLCollator(llava, on_bad="skip", keep_pictures=True).encode_batch([broken_picture_sample()])
    assert (batch.inputs["labels"] == IGNORE_INDEX).all()
    assert batch.inputs["input_ids"].shape == (1, 2) and batch.inputs["attention_mask"].all()
    assert "pixel_values" not in batch.inputs and batch.inputs["pictures"] == ((),)
    assert batch.samples == (None,) and batch.kinds == [[None, None]]


def test_a_sample_the_template_learns_nothing_from_is_bad(llava_vicuna):
    sample = Sample("s", (Turn("user", "What?"), Turn("assistant", "")))
    collate = VLCollator(llava_vicuna, template="vicuna_v1")
    with pytest.raises(BadRecord, match="no_label"):
        collate.check(sample)
    with pytest.raises(BadRecord, match="no_label"):
        collate([sample])


def test_pad_makes_the_same_pixels_as_a_padded_picture(make_llava, red):
    square = Image.new("RGB", (40, 40), MEAN_COLOUR)
    square.paste(red, (0, 10))
    padded = VLCollator(make_llava(), image_aspect="pad").image_inputs([red])
    assert torch.equal(padded["pixel_values"], VLCollator(make_llava()).image_inputs([square])["pixel_values"])
    assert not torch.equal(padded["pixel_values"], VLCollator(make_llava()).image_inputs([red])["pixel_values"])


def test_a_bare_tokenizer_collates_text_and_refuses_pictures(make_llava, no_picture, one_picture, text_template):
    tokenizer = make_llava().tokenizer
    tokenizer.chat_template = text_template
    collate = VLCollator(tokenizer)
    assert set(collate([no_picture])) == {"input_ids", "attention_mask", "labels"}
    with pytest.raises(BadRecord, match="no_picture_place"):
        collate([one_picture])
    for setting in ({"keep_pictures": True}, {"image_aspect": "pad"}):
        with pytest.raises(ValueError, match="bare tokenizer"):
            VLCollator(tokenizer, **setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"template": "vicuna"}, "template='vicuna'"),
        ({"max_length": 1}, "max_length=1"),
        ({"on_bad": "drop"}, "on_bad='drop'"),
        ({"image_aspect": "anyres"}, "image_aspect='anyres'"),
        ({"padding_side": "up"}, "padding_side='up'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting, message, llava):
    with pytest.raises(ValueError, match=message):
        VLCollator(llava, **setting)


def test_a_tokenizer_without_a_pad_token_is_refused(make_llava):
    processor = make_llava()
    processor.tokenizer.pad_token = None
    with pytest.raises(ValueError, match="pad token"):
        VLCollator(processor)


def test_records_in_place_of_samples_are_refused_with_the_function_that_reads_them(llava):
    with pytest.raises(TypeError, match=r"type dict: wanted those of contralign\.data\.load_samples"):
        VLCollator(llava)([{"messages": [{"role": "user", "content": "hi"}]}])


def test_an_empty_batch_is_refused(llava):
    with pytest.raises(ValueError, match="empty batch"):
        VLCollator(llava)([])


def test_a_collator_travels_to_a_worker(llava, one_picture):
    collate = VLCollator(llava, on_bad="skip")
    assert torch.equal(pickle.loads(pickle.dumps(collate))([one_picture])["labels"], collate([one_picture])["labels"])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # transformers' own
def test_a_paligemma_is_told_where_the_answer_begins(llava, one_picture, no_picture):
    """Where its token types are 0 it reads in both directions: an answer of zeros would read itself."""
    images = SiglipImageProcessorPil(size={"height": 28, "width": 28}, image_seq_length=4)
    processor = PaliGemmaProcessor(images, llava.tokenizer, chat_template=llava.chat_template)
    batch = VLCollator(processor)([one_picture, no_picture])
    types, labels = batch["token_type_ids"], batch["labels"]
    answered = (labels != IGNORE_INDEX).cumsum(dim=1) > 0
    assert torch.equal(types.bool(), answered & batch["attention_mask"].bool())
    assert answered.any(dim=1).all() and not answered[:, 0].any()


class Picky:
    """A processor that refuses long pictures, as Qwen's does."""

    def __init__(self, processor):
        self.processor = processor

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, *, images, **settings):
        if any(max(picture.size) > 20 * min(picture.size) for line in images for picture in line):
            raise ValueError("absolute aspect ratio must be smaller than 20")
        return self.processor(images=images, **settings)


def long_sample(size):
    turns = (Turn("user", f"{IMAGE}what is it?"), Turn("assistant", "a line"))
    return Sample("long", turns, (Image.new("RGB", size),), source="d.json")


@pytest.mark.parametrize(
    ("size", "aspect", "reason"), [((300, 2), "processor", "refused_picture"), ((65_500, 1), "pad", "too_long")]
)
def test_a_picture_that_the_processor_refuses_is_one_bad_record(size, aspect, reason, llava, one_picture):
    samples = [one_picture, long_sample(size), one_picture]
    with pytest.raises(BadRecord, match=rf"d\.json, long: .*{size[0]} x {size[1]} pixels.*\[{reason}\]"):
        VLCollator(Picky(llava), image_aspect=aspect)(samples)
    skipping = VLCollator(Picky(llava), image_aspect=aspect, on_bad="skip")
    batch, alone = skipping(samples), VLCollator(llava, image_aspect=aspect)([one_picture] * 2)
    assert skipping.skipped == {reason: 1} and set(skipping.skipped_records) == {"d.json, long"}
    assert batch.keys() == alone.keys() and all(torch.equal(batch[name], alone[name]) for name in alone)


def test_what_is_no_pictures_fault_is_no_bad_record(llava, one_picture, monkeypatch):
    collate = VLCollator(llava, on_bad="skip")
    calls = []

    def fails_at_first(pictures):
        calls.append(len(pictures))
        if len(calls) == 1:
            raise ValueError("of the batch")
        return make(pictures)

    make = collate._make
    monkeypatch.setattr(collate, "_make", fails_at_first)
    with pytest.raises(ValueError, match="of the batch"):
        collate([one_picture, one_picture])
