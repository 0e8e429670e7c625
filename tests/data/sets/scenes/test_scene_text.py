import random

from contralign.data.records.messages import IMAGE
from contralign.data.sets.scenes.scene_difficulty import Difficulty
from contralign.data.sets.scenes.scene_items import Item, Scene, item_slots, thing_slots
from contralign.data.sets.scenes.scene_text import caption, questions, short_list
from contralign.data.sets.scenes.scene_words import BOILERPLATE, LINES, PEOPLE

SCENE = Scene(
    (
        Item(thing="sign", words=("red", "terobi"), colour="red", row=0, column=3),
        Item(thing="word", words=("printed", "lamp"), colour="teal", row=1, column=0),
        Item(thing="number", words=("number", "47"), colour="blue", row=2, column=1),
        Item(thing="shapes", words=("three", "black", "squares"), colour="black", row=3, column=2),
    ),
    paper=(240, 240, 240),
)


CHARTS = Scene(
    (
        Item(thing="chart", words=("four", "teal", "bars", "3", "1", "7", "3"), colour="teal", row=0, column=3),
        Item(thing="code", words=("code", "k", "7", "q"), colour="red", row=1, column=2),
        Item(thing="chart", words=("two", "red", "bars", "6", "2"), colour="red", row=2, column=0),
    ),
    paper=(240, 240, 240),
)


def manner(**changes):
    return Difficulty(**{"items": 4, "fillers": 0} | changes)


def asking(rounds, **changes):
    return manner(task="question", rounds=rounds, **changes)


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
    turns, spans = questions(SCENE, asking(4, fillers=3, contradictions=0.5), random.Random(1))
    for number, turn in enumerate(turns):
        covered = [place for span in spans if span.turn == number for place in range(span.start, span.end)]
        wanted = [place for place, character in enumerate(turn.text) if character != " "]
        assert covered == (wanted if turn.role == "assistant" else [])


def test_each_question_is_about_another_line_and_is_answered_with_that_line():
    turns, spans = questions(SCENE, asking(4, fillers=1), random.Random(2))
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
            for truth, slot in zip(item.words, thing_slots(item.thing, manner()), strict=True):
                span = next(words)
                word = turns[span.turn].text[span.start : span.end]
                assert (word != truth) == (span.kind == "contradictory")
                assert word in slot.words
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
            turns, _ = questions(SCENE, asking(1, fillers=1, filler_choices=choices), random.Random(seed))
            seen |= {
                sentence for sentence in turns[1].text.split(".") if sentence and not sentence.strip().startswith("it ")
            }
        return {sentence.strip() for sentence in seen}

    assert len(remarks(1)) == 4
    assert len(remarks(200)) > 100


def test_charts_and_codes_are_read_out_from_the_left():
    turns, spans = short_list(CHARTS, manner(), random.Random(0))
    assert turns[1].text == ("four teal bars of heights 3 , 1 , 7 and 3. code k 7 q. two red bars of heights 6 and 2.")
    assert said(turns, spans, "visual") == [word for item in CHARTS.items for word in item.words]


def test_positions_end_every_mention_with_the_column():
    turns, spans = short_list(CHARTS, manner(positions=True, asides=1.0), random.Random(0))
    assert [sentence.split()[-3:] for sentence in turns[1].text.strip(".").split(". ")] == [
        ["in", "column", "four"],
        ["in", "column", "three"],
        ["in", "column", "one"],
    ]
    columns = [("four",), ("three",), ("one",)]
    told = [word for item, column in zip(CHARTS.items, columns, strict=True) for word in item.words + column]
    assert said(turns, spans, "visual") == told


def test_asides_stand_beside_visual_words_in_the_same_sentence():
    forms = set()
    for seed in range(60):
        turns, spans = questions(SCENE, asking(1, asides=1.0), random.Random(seed))
        bare, _ = questions(SCENE, asking(1), random.Random(seed))
        assert turns[1].text.count(".") == 1
        assert len(turns[1].text.split()) > len(bare[1].text.split())
        fillers = said(turns, spans, "filler")
        forms.add(fillers[2] if fillers[2] in ("by", "from", "for") else "judgement")
    assert forms == {"by", "from", "for", "judgement"}


def test_the_rate_of_asides_is_kept():
    counted = 0
    for seed in range(300):
        turns, _ = short_list(SCENE, manner(asides=0.25), random.Random(seed))
        sentences = turns[1].text.strip(".").split(". ")
        counted += sum(
            sentence.split() != list(item.words) for sentence, item in zip(sentences, SCENE.items, strict=True)
        )
    assert abs(counted / 1200 - 0.25) < 0.04  # three standard errors


def test_names_make_fillers_longer_and_of_higher_entropy():
    endings = set()
    for seed in range(40):
        turns, _ = short_list(SCENE, manner(fillers=1, filler_names=5), random.Random(seed))
        (remark,) = [sentence for sentence in turns[1].text.strip(".").split(". ") if " with " in sentence]
        names = remark.split(" with ")[1].split()
        assert len(names) == 5 and set(names) <= set(PEOPLE)
        endings |= set(names)
    assert len(endings) > 100


def test_boilerplate_is_told_by_its_first_word():
    assert len({sentence.split()[0] for sentence in BOILERPLATE}) == len(BOILERPLATE)
    turns, spans = short_list(SCENE, manner(boilerplate=3), random.Random(0))
    bare, _ = short_list(SCENE, manner(), random.Random(0))
    added = [sentence for sentence in turns[1].text.strip(".").split(". ") if sentence not in bare[1].text]
    assert len(added) == 3 and set(added) <= set(BOILERPLATE)
    assert said(turns, spans, "visual") == [word for item in SCENE.items for word in item.words]
    assert len(said(turns, spans, "filler")) == 7 + sum(len(sentence.split()) for sentence in added)


def test_what_goes_wrong_can_be_chosen():
    words_of = {"colour": {"red", "black"}, "count": {"three"}, "name": {"terobi", "lamp", "47", "squares"}}
    for aspect, truths in words_of.items():
        missing = set()
        for seed in range(20):
            turns, spans = short_list(SCENE, manner(contradictions=1.0, contradicted=aspect), random.Random(seed))
            true = said(turns, spans, "visual")
            missing |= {word for item in SCENE.items for word in item.words if word not in true}
            assert len(said(turns, spans, "contradictory")) == len(truths)
        assert missing == truths


def test_the_column_can_go_wrong():
    settings = manner(contradictions=1.0, contradicted="position", positions=True)
    turns, spans = short_list(SCENE, settings, random.Random(0))
    false = said(turns, spans, "contradictory")
    truths = [item_slots(item, settings)[-1] for item in SCENE.items]
    assert all(word != truth and word in slot.words for word, (truth, slot) in zip(false, truths, strict=True))


def test_a_hallucinated_item_is_told_as_any_other_and_all_its_words_are_false():
    for seed in range(40):
        settings = manner(hallucinations=1.0, positions=True)
        turns, spans = caption(SCENE, settings, random.Random(seed))
        sentences = turns[1].text.strip(".").split(". ")
        lines = [sentence.split()[1] for sentence in sentences]
        assert len(lines) == 5 and set(lines) == set(LINES)
        truths = [word for item in SCENE.items for word, _ in item_slots(item, settings)]
        assert said(turns, spans, "visual") == truths
        false = " ".join(said(turns, spans, "contradictory")[:2])
        assert false not in " ".join(truths)


def test_a_hallucination_in_an_answer_is_about_the_line_asked_for():
    turns, spans = questions(SCENE, asking(2, hallucinations=1.0), random.Random(3))
    for number in (1, 3):
        kinds = [{span.kind for span in spans if span.turn == number}]
        assert kinds == [{"visual", "filler", "contradictory"}]
        assert turns[number].text.count(".") == 2


def test_the_rate_of_hallucinations_is_kept():
    longer = sum(
        short_list(SCENE, manner(hallucinations=0.3), random.Random(seed))[0][1].text.count(".") == 5
        for seed in range(500)
    )
    assert abs(longer / 500 - 0.3) < 0.062  # three standard errors
