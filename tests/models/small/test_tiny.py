import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor
from worlds.same_numbers import assert_says_the_same

from contralign.models.small.tiny import build_tiny

TEXTS = ["what do you see?", "a red lamp and a blue fish.", "a green fish.", "what is it? it is a lamp."]
SMALL = {"image_size": 16, "patch_size": 8, "tower_hidden": 16, "hidden": 32, "layers": 2, "heads": 2}
CHATS = [
    [{"role": "user", "content": "what do you see?"}, {"role": "assistant", "content": "a red lamp and a blue fish."}],
    [{"role": "user", "content": "what is it?"}, {"role": "assistant", "content": "a green fish."}],
]


@pytest.fixture
def tiny():
    return build_tiny(TEXTS, **SMALL)


def picture(colour="red"):
    return Image.new("RGB", (16, 16), colour)


def asked(processor, question="what is it?", colours=("red",), **more):
    chat = [
        {
            "role": "user",
            "content": [*({"type": "image", "image": picture(c)} for c in colours), {"type": "text", "text": question}],
        }
    ]
    return processor.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt", **more)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_it_is_a_llava_with_its_processor(tiny):
    model, processor = tiny
    assert type(model) is LlavaForConditionalGeneration
    assert type(processor) is LlavaProcessor
    assert model.config.image_token_id == processor.image_token_id == processor.tokenizer.image_token_id
    assert model.get_input_embeddings().num_embeddings == len(processor.tokenizer)


def test_a_saved_model_loads_through_the_auto_classes_with_equal_logits(tmp_path):
    model, processor = build_tiny(TEXTS, tmp_path, **SMALL)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, local_files_only=True)
    loaded_processor = AutoProcessor.from_pretrained(tmp_path, local_files_only=True)
    inputs, again = asked(processor), asked(loaded_processor)
    assert all(torch.equal(inputs[name], again[name]) for name in inputs)
    assert_says_the_same(model.eval(), loaded.eval(), inputs, again)
    assert (tmp_path / "model.safetensors").is_file()


def test_it_generates(tiny):
    model, processor = tiny
    inputs = asked(processor, add_generation_prompt=True)
    made = model.eval().generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert made.shape[1] == inputs["input_ids"].shape[1] + 3


def test_the_picture_reaches_the_logits(tiny):
    model, processor = tiny
    with torch.no_grad():
        red, blue = (model.eval()(**asked(processor, colours=[colour])).logits for colour in ("red", "blue"))
    assert (red - blue).abs().max() > 1e-4


def test_every_picture_takes_its_patches(tiny):
    _, processor = tiny
    inputs = asked(processor, colours=("red", "blue"))
    assert (inputs["input_ids"] == processor.image_token_id).sum() == 2 * 4


def test_pale_paper_becomes_quiet_pixels(tiny):
    _, processor = tiny
    paper, ink = (processor.image_processor(picture(c), return_tensors="pt").pixel_values for c in ("#f0f0f0", "black"))
    assert paper.abs().max() < 0.01
    assert ink.max() < -3


def test_the_chat_template_marks_what_the_assistant_says(tiny):
    _, processor = tiny
    inputs = processor.tokenizer.apply_chat_template(
        [*CHATS[0], *CHATS[1]],
        chat_template=processor.chat_template,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    text = processor.tokenizer.decode(inputs["input_ids"])
    assert text == (
        "<s>USER: what do you see? ASSISTANT: a red lamp and a blue fish.</s>"
        "USER: what is it? ASSISTANT: a green fish.</s>"
    )
    spoken = [token for token, mark in zip(inputs["input_ids"], inputs["assistant_masks"], strict=True) if mark]
    assert processor.tokenizer.decode(spoken) == " a red lamp and a blue fish.</s> a green fish.</s>"


def test_a_picture_stands_on_a_line_of_its_own(tiny):
    _, processor = tiny
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nwhat is it?"}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    assert text == "<s>USER: <image>\nwhat is it? ASSISTANT:"


def test_words_of_the_texts_are_one_token_and_nothing_is_unknown(tiny):
    tokenizer = tiny[1].tokenizer
    assert len(tokenizer.tokenize(" lamp")) == len(tokenizer.tokenize(" ASSISTANT:")) - 1 == 1
    assert tokenizer.decode(tokenizer(" Ünknown 漢字", add_special_tokens=False)["input_ids"]) == " Ünknown 漢字"


def test_weights_repeat_under_a_seed_and_leave_the_global_random_state_alone():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, again, other = (state(build_tiny(TEXTS, **SMALL, seed=seed)[0]) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 20}, "image_size=20: wanted a multiple of patch_size"),
        ({"hidden": 33}, "hidden=33"),
        ({"tower_hidden": 17}, "tower_hidden=17"),
        ({"vision_feature_layer": -9}, "vision_feature_layer=-9: the tower has 2 layers"),
        ({"vocab_size": 200}, "vocab_size=200"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        build_tiny(TEXTS, **SMALL | wrong)
