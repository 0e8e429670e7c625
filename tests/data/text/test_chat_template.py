import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from worlds.hf_messages import hf_messages

from contralign.batch import IGNORE_INDEX
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.data.text.chat_template import chat_template, image_marker
from contralign.data.text.loss_mask import IMAGE_SENTINEL, encode, prompt_ids


def learned(encoded, processor) -> str:
    return processor.tokenizer.decode([label for label in encoded.labels if label != IGNORE_INDEX])


def test_every_answer_is_learned_through_its_end_token(any_processor, two_pictures):
    assert learned(encode(two_pictures, "chat", any_processor), any_processor) == "a dog</s>the dog</s>"


@pytest.mark.parametrize("which", ["one_picture", "two_pictures", "no_picture"])
def test_a_template_without_marks_gives_the_same_labels(which, make_llava, unmarked, request):
    sample = request.getfixturevalue(which)
    marked, bare = encode(sample, "chat", make_llava()), encode(sample, "chat", make_llava(unmarked))
    assert marked == bare
    assert marked.num_labels > 0


@pytest.mark.parametrize("which", ["one_picture", "two_pictures", "no_picture"])
def test_the_prompt_is_what_the_processor_itself_makes(which, any_processor, request):
    sample = request.getfixturevalue(which)
    text = any_processor.apply_chat_template(hf_messages(sample)[:-1], add_generation_prompt=True, tokenize=False)
    marker = any_processor.tokenizer.convert_tokens_to_ids(image_marker(any_processor))
    wanted = [IMAGE_SENTINEL if token == marker else token for token in any_processor.tokenizer(text)["input_ids"]]
    assert list(prompt_ids(sample, "chat", any_processor)) == wanted


def test_a_prompt_is_the_beginning_of_the_encoded_sample(any_processor, two_pictures):
    prompt, encoded = prompt_ids(two_pictures, "chat", any_processor), encode(two_pictures, "chat", any_processor)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert all(label != IGNORE_INDEX for label in encoded.labels[len(prompt) : len(prompt) + 2])


@pytest.mark.parametrize("marks", [True, False])
def test_the_image_tokens_name_in_a_text_stays_text(marks, make_llava, unmarked, red):
    processor = make_llava() if marks else make_llava(unmarked)
    turns = (Turn("user", f"{IMAGE}what is <image>?"), Turn("assistant", "a <image> tag"))
    encoded = encode(Sample("s", turns, (red,)), "chat", processor)
    assert encoded.input_ids.count(IMAGE_SENTINEL) == 1
    assert processor.tokenizer.convert_tokens_to_ids("<image>") not in encoded.input_ids
    assert learned(encoded, processor) == "a <image> tag</s>"
    spoken = "".join(turns[1].text[span[1] : span[2]] for span in encoded.token_spans if span)
    assert spoken == "a <image> tag"


def test_token_spans_point_into_the_answers(any_processor, two_pictures):
    encoded = encode(two_pictures, "chat", any_processor)
    spoken = {}
    for span in filter(None, encoded.token_spans):
        spoken[span[0]] = spoken.get(span[0], "") + two_pictures.turns[span[0]].text[span[1] : span[2]]
    assert spoken == {1: "a dog", 3: "the dog"}


def test_a_template_that_trims_still_gives_spans(make_llava, unmarked, no_picture):
    processor = make_llava(unmarked.replace("{{ c['text'] }}</s>", "{{ c['text'] | trim }}</s>"))
    sample = Sample("s", (no_picture.turns[0], Turn("assistant", "  a dog ")))
    encoded = encode(sample, "chat", processor)
    spans = [span for span in encoded.token_spans if span]
    assert (spans[0][1], spans[-1][2]) == (2, 7)


def test_a_text_that_opens_with_bos_gets_no_second(make_llava, unmarked, no_picture):
    processor = make_llava("<s>" + unmarked)
    ids = encode(no_picture, "chat", processor).input_ids
    assert ids.count(processor.tokenizer.bos_token_id) == 1


def test_a_bare_tokenizer_reads_messages_as_strings(make_llava, no_picture, text_template):
    tokenizer = make_llava().tokenizer
    tokenizer.chat_template = text_template
    assert not chat_template(tokenizer).parts
    encoded = encode(no_picture, "chat", tokenizer)
    assert tokenizer.decode(encoded.input_ids) == "[user]what is this?</s>[assistant]a dog</s>"
    assert tokenizer.decode([label for label in encoded.labels if label != IGNORE_INDEX]) == "a dog</s>"


def test_a_template_that_prints_no_picture_is_refused(make_llava, unmarked, one_picture):
    with pytest.raises(BadRecord, match="picture_count"):
        encode(one_picture, "chat", make_llava(unmarked.replace("IMAGE_TOKEN", "")))


def test_a_template_that_refuses_a_role_gives_a_bad_record(make_llava, unmarked):
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + unmarked
    sample = Sample("s", (Turn("system", "Be kind."), Turn("user", "hi"), Turn("assistant", "a dog")))
    with pytest.raises(BadRecord, match="no system role"):
        encode(sample, "chat", make_llava(template))


def test_a_template_that_rewrites_earlier_turns_is_refused(make_llava, unmarked, two_pictures):
    with pytest.raises(BadRecord, match="template_rewrites"):
        encode(two_pictures, "chat", make_llava("{{ messages | length }}" + unmarked))


def test_a_processor_without_a_template_is_refused(make_llava, no_picture):
    processor = make_llava()
    processor.chat_template = None
    with pytest.raises(ValueError, match="no single chat template"):
        encode(no_picture, "chat", processor)


def test_pictures_need_an_image_token(make_llava, one_picture, gemma_like):
    gemma_like.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(BadRecord, match="no_picture_place"):
        encode(one_picture, "chat", gemma_like)


@pytest.mark.parametrize("end", ["</s>", ""])
def test_a_template_that_teaches_no_end_is_logged(end, make_llava, caplog):
    marked = "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'text' %}"
    marked += "{% if m['role'] == 'assistant' %}{% generation %}{{ c['text'] }}END{% endgeneration %}"
    marked += "{% else %}{{ c['text'] }}{% endif %}{% endif %}{% endfor %}{% endfor %}"
    chat_template(make_llava(marked.replace("END", end)))
    assert ("will not learn to stop" in caplog.text) == (end == "")


def test_an_image_token_that_the_tokenizer_does_not_know_is_refused(make_llava, one_picture):
    processor = make_llava()
    processor.image_token = "[picture]"
    processor.chat_template = processor.chat_template.replace("<image>", "[picture]")
    with pytest.raises(ValueError, match="add it as a special token"):
        encode(one_picture, "chat", processor)


def test_unknown_words_of_a_text_model_are_no_pictures(text_template, no_picture):
    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "dog": 2, "assistant": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    tokenizer.chat_template = text_template
    encoded = encode(no_picture, "chat", tokenizer)
    assert tokenizer.unk_token_id in encoded.input_ids and IMAGE_SENTINEL not in encoded.input_ids
