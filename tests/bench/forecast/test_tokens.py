"""Lengths of records: measured against the collator, estimated by the rule of each family."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from contralign.bench.forecast.tokens import TOKENS_A_WORD, estimate, measure
from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.models.small.tiny import build_tiny

TOWER = SimpleNamespace(image_size=336, patch_size=14)
LLAVA = SimpleNamespace(model_type="llava", vision_config=TOWER)
NEXT = SimpleNamespace(model_type="llava_next", vision_config=TOWER)
MGM = SimpleNamespace(model_type="mini_gemini", image_seq_length=576, image_grid=1)
HD = SimpleNamespace(model_type="mini_gemini", image_seq_length=2880, image_grid=2)


def sample(size=(64, 48), question="what is this", answer="a red door with a sign", pictures=1) -> Sample:
    turns = (Turn("user", IMAGE * pictures + question), Turn("assistant", answer))
    return Sample("one", turns, tuple(Image.new("RGB", size) for _ in range(pictures)))


@pytest.mark.parametrize(
    ("config", "tokens", "tiles"), [(LLAVA, 576, 1), (NEXT, 2340, 5), (MGM, 576, 1), (HD, 2880, 5)]
)
def test_without_records_a_picture_of_cocos_size_is_assumed(config, tokens, tiles):
    found = estimate([], config, "vicuna_v1")
    assert (found.image, found.tiles, found.text, found.labels) == (tokens, tiles, 256, 128)
    assert found.how.startswith("assumed")


def test_with_records_pictures_count_by_their_sizes_and_words_by_their_number():
    found = estimate([sample((640, 480)), sample((1280, 720))], NEXT, "plain")
    assert found.image == (2340 + 1948) / 2
    assert found.labels == pytest.approx(6 * TOKENS_A_WORD + 1)
    assert found.text == pytest.approx(found.labels + 1)


def test_records_of_text_alone_have_no_image_tokens():
    found = estimate([sample(pictures=0), sample(pictures=2)], LLAVA, "vicuna_v1")
    assert found.image == 576 and found.tiles == 1


def test_a_family_that_only_its_processor_knows_is_not_guessed():
    assert estimate([sample()], SimpleNamespace(model_type="qwen2_vl"), "chat").image is None


def test_measured_lengths_are_those_of_the_collators_batch():
    texts = ["what is this", "a red door with a sign"]
    model, processor = build_tiny(texts, image_size=32, hidden=32, layers=1, tower_hidden=32, tower_layers=1, heads=2)
    collate = VLCollator(processor)
    found = measure([sample(), sample(pictures=0)], collate, model.config.image_token_id)
    one, other = (collate([each]) for each in (sample(), sample(pictures=0)))
    image = int((one["input_ids"] == model.config.image_token_id).sum())
    assert found is not None and found.image == image / 2 and found.tiles == 0.5
    assert found.text == (one["input_ids"].numel() - image + other["input_ids"].numel()) / 2
    assert found.labels == int((one["labels"] != -100).sum() + (other["labels"] != -100).sum()) / 2


def test_nothing_to_measure_is_said():
    assert measure([], None, 0) is None  # type: ignore[arg-type]


def test_text_beyond_the_maximum_length_is_not_counted():
    long = sample(answer="word " * 4000, pictures=0)
    whole, cut = estimate([long], LLAVA, "vicuna_v1"), estimate([long], LLAVA, "vicuna_v1", max_length=2048)
    assert whole.text > 5000 and cut.text == 2048
    assert cut.labels / cut.text == pytest.approx(whole.labels / whole.text)


def test_a_picture_of_anyres_has_as_many_tiles_as_its_grid():
    found = [estimate([sample(size)], NEXT, "plain").tiles for size in ((300, 300), (640, 480), (1280, 300))]
    assert found == [3, 5, 4]
