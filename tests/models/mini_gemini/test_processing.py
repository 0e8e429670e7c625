"""`<image>` becomes as many tokens as the model has features, for our collator and for everybody else."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, PreTrainedTokenizerFast
from worlds.small_mini_gemini import build_mini_gemini, small_config

from contralign.data.batches.collator import VLCollator
from contralign.data.batches.image_inputs import image_inputs
from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.models.mini_gemini import MiniGeminiConfig, MiniGeminiProcessor

TOKENIZER = Path(__file__).parents[2] / "golden" / "llama_like_tokenizer" / "tokenizer.json"
VICUNA = 32000


def tokenizer():
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER), **names)


def picture(seed=0, size=(50, 31)):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


@pytest.mark.parametrize("grid, tokens", [(1, 576), (2, 2880)])
def test_a_picture_takes_576_tokens_and_2880_in_hd(grid, tokens):
    config = MiniGeminiConfig(image_grid=grid)
    processor = MiniGeminiProcessor.for_config(config, tokenizer())
    made = processor(text=["<image>\nWhat?"], images=[picture()], return_tensors="pt")
    assert config.image_token_id == processor.image_token_id == VICUNA
    assert int((made["input_ids"] == VICUNA).sum()) == tokens == config.image_seq_length


@pytest.mark.parametrize("grid", [1, 2])
def test_our_collator_asks_it_as_any_processor(grid):
    config = small_config(grid, image_token_id=VICUNA)
    processor = MiniGeminiProcessor.for_config(config, tokenizer())
    pictures = [picture(0), picture(1, (20, 64))]
    made = image_inputs(processor, pictures, "pad")
    assert made.blocks == [(VICUNA,) * config.image_seq_length] * 2
    assert not made.token_fields
    alone = [image_inputs(processor, [each], "pad").vision for each in pictures]
    assert sorted(made.vision) == ["pixel_values", "pixel_values_aux"]
    for name, value in made.vision.items():
        assert torch.equal(value, torch.cat([each[name] for each in alone]))


def test_a_collated_batch_with_two_pictures_in_a_row_goes_through_the_model():
    model = build_mini_gemini(image_token_id=VICUNA)
    model.resize_token_embeddings(VICUNA)
    collate = VLCollator(MiniGeminiProcessor.for_config(model.config, tokenizer()), template="vicuna_v1")

    def sample(name, count, text):
        turns = (Turn("user", f"{IMAGE}\n" * count + text), Turn("assistant", "A red kite."))
        return Sample(id=name, turns=turns, pictures=tuple(picture(seed) for seed in range(count)))

    batch = collate([sample("two", 2, "Which?"), sample("none", 0, "Hello"), sample("one", 1, "What is it?")])
    out = model(**batch)
    assert (batch["input_ids"] == VICUNA).sum(dim=1).tolist() == [8, 0, 4]
    assert torch.isfinite(out.loss)
    assert out.logits.shape == (*batch["input_ids"].shape, VICUNA)


def test_text_alone_needs_no_picture():
    processor = MiniGeminiProcessor.for_config(small_config(image_token_id=VICUNA), tokenizer())
    assert sorted(processor(text=["Hello"], return_tensors="pt")) == ["attention_mask", "input_ids"]


def test_a_saved_processor_comes_back_through_auto(tmp_path):
    processor = MiniGeminiProcessor.for_config(small_config(2, image_token_id=VICUNA), tokenizer(), do_pad=True)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is MiniGeminiProcessor
    text = ["<image> What? <image>", "Nothing."]
    ours, theirs = (
        each(text=text, images=[[picture(0), picture(1)], []], padding=True) for each in (processor, loaded)
    )
    assert ours["input_ids"] == theirs["input_ids"]
    assert (ours["pixel_values"] == theirs["pixel_values"]).all()
    assert ours["input_ids"][0].count(VICUNA) == 40


def test_a_tokenizer_without_the_image_token_is_refused_and_for_config_adds_it():
    plain = tokenizer()
    plain.add_tokens(["<other>"], special_tokens=True)
    with pytest.raises(ValueError, match=r"reads '<image>' as \d+ tokens: wanted one"):
        MiniGeminiProcessor(None, tokenizer())
    with pytest.raises(ValueError, match="<image> has the id 32001 in the tokenizer and image_token_id is 32000"):
        MiniGeminiProcessor.for_config(MiniGeminiConfig(), plain)
