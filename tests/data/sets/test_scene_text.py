import random

from contralign.data.messages import IMAGE
from contralign.data.sets.scene_picture import Item, Scene, word_choices
from contralign.data.sets.scene_text import Manner, caption, questions, short_list
from contralign.data.sets.scene_words import LINES

SCENE = Scene(
    (
        Item(thing="sign", words=("red", "terobi"), colour="red", row=0, column=3),
        Item(thing="word", words=("printed", "lamp"), colour="teal", row=1, column=0),
        Item(thing="number", words=("number", "47"), colour="blue", row=2, column=1),
        Item(thing="shapes", words=("three", "black", "squares"), colour="black", row=3, column=2),
    ),
    paper=(240, 240, 240),
)


def manner(**changes):
    return Manner(**{"fillers": 0, "filler_choices": 200, "contradictions": 0.0, "glyphs": 256} | changes)


def said(turns, spans, kind):
    return [turns[span.turn].text[span.start : span.end] for span in spans if span.kind == kind]


def test_a_plain_caption_reads_line_by_line():
    turns, spans = caption(SCENE, manner(), random.Random(3))
    assert turns[0].text.startswith(f"{IMAGE}\n")
    sentences = turns[1].text.split(". ")
    assert [sentence.split()[1] for sentence in sentences] == list(LINES)
    assert sentences[1].endswith(" printed lamp")
    assert said(turns, spans, "visual") == [
        "red",
        "terobi",
        "printed",
        "lamp",
        "number",
        "47",
        "three",
        "black",
        "squares",
    ]


def test_a_list_is_the_visual_words_alone():
    turns, spans = short_list(SCENE, manner(), random.Random(3))
    assert turns[1].text == "red terobi. printed lamp. number 47. three black squares."
    assert [span.kind for span in spans].count("filler") == 4


def test_spans_cover_every_character_but_the_blanks_once():
    turns, spans = questions(SCENE, 4, manner(fillers=3, contradictions=0.5), random.Random(1))
    for number, turn in enumerate(turns):
        covered = [place for span in spans if span.turn == number for place in range(span.start, span.end)]
        wanted = [place for place, character in enumerate(turn.text) if character != " "]
        assert covered == (wanted if turn.role == "assistant" else [])


def test_each_question_is_about_another_line_and_is_answered_with_that_line():
    turns, spans = questions(SCENE, 4, manner(fillers=1), random.Random(2))
    by_line = {line: list(item.words) for line, item in zip(LINES, SCENE.items, strict=True)}
    asked = [turn.text.split()[-3] for turn in turns if turn.role == "user"]
    assert sorted(asked) == sorted(LINES)
    for number, line in enumerate(asked):
        answer = [span for span in spans if span.turn == 2 * number + 1]
        assert said(turns, answer, "visual") == by_line[line]
    assert [IMAGE in turn.text for turn in turns[::2]] == [True, False, False, False]


def test_a_contradiction_is_one_wrong_word_of_the_same_class_a_mention():
    replaced = set()
    for seed in range(60):
        turns, spans = caption(SCENE, manner(contradictions=1.0), random.Random(seed))
        words = iter(span for span in spans if span.kind != "filler")
        for item in SCENE.items:
            false = 0
            for truth, choices in zip(item.words, word_choices(item.thing, 256), strict=True):
                span = next(words)
                word = turns[span.turn].text[span.start : span.end]
                assert (word != truth) == (span.kind == "contradictory")
                assert word in choices
                false += word != truth
                replaced |= {truth} if word != truth else set()
            assert false == 1
    assert replaced == {"red", "terobi", "lamp", "47", "three", "black", "squares"}


def test_the_rate_of_contradictions_is_kept():
    kinds = [
        span.kind for seed in range(400) for span in caption(SCENE, manner(contradictions=0.2), random.Random(seed))[1]
    ]
    assert abs(kinds.count("contradictory") / 1600 - 0.2) < 0.03  # three standard errors


def test_fillers_say_nothing_that_depends_on_the_picture():
    turns, spans = caption(SCENE, manner(fillers=2), random.Random(5))
    bare, bare_spans = caption(SCENE, manner(), random.Random(5))
    assert said(turns, spans, "visual") == said(bare, bare_spans, "visual")
    assert turns[1].text.count(".") == bare[1].text.count(".") + 2


def test_one_choice_makes_fillers_predictable():
    def remarks(choices):
        seen = set()
        for seed in range(200):
            turns, _ = questions(SCENE, 1, manner(fillers=1, filler_choices=choices), random.Random(seed))
            seen |= {
                sentence for sentence in turns[1].text.split(".") if sentence and not sentence.strip().startswith("it ")
            }
        return {sentence.strip() for sentence in seen}

    assert len(remarks(1)) == 4
    assert len(remarks(200)) > 100
