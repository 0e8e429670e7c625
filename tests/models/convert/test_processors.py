"""The chat template against the original's ids, and pictures against the original's pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import PreTrainedTokenizerFast

from contralign.models.chat_templates import GEMMA_TEMPLATE
from contralign.models.convert import ConversionError, load_original_llava
from contralign.models.convert.processors import llava_processor, vicuna_template
from contralign.models.convert.tokenizers.sentencepiece_tokenizer import read_tokenizer
from contralign.models.decoder.image_token import add_image_token

GOLDEN = Path(__file__).parents[2] / "golden"
TOWERS = GOLDEN / "ckpt"
EXPECTED = json.loads((GOLDEN / "tokenization.json").read_text())
CASES = {case["name"]: case for case in EXPECTED["cases"]}
SIMPLE = ["single_image_first", "image_in_middle", "text_only_single", "unicode_whitespace"]


def messages_of(case: dict) -> list[dict]:
    """The record as Hugging Face messages: a picture first, its mark taken out of the text as the original does."""
    roles = {"human": "user", "gpt": "assistant"}
    messages = []
    for turn in case["conversations"]:
        parts = [{"type": "image"}] if case["has_image"] and "<image>" in turn["value"] else []
        text = turn["value"].replace("<image>", "").strip() if parts else turn["value"]
        messages.append({"role": roles[turn["from"]], "content": [*parts, {"type": "text", "text": text}]})
    return messages


@pytest.mark.parametrize("name", [name for name in SIMPLE if name in CASES])
def test_the_chat_template_gives_the_original_ids_and_answers(name, llama_directory):
    tokenizer = read_tokenizer(llama_directory)
    image = add_image_token(tokenizer)
    row = next(row for row in EXPECTED["sets"]["v1/legacy=True/max=2048"] if row["name"] == name)
    made = tokenizer.apply_chat_template(
        messages_of(CASES[name]),
        chat_template=vicuna_template(tokenizer),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    ids = [tokenizer.bos_token_id, *made["input_ids"]]  # the template leaves it to the processor, which puts it there
    assert ids == [image if index == -200 else index for index in row["input_ids"]]
    assert [0, *made["assistant_masks"]] == [int(label != -100) for label in row["labels"]]


@pytest.mark.parametrize("name", [name for name in SIMPLE if name in CASES])
def test_the_gemma_template_gives_the_original_ids_and_answers(name):
    tokenizer = read_tokenizer(GOLDEN / "gemma_like_tokenizer")
    image = add_image_token(tokenizer)
    row = next(row for row in EXPECTED["sets"]["gemma/max=2048"] if row["name"] == name)
    made = tokenizer.apply_chat_template(
        messages_of(CASES[name]), chat_template=GEMMA_TEMPLATE, return_dict=True, return_assistant_tokens_mask=True
    )
    ids = [tokenizer.bos_token_id, *made["input_ids"]]
    assert ids == [image if index == -200 else index for index in row["input_ids"]]
    assert [0, *made["assistant_masks"]] == [int(label != -100) for label in row["labels"]]


def test_text_behind_a_picture_opens_with_a_space_under_both_rules(llama_directory, write_tokenizer):
    content = (llama_directory / "tokenizer.model").read_bytes()
    for legacy, gap in ((True, ""), (False, " ")):
        tokenizer = read_tokenizer(write_tokenizer(content, legacy=legacy))
        image = add_image_token(tokenizer)
        assert f"<image>{gap}\\n" in vicuna_template(tokenizer)
        prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
        ids = tokenizer.apply_chat_template(
            prompt, chat_template=vicuna_template(tokenizer), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        at = ids.index(image)
        alone = tokenizer.encode("\nWhat? ASSISTANT:", add_special_tokens=False)
        assert ids[at + 1 :] == alone and ids[at - 1] == tokenizer.convert_tokens_to_ids("▁")


def test_a_tokenizer_for_which_no_template_is_right_is_refused(llama_directory):
    tokenizer = read_tokenizer(llama_directory)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>\nIt", "<image>"]})
    with pytest.raises(ConversionError, match="other ids behind a picture"):
        vicuna_template(tokenizer)


def test_the_image_token_is_added_once_and_behind_all_others(llama_directory):
    tokenizer = read_tokenizer(llama_directory)
    assert (add_image_token(tokenizer), add_image_token(tokenizer), len(tokenizer)) == (32000, 32000, 32001)
    assert tokenizer.encode("a<image>b", add_special_tokens=False).count(32000) == 1


def tiny_processor(**settings):
    model = load_original_llava(TOWERS / "llava15_tiny", TOWERS)
    model.config.original_settings |= settings
    tokenizer: PreTrainedTokenizerFast = read_tokenizer(GOLDEN / "tiny_llama_tokenizer")
    add_image_token(tokenizer)
    return llava_processor(model, tokenizer, TOWERS)


@pytest.mark.parametrize(("aspect", "pads"), [("pad", True), ("square", False)])
def test_pictures_are_padded_or_cropped_as_the_config_says(aspect, pads):
    processor = tiny_processor(image_aspect_ratio=aspect)
    wide = Image.new("RGB", (200, 50), (255, 255, 255))
    pixels = processor.image_processor(wide, return_tensors="np")["pixel_values"][0]
    assert pixels.shape == (3, 56, 56)
    assert (np.abs(pixels[:, 0]).max() < 0.02) == pads  # above a padded picture there is the mean colour


def test_a_picture_takes_as_many_tokens_as_the_tower_has_patches():
    processor = tiny_processor()
    made = processor(images=Image.new("RGB", (40, 30)), text="<image>")
    assert made["input_ids"][0].count(processor.image_token_id) == 16
