from dataclasses import replace

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor
from worlds.small_scores import mixed_samples, spread_pair, text_sample

from contralign.data.scores.score_digest import (
    image_processor_digest,
    model_digest,
    row_digest,
    samples_digest,
    tokenizer_digest,
)

SAMPLES = mixed_samples(4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model, collator = spread_pair(SAMPLES)
    model.save_pretrained(folder)
    collator.processor.save_pretrained(folder)
    return folder, collator


def row_of(collator, sample):
    return collator.encode_batch([sample]).rows[0]


def test_tokens_labels_and_pictures_each_change_the_digest(saved):
    _, collator = saved
    sample = SAMPLES[0]
    row = row_of(collator, sample)
    whole = row_digest(sample, row)
    other_label = row_digest(sample, replace(row, labels=(*row.labels[:-1], -100)))
    other_token = row_digest(sample, replace(row, input_ids=(*row.input_ids[:-1], 7)))
    other_picture = row_digest(replace(sample, pictures=SAMPLES[1].pictures), row)
    assert (other_label.text, other_label.pictures) == (whole.text, whole.pictures)
    assert other_token.pictures == whole.pictures
    assert other_token.text != whole.text
    assert other_picture.text == whole.text
    assert other_picture.pictures != whole.pictures
    assert len({digest.whole for digest in (whole, other_label, other_token, other_picture)}) == 4


def test_neither_id_nor_source_nor_the_name_of_a_picture_matters(saved, tmp_path):
    _, collator = saved
    for name in ("a.png", "b.png"):
        SAMPLES[0].pictures[0].save(tmp_path / name)
    one, other = (replace(SAMPLES[0], id=name, source=name, pictures=(tmp_path / name,)) for name in ("a.png", "b.png"))
    row = row_of(collator, one)
    assert row_digest(one, row) == row_digest(other, row)
    Image.new("RGB", (32, 32)).save(tmp_path / "b.png")
    assert row_digest(one, row) != row_digest(other, row)


def test_a_picture_that_was_cut_off_does_not_count(saved):
    _, collator = saved
    row = row_of(collator, SAMPLES[0])
    cut = replace(row, image_starts=())
    assert row_digest(SAMPLES[0], cut) == row_digest(replace(SAMPLES[0], pictures=SAMPLES[1].pictures), cut)


def test_records_are_told_apart_by_id_text_picture_and_order():
    digests = [
        samples_digest(samples)
        for samples in (
            SAMPLES,
            SAMPLES[::-1],
            SAMPLES[:-1],
            [*SAMPLES[:-1], text_sample("other")],
            [replace(SAMPLES[0], pictures=SAMPLES[1].pictures), *SAMPLES[1:]],
        )
    ]
    assert len(set(digests)) == len(digests)
    assert samples_digest(mixed_samples(4)) == digests[0]


def test_a_processor_is_the_same_after_it_was_saved_and_used(saved):
    folder, collator = saved
    loaded = AutoProcessor.from_pretrained(folder)
    collator(SAMPLES[:2])
    assert tokenizer_digest(loaded.tokenizer) == tokenizer_digest(collator.tokenizer)
    assert image_processor_digest(loaded) == image_processor_digest(collator.processor)
    loaded.tokenizer.add_tokens(["<new>"])
    loaded.image_processor.image_mean = [0.1, 0.2, 0.3]
    assert tokenizer_digest(loaded.tokenizer) != tokenizer_digest(collator.tokenizer)
    assert image_processor_digest(loaded) != image_processor_digest(collator.processor)
    assert image_processor_digest(collator.tokenizer) is None


def test_a_model_is_told_from_the_one_that_was_trained_from_it(saved):
    folder, _ = saved
    before = model_digest(folder)
    assert model_digest(folder) == before
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    save_file({name: weight * 1.0001 for name, weight in weights.items()}, file, metadata={"format": "pt"})
    assert model_digest(folder) != before
