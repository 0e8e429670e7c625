from worlds.tiny_worlds import coloured, coloured_samples, tiny_pair

from contralign.analysis.render.tables import result_tables
from contralign.data.records.swap_noise import swap_images
from contralign.evaluation.delta_table import delta_table
from contralign.evaluation.evaluation_set import EvaluationSet
from contralign.evaluation.grounding import grounding
from contralign.evaluation.label_tokens import SCORES


def number(value, n=10, low=None, high=None):
    return {"value": value, "low": low, "high": high, "n": n}


def cells(table, group, name):
    return next(row.cells for row in table.rows if (row.group, row.name) == (group, name))


GROUNDING = {
    "samples": 4,
    "accuracy": {"visual": {"right": number(0.25, 40, 0.125, 0.5), "wrong": number(0.0, 40)}},
    "nll": {
        "all": {"right": number(1.5), "wrong": number(2.25), "none": number(3.0), "wrong_minus_right": number(-0.75)}
    },
    "auc": {"visual_vs_filler": {"logit": {"value": 0.5, "low": 0.4, "high": 0.6, "positives": 1200, "negatives": 7}}},
}


def test_arms_stand_side_by_side_with_interval_and_count():
    other = {"accuracy": {"visual": {"right": number(1.0, 40)}}}
    accuracy, losses, areas = result_tables({"mle": {"grounding": GROUNDING}, "cal": {"grounding": other}})
    assert accuracy.arms == ("mle", "cal")
    first, second = cells(accuracy, "visual tokens", "own picture")
    assert (first.value, first.interval, first.count) == ("25.0 %", "12.5 % to 50.0 %", "n = 40")
    assert (second.value, second.interval) == ("100.0 %", "")
    assert cells(losses, "all label tokens", "wrong − own")[0].value == "−0.750"
    area = cells(areas, "visual over filler tokens", "Δ logit")[0]
    assert (area.value, area.count) == ("0.500", "1,200 against 7")


def test_a_difference_that_rounds_to_nothing_has_no_sign():
    (table,) = result_tables({"mle": {"mine": {"a": number(-1e-7), "b": number(-0.002)}}})
    assert [row.cells[0].value for row in table.rows] == ["0.000", "−0.002"]


def test_an_arm_that_lacks_a_number_has_an_empty_cell():
    (accuracy, *_) = result_tables({"mle": {"grounding": GROUNDING}, "cal": {}})
    assert cells(accuracy, "visual tokens", "own picture")[1] is None


def test_rows_that_nobody_measured_are_left_out():
    (table,) = result_tables(
        {"mle": {"grounding": {"nll": {"all": {"right": number(1.0)}, "filler": {"right": number(None, 0)}}}}}
    )
    assert [(row.group, row.name) for row in table.rows] == [("all label tokens", "own picture")]


def test_answers_stand_beside_their_baselines():
    answers = {
        "accuracy": number(0.9),
        "majority": {"answer": "yes", **number(0.4)},
        "type_majority": number(0.6),
        "types": {"what?": {"accuracy": number(1.0), "majority": number(0.5)}},
    }
    summary, types = result_tables({"mle": {"answers": answers}})
    assert [row.cells[0].value for row in summary.rows] == ["90.0 %", "40.0 %", "60.0 %"]
    assert types.folded
    assert [(row.group, row.cells[0].value) for row in types.rows] == [("what?", "100.0 %"), ("what?", "50.0 %")]


def test_retrieval_stands_beside_chance():
    found = {"k": 10, "chance": 0.1, "accuracy": {"sum": number(0.84), "gain": number(0.9)}, "misses": []}
    (table,) = result_tables({"mle": {"retrieval": found}})
    assert [row.cells[0].value for row in table.rows] == ["84.0 %", "90.0 %", "10.0 %"]


def test_an_unknown_evaluation_shows_every_number_it_has():
    (table,) = result_tables({"mle": {"mine": {"a": {"b": 2, "c": number(0.5)}, "ok": True, "text": "x"}}})
    assert [(row.group, row.name, row.cells[0].value) for row in table.rows] == [("a", "b", "2"), ("a", "c", "0.500")]


def test_the_gallery_is_no_table():
    assert result_tables({"mle": {"gallery": {"samples": 12}}}) == []


def test_every_number_of_grounding_has_a_row():
    samples = [*coloured_samples(6), *(coloured(f"l{row}", "red", row, told="blue") for row in range(3))]
    train, swapped = swap_images(samples, 0.7, seed=0)
    found = grounding(*tiny_pair(samples), EvaluationSet(samples=samples, train=train, swapped_ids=swapped))
    shown = [row.cells[0] for table in result_tables({"mle": {"grounding": found}}) for row in table.rows]
    numbers = [
        one for section in ("accuracy", "nll", "auc") for group in found[section].values() for one in group.values()
    ]
    assert all(one["value"] is not None for one in numbers)
    assert len(shown) == len(numbers) == 4 * 2 + 4 * 4 + 2 * 2 * len(SCORES) + 2 * len(SCORES)


def test_no_results_no_tables():
    assert result_tables({}) == []
    assert result_tables({"mle": {}, "cal": {}}) == []


def an_area(value, low=None, high=None):
    return {"value": value, "low": low, "high": high, "positives": 12, "negatives": 1200}


NOTHING = {"value": None, "low": None, "high": None, "positives": 0, "negatives": 0}
DELTA = {
    "samples": 12,
    "auc": {
        "drop": {
            "logit": {"visual_vs_filler": an_area(0.6, 0.5, 0.7), "visual_vs_contradictory": NOTHING},
            "logprob": {"visual_vs_filler": an_area(0.9), "visual_vs_contradictory": NOTHING},
        },
        "blur:10": {"logit": {"visual_vs_filler": an_area(0.5)}, "logprob": {"visual_vs_filler": NOTHING}},
        "drop:an image": {"logit": {"visual_vs_filler": an_area(0.7)}},
        "mean:4": {"logit": {"visual_vs_filler": NOTHING}},
        "noise:3": {"logit": {"visual_vs_filler": an_area(0.4)}},
    },
}


def test_second_looks_stand_below_one_another_and_scores_side_by_side():
    (table,) = result_tables({"cal": {"delta": DELTA}})
    assert table.title == "Contrasts compared: visual over filler tokens"
    assert table.arms == ("Δ logit", "Δ log-probability")
    names = ["no picture", "blurred picture, σ = 10", "no picture but the words 'an image'", "noise:3"]
    assert [(row.group, row.name) for row in table.rows] == [("", name) for name in names]
    first, second = cells(table, "", "no picture")
    assert (first.value, first.interval, first.count) == ("0.600", "0.500 to 0.700", "12 against 1,200")
    assert second.value == "0.900"
    assert cells(table, "", "blurred picture, σ = 10")[1] is None


def test_several_arms_stand_below_one_another():
    (table,) = result_tables({"mle": {"delta": DELTA}, "cal": {"delta": DELTA}, "bare": {}})
    assert [row.group for row in table.rows] == ["mle"] * 4 + ["cal"] * 4


def test_every_area_of_the_delta_table_has_a_cell():
    samples = [*coloured_samples(6), *(coloured(f"l{row}", "red", row, told="blue") for row in range(3))]
    found = delta_table(*tiny_pair(samples), EvaluationSet(samples=samples), contrasts=("drop", "mean:1", "mask"))
    shown = [cell for table in result_tables({"mle": {"delta": found}}) for row in table.rows for cell in row.cells]
    numbers = [one for looks in found["auc"].values() for tasks in looks.values() for one in tasks.values()]
    assert all(one["value"] is not None for one in numbers)
    assert len([cell for cell in shown if cell]) == len(numbers) == 3 * 2 * len(SCORES) * 3
