"""Tokenizers of models of parts: an image token behind the words, a pad token, padding on the right."""

import pytest
from worlds.small_parts import GOLDEN

from contralign.models.assembly.part_tokenizer import load_part_tokenizer, train_part_tokenizer
from contralign.models.convert.checkpoint import ConversionError

TEXTS = ["a cat sat on a mat", "the dog did not"] * 3


@pytest.mark.parametrize("name", ["tiny_llama_tokenizer", "gemma_like_tokenizer"])
def test_the_image_token_stands_behind_the_words_of_a_part(name):
    tokenizer = load_part_tokenizer(GOLDEN / name)
    assert tokenizer.get_vocab()["<image>"] == len(tokenizer) - 1
    assert (tokenizer.pad_token_id, tokenizer.padding_side) == (0, "right")
    ids = tokenizer("a<image>b", add_special_tokens=False)["input_ids"]
    assert ids.count(len(tokenizer) - 1) == 1


@pytest.mark.parametrize(
    ("model_type", "first"), [("llama", ["<unk>", "<s>", "</s>"]), ("gemma", ["<pad>", "<eos>", "<bos>", "<unk>"])]
)
def test_a_learnt_one_has_the_special_tokens_of_its_kind(model_type, first):
    tokenizer = train_part_tokenizer(model_type, TEXTS, 400, 128)
    assert tokenizer.convert_ids_to_tokens(range(len(first))) == first
    assert tokenizer("cat")["input_ids"][0] == tokenizer.bos_token_id
    assert tokenizer.get_vocab()["<image>"] == len(tokenizer) - 1
    assert tokenizer.decode(tokenizer("the cat")["input_ids"], skip_special_tokens=True) == "the cat"
    assert (tokenizer.pad_token_id, tokenizer.padding_side, tokenizer.model_max_length) == (0, "right", 128)


def test_marks_of_gemmas_turns_are_single_tokens():
    tokenizer = train_part_tokenizer("gemma", TEXTS, 400, 128)
    for mark in ("<start_of_turn>", "<end_of_turn>"):
        assert len(tokenizer(mark, add_special_tokens=False)["input_ids"]) == 1


def test_a_directory_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="no tokenizer in"):
        load_part_tokenizer(tmp_path)
