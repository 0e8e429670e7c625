"""Ids against those of the original's tokenizers: golden conversations, and the sentencepiece library itself."""

import importlib.util
import json
import random
import re
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoTokenizer

from contralign.data.records.formats.llava_json import llava_sample
from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.data.text.loss_mask import encode, prompt_ids
from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.tokenizers.sentencepiece_model import CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from contralign.models.convert.tokenizers.sentencepiece_tokenizer import read_tokenizer

GOLDEN = Path(__file__).parents[3] / "golden"
GEMMA = GOLDEN / "gemma_like_tokenizer"
EXPECTED = json.loads((GOLDEN / "tokenization.json").read_text())
CASES = {case["name"]: case for case in EXPECTED["cases"]}
TEMPLATES = {"v1": "vicuna_v1", "plain": "plain", "gemma": "gemma"}
ROWS = [(name, row) for name, rows in EXPECTED["sets"].items() for row in rows if "error" not in row]
ALPHABET = [*"abTe is a in the\n\t09</s_▁éü北京😀.,!?'\"\r", "\u00a0", "the", "ing", "  ", " " * 9, " " * 33, "\n\n\n"]


@pytest.fixture(scope="module")
def llama(llama_directory):
    return read_tokenizer(llama_directory)


@pytest.fixture(scope="module")
def gemma():
    return read_tokenizer(GEMMA)


def sample_of(case: dict, template: str) -> Sample:
    if template == "plain" and case["name"] == "literal_image_text_only":
        roles = {"human": "user", "gpt": "assistant"}
        turns = [Turn(roles[t["from"]], t["value"].replace("<image>", IMAGE)) for t in case["conversations"]]
        return Sample(case["name"], tuple(turns), (Image.new("RGB", (2, 2)),) * 2)
    picture = {"image": Image.new("RGB", (2, 2))} if case["has_image"] else {}
    return llava_sample({"conversations": case["conversations"], **picture}, case["name"], None)


def agreeing(llama, gemma) -> list[bool]:
    same = []
    for set_name, row in ROWS:
        template = TEMPLATES[set_name.split("/")[0]]
        words, length = gemma if template == "gemma" else llama, int(set_name.split("max=")[1])
        made = encode(sample_of(CASES[row["name"]], template), template, words, length)
        same.append((list(made.input_ids), list(made.labels)) == (row["input_ids"], row["labels"]))
    return same


def test_all_golden_conversations_get_the_original_ids_and_labels(llama, gemma):
    same = agreeing(llama, gemma)
    assert len(same) == 45 and all(same)


def test_all_golden_generation_prompts_get_the_original_ids(llama, gemma):
    for entry in EXPECTED["open_prompts"]:
        turns = []
        for question, answer in entry["history"]:
            turns += [Turn("user", question.replace("<image>", IMAGE)), Turn("assistant", answer)]
        turns.append(Turn("user", entry["question"].replace("<image>", IMAGE)))
        pictures = (Image.new("RGB", (2, 2)),) * sum(turn.text.count(IMAGE) for turn in turns)
        words = gemma if entry["template"] == "gemma" else llama
        assert list(prompt_ids(Sample("p", tuple(turns), pictures), entry["template"], words)) == entry["input_ids"]


def test_the_raw_file_of_the_golden_ids_gives_them_too(tmp_path, gemma):
    package = importlib.util.find_spec("mistral_common")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("mistral-common, which carries the SentencePiece file of the golden ids, is not installed")
    (tmp_path / "tokenizer.model").symlink_to(
        Path(package.submodule_search_locations[0]) / "data" / "tokenizer.model.v1"
    )
    assert all(agreeing(read_tokenizer(tmp_path), gemma))


def theirs(directory: Path, **normalizer):
    """The library on the same file, settings of its normaliser changed."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="ids are compared with the library's")
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((directory / "tokenizer.model").read_bytes())
    for name, value in normalizer.items():
        setattr(model.normalizer_spec, name, value)
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def random_texts(count: int) -> list[str]:
    drawn = random.Random(0)
    return ["".join(drawn.choices(ALPHABET, k=drawn.randint(1, 25))) for _ in range(count)]


def test_random_text_and_runs_of_spaces_get_the_librarys_ids(llama, llama_directory, gemma):
    runs = [before + " " * count + behind for count in range(1, 60) for before in ("", "a") for behind in ("", "b")]
    for words, library in ((llama, theirs(llama_directory)), (gemma, theirs(GEMMA))):
        for text in (*random_texts(400), *runs):
            assert words.encode(text, add_special_tokens=False) == library.encode(text), repr(text)


def test_without_legacy_only_the_beginning_of_a_text_gets_a_space(llama_directory, write_tokenizer):
    """The slow tokenizer of transformers 4.37, with the library on a file that puts no space in front itself."""
    library = theirs(llama_directory, add_dummy_prefix=False)
    words = read_tokenizer(write_tokenizer((llama_directory / "tokenizer.model").read_bytes(), legacy=False))

    def slow(text: str) -> list[int]:
        parts = re.split("(</s>)", "▁" + text.replace("▁", " "))
        if len(parts) > 1 and parts[0] == "▁":  # a space before a special token is taken away again
            parts = parts[1:]
        return [index for part in parts for index in ([2] if part == "</s>" else library.encode(part))]

    texts = ["a</s>b", "</s>b", "</s> b", " a", "  ", "a </s>USER: x</s>", "\nWhat", *random_texts(200)]
    for text in texts:
        assert words.encode(text, add_special_tokens=False) == slow(text), repr(text)


def test_legacy_puts_a_space_behind_a_special_token_the_newer_rule_does_not(llama, llama_directory, write_tokenizer):
    newer = read_tokenizer(write_tokenizer((llama_directory / "tokenizer.model").read_bytes(), legacy=False))
    assert llama.tokenize("the</s>the") == ["▁the", "</s>", "▁the"]
    assert newer.tokenize("the</s>the") == ["▁the", "</s>", "the"]


def test_text_comes_back(llama, gemma):
    for words in (llama, gemma):
        for text in ("A red  bird\n on 北京 😀.", " a", "x"):
            assert words.decode(words.encode(text), skip_special_tokens=True) == text


def test_saved_it_gives_the_same_ids_through_the_auto_class(tmp_path, gemma, llama_directory, write_tokenizer):
    newer = read_tokenizer(write_tokenizer((llama_directory / "tokenizer.model").read_bytes(), legacy=False))
    for at, words in enumerate((gemma, newer)):
        words.save_pretrained(tmp_path / str(at))
        again = AutoTokenizer.from_pretrained(tmp_path / str(at))
        assert again.padding_side == "right" and again.pad_token_id == words.pad_token_id
        for text in random_texts(100):
            assert again.encode(text) == words.encode(text)


def test_the_unknown_token_pads_where_the_settings_name_none(llama, gemma):
    assert (llama.pad_token, llama.pad_token_id, llama.padding_side) == ("<unk>", 0, "right")
    assert (gemma.pad_token, gemma.eos_token_id, gemma.bos_token_id) == ("<pad>", 1, 2)
    assert gemma.model_max_length == 2048


@pytest.mark.parametrize(
    ("settings", "ends"), [({}, ([1], [])), ({"add_bos_token": False, "add_eos_token": True}, ([], [2]))]
)
def test_bos_and_eos_are_added_as_the_settings_ask(llama_directory, write_tokenizer, settings, ends):
    words = read_tokenizer(write_tokenizer((llama_directory / "tokenizer.model").read_bytes(), **settings))
    inner = words.encode("the", add_special_tokens=False)
    assert words.encode("the") == [*ends[0], *inner, *ends[1]]


SMALL = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), ("a", -2.0, NORMAL)]


def test_of_equal_scores_the_leftmost_pair_joins_as_in_the_library(write_tokenizer, make_sentencepiece):
    equal = [("▁", -9.0, NORMAL), *[("▁" * count, -9.0, NORMAL) for count in (2, 3, 4, 8)]]
    directory = write_tokenizer(make_sentencepiece([*SMALL, *equal]))
    words, library = read_tokenizer(directory), theirs(directory)
    for count in range(40):
        assert words.encode("a" + " " * count, add_special_tokens=False) == library.encode("a" + " " * count)


@pytest.mark.parametrize(
    ("extra", "settings", "message"),
    [
        ([("word", 0.0, USER_DEFINED)], {}, "words of its own"),
        ([], {"pad_token": "<pad>"}, "the tokenizer has no <pad>"),
        ([], {"added_tokens_decoder": {"9": {"content": "<new>"}}}, "<new> ids that are not free"),
    ],
)
def test_what_would_change_ids_is_refused(write_tokenizer, make_sentencepiece, extra, settings, message):
    with pytest.raises(ConversionError, match=message):
        read_tokenizer(write_tokenizer(make_sentencepiece([*SMALL, *extra]), **settings))


def test_added_tokens_keep_their_ids(write_tokenizer, make_sentencepiece):
    added = {"4": {"content": "<pad>", "special": True}}
    words = read_tokenizer(write_tokenizer(make_sentencepiece(SMALL), added_tokens_decoder=added, pad_token="<pad>"))
    assert words.pad_token_id == 4 and len(words) == 5


def test_added_tokens_of_older_versions_are_read_too(write_tokenizer, make_sentencepiece):
    directory = write_tokenizer(make_sentencepiece(SMALL))
    (directory / "added_tokens.json").write_text('{"<pad>": 4}')
    assert read_tokenizer(directory).convert_tokens_to_ids("<pad>") == 4


def test_a_fast_file_is_taken_as_it_stands_and_no_file_is_named(tmp_path):
    words = read_tokenizer(GOLDEN / "llama_like_tokenizer")
    assert words.tokenize("A  b") == ["▁A", "▁", "▁b"]
    with pytest.raises(ConversionError, match=r"no tokenizer in .*: wanted tokenizer\.model or tokenizer\.json"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConversionError, match=r"tokenizer\.json is no tokenizer"):
        read_tokenizer(tmp_path)
