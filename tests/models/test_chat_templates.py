"""A processor's chat template and the training template give the same tokens."""

import pytest
from PIL import Image
from worlds.small_parts import GOLDEN

from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.data.text.loss_mask import IMAGE_SENTINEL, encode, prompt_ids
from contralign.models.assembly.assemble import assemble_tiny
from contralign.models.assembly.part_tokenizer import load_part_tokenizer
from contralign.models.assembly.published_parts import GEMMA_2B, VICUNA_7B
from contralign.models.convert.processors import chat_template_for
from contralign.models.published_towers import CLIP_L_336

KINDS = {"llama": ("vicuna_v1", "tiny_llama_tokenizer"), "gemma": ("gemma", "gemma_like_tokenizer")}
TURNS = [("user", "what is it?"), ("assistant", "a cat"), ("user", "sure?"), ("assistant", "yes, a cat")]
PICTURE = Image.new("RGB", (8, 8))


def chat(turns, with_picture):
    """Messages for a processor, and the sample that training reads."""
    messages, spoken = [], []
    for index, (role, text) in enumerate(turns):
        shows = with_picture and index == 0
        parts = [{"type": "image"}] if shows else []
        messages.append({"role": role, "content": [*parts, {"type": "text", "text": text}]})
        spoken.append(Turn(role, f"{IMAGE}\n{text}" if shows else text))
    return messages, Sample("one", tuple(spoken), (PICTURE,) if with_picture else ())


def processor_of(model_type):
    """A processor around a tokenizer as it is published."""
    language_model = {"llama": VICUNA_7B, "gemma": GEMMA_2B}[model_type]
    _, processor = assemble_tiny("llava", ["a cat"], language_model=language_model, vision_tower=CLIP_L_336)
    processor.tokenizer = load_part_tokenizer(GOLDEN / KINDS[model_type][1])
    processor.image_token_id = processor.tokenizer.get_vocab()["<image>"]
    processor.chat_template = chat_template_for(model_type, processor.tokenizer)
    return processor


def ids_of(processor, messages, open_prompt):
    text = processor.apply_chat_template(messages, add_generation_prompt=open_prompt)
    ids = processor.tokenizer(text)["input_ids"]
    return [IMAGE_SENTINEL if token == processor.image_token_id else token for token in ids]


@pytest.mark.parametrize("with_picture", [True, False])
@pytest.mark.parametrize("model_type", KINDS)
def test_prompts_and_conversations_have_the_ids_of_training(model_type, with_picture):
    processor, template = processor_of(model_type), KINDS[model_type][0]
    for turns in (TURNS[:1], TURNS[:3]):
        messages, sample = chat(turns, with_picture)
        assert ids_of(processor, messages, open_prompt=True) == list(prompt_ids(sample, template, processor))
    messages, sample = chat(TURNS, with_picture)
    assert ids_of(processor, messages, open_prompt=False) == list(encode(sample, template, processor).input_ids)


@pytest.mark.parametrize("model_type", KINDS)
def test_the_template_marks_what_training_learns(model_type):
    processor = processor_of(model_type)
    _, sample = chat(TURNS, with_picture=True)
    own, training = (encode(sample, template, processor) for template in ("chat", KINDS[model_type][0]))
    assert own.labels == training.labels
    assert own.num_labels > 5


def test_a_vicuna_takes_a_system_turn_and_gemma_refuses_one():
    messages, _ = chat([("system", "be brief"), *TURNS[:1]], with_picture=False)
    vicuna = processor_of("llama").apply_chat_template(messages, add_generation_prompt=True)
    assert vicuna == "be brief USER: what is it? ASSISTANT:"
    with pytest.raises(Exception, match="no place for a turn of the system"):
        processor_of("gemma").apply_chat_template(messages)
