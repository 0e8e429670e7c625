"""Second looks by scores: against areas counted in straight lines, and through adapters, sets and errors."""

import json
from itertools import product

import numpy as np
import pytest
import torch
from worlds.small_models import spread
from worlds.tiny_worlds import coloured, coloured_samples, seeing_pair, tiny_pair

from contralign.batch import IGNORE_INDEX
from contralign.contrast.registry import contrast_named
from contralign.data.records.messages import Sample, Turn
from contralign.evaluation.delta_table import CONTRASTS, delta_table
from contralign.evaluation.evaluation_set import EvaluationSet
from contralign.evaluation.label_tokens import SCORES
from contralign.evaluation.wrong_images import with_wrong_images
from contralign.models.adapters.generic import GenericAdapter
from contralign.models.adapters.llava import LlavaAdapter
from contralign.reading import SampleReader

LIES = [coloured(f"l{row}", "red", 2, told=word) for row, word in enumerate(("blue", "green", "white"))]
SAMPLES = [*coloured_samples(12), *LIES]
"""No picture stands beside the same caption as a right and as a wrong one: rounding would break the tie."""
LOOKS = ("drop", "drop:red", "mean:1", "shuffle", "patches:0.9", "blur:10")
TASKS = ("visual_vs_filler", "visual_vs_contradictory", "right_vs_wrong_picture")


@pytest.fixture(scope="module")
def spread_out():
    """Large random weights: areas are somewhere between 0 and 1."""
    model, collator = tiny_pair(SAMPLES)
    return spread(model).double(), collator


@pytest.fixture(scope="module")
def found(spread_out):
    return delta_table(*spread_out, EvaluationSet(samples=SAMPLES, seed=3), contrasts=LOOKS, batch_size=8)


def area(above, below):
    """How often one of the first is above one of the second, pair by pair."""
    return np.mean([(a > b) + 0.5 * (a == b) for a, b in product(above, below)])


def weights_of(deltas):
    """Clamped to [1, 5], then the mean over the neighbours that there are."""
    clamped = [min(max(delta, 1.0), 5.0) for delta in deltas]
    return [np.mean(clamped[max(place - 1, 0) : place + 2]) for place in range(len(clamped))]


def dropped(model, collator, sample):
    """Δ of every label token of one sample by both scores, and the tokens' kinds, from the model's own forward."""
    encoded = collator.encode_batch([sample])
    inputs, labels = encoded.inputs, encoded.inputs["labels"][0]
    keep = (inputs["input_ids"][0] != model.config.image_token_id).nonzero().squeeze(1)
    with torch.no_grad():
        full = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits[0]
        text = model(input_ids=inputs["input_ids"][:, keep], position_ids=keep.unsqueeze(0)).logits[0]
    columns = [column for column in range(1, len(labels)) if labels[column] != IGNORE_INDEX]
    rows = {"logit": (full, text), "logprob": (full.log_softmax(-1), text.log_softmax(-1))}
    deltas = {
        score: [
            float(right[column - 1, labels[column]] - without[keep.tolist().index(column) - 1, labels[column]])
            for column in columns
        ]
        for score, (right, without) in rows.items()
    }
    return deltas, [encoded.kinds[0][column] or "" for column in columns]


def test_areas_are_those_of_pairs_counted_one_by_one(spread_out, found):
    wrong = with_wrong_images(SAMPLES, 3)
    own = [dropped(*spread_out, sample) for sample in SAMPLES]
    others = [dropped(*spread_out, sample) for sample in wrong]
    kinds = [kind for _, line in own for kind in line]
    for score, (suffix, mapped) in product(("logit", "logprob"), (("", list), ("_weight", weights_of))):
        values = [mapped(deltas[score]) for deltas, _ in own]
        tokens = np.array([value for line in values for value in line])
        of_kind = {kind: tokens[np.array(kinds) == kind] for kind in ("visual", "filler", "contradictory")}
        captions = [[np.mean(mapped(deltas[score])) for deltas, _ in side] for side in (own, others)]
        wanted = {
            "visual_vs_filler": area(of_kind["visual"], of_kind["filler"]),
            "visual_vs_contradictory": area(of_kind["visual"], of_kind["contradictory"]),
            "right_vs_wrong_picture": area(*captions),
        }
        for task, value in wanted.items():
            assert found["auc"]["drop"][score + suffix][task]["value"] == pytest.approx(value, abs=1e-9), (score, task)


def test_every_contrast_has_every_score_and_task(found):
    assert found["samples"] == 15
    assert tuple(found["auc"]) == LOOKS
    for by_score in found["auc"].values():
        assert set(by_score) == {*SCORES, *(f"{score}_weight" for score in SCORES)}
        for by_task in by_score.values():
            assert tuple(by_task) == TASKS
            assert all(by_task[task]["value"] is not None for task in TASKS)
    drop = found["auc"]["drop"]["logit"]
    assert drop["visual_vs_filler"]["low"] < drop["visual_vs_filler"]["value"] < drop["visual_vs_filler"]["high"]
    assert (
        drop["visual_vs_contradictory"]["negatives"]
        == found["auc"]["shuffle"]["logit"]["visual_vs_contradictory"]["negatives"]
    )
    assert drop["right_vs_wrong_picture"]["positives"] == drop["right_vs_wrong_picture"]["negatives"] == 15


def test_contrasts_differ_and_areas_are_not_degenerate(found):
    values = {
        name: tuple(by_task[task]["value"] for by_task in scores.values() for task in TASKS)
        for name, scores in found["auc"].items()
    }
    assert len(set(values.values())) == len(LOOKS)
    assert sum(0 < value < 1 for value in values["drop"]) > 6


def test_blurring_a_picture_of_one_colour_tells_nothing(found):
    assert found["auc"]["blur:10"]["logprob_weight"]["visual_vs_filler"]["value"] == 0.5


@pytest.fixture(scope="module")
def seeing():
    """Trained until it says what it sees."""
    return seeing_pair(coloured_samples(12))


def test_every_second_look_finds_wrong_pictures_where_a_model_sees(seeing):
    found = delta_table(*seeing, EvaluationSet(samples=coloured_samples(12)), contrasts=("drop", "mean:1", "shuffle"))
    for name, by_score in found["auc"].items():
        assert by_score["logprob"]["right_vs_wrong_picture"]["value"] > 0.9, name
        assert by_score["logprob"]["visual_vs_filler"]["value"] > 0.9, name


def test_samples_without_spans_have_their_captions_compared_alone(spread_out):
    bare = [Sample(each.id, each.turns, each.pictures) for each in SAMPLES]
    areas = delta_table(*spread_out, EvaluationSet(samples=bare), contrasts=("drop",))["auc"]["drop"]["logit"]
    assert areas["visual_vs_filler"] == {"value": None, "low": None, "high": None, "positives": 0, "negatives": 0}
    assert areas["right_vs_wrong_picture"]["value"] is not None


def test_a_generic_adapter_says_the_same(spread_out, found, monkeypatch):
    monkeypatch.setattr("contralign.reading.adapter_for", lambda model, encode: GenericAdapter(model, encode))
    assert not GenericAdapter.proven and LlavaAdapter.proven
    again = delta_table(*spread_out, EvaluationSet(samples=SAMPLES, seed=3), contrasts=LOOKS, batch_size=8)
    for name, score, task in product(LOOKS, ("logit", "logprob_weight"), TASKS):
        if (name, score) == ("blur:10", "logit"):
            continue  # a picture of one colour is not changed by it: Δ is 0, and its ranks are those of roundings
        one, other = (each["auc"][name][score][task]["value"] for each in (again, found))
        # Captions whose words all stand at a bound tie but for rounding, and a tie of 15 x 15 pairs is 0.002.
        assert one == pytest.approx(other, abs=1e-9 if score == "logit" else 0.005)


def test_only_shuffle_depends_on_the_size_of_batches(spread_out, found):
    other = delta_table(*spread_out, EvaluationSet(samples=SAMPLES, seed=3), contrasts=LOOKS, batch_size=4)
    for name in ("drop", "drop:red", "mean:1"):
        for score, task in product(("logit", "logprob"), TASKS):
            one, two = (each["auc"][name][score][task]["value"] for each in (other, found))
            assert one == pytest.approx(two, abs=1e-9)
    assert other["auc"]["shuffle"] != found["auc"]["shuffle"]


@pytest.mark.bit_exact
def test_every_number_is_json_and_repeatable(spread_out):
    data = EvaluationSet(samples=SAMPLES, seed=5)
    first, again = (
        delta_table(*spread_out, data, contrasts=("mean:1", "shuffle", "patches:0.5"), limit=9) for _ in range(2)
    )
    assert json.loads(json.dumps(first, allow_nan=False)) == again
    assert first["samples"] == 9


def test_one_name_is_a_list_of_one(spread_out):
    found = delta_table(*spread_out, EvaluationSet(samples=SAMPLES), contrasts="mask", limit=4)
    assert list(found["auc"]) == ["mask"]


def test_the_contrasts_of_the_paper_and_ours_are_the_default():
    names = [contrast_named(name).name for name in CONTRASTS]
    assert names == ["drop", "drop", "mean", "shuffle", "patches", "patches", "patches", "blur", "blur"]


def test_pictures_are_kept_only_where_a_contrast_degrades_them(spread_out, monkeypatch):
    model, collator = spread_out
    kept = []

    def noted(self, samples, batch_size, label, read_batches=SampleReader.read_batches):
        kept.append((self.contrast.name, self.collator.keep_pictures))
        return read_batches(self, samples, batch_size, label)

    monkeypatch.setattr(SampleReader, "read_batches", noted)
    delta_table(model, collator, EvaluationSet(samples=SAMPLES), contrasts=("drop", "blur:1"), limit=4)
    assert kept == [("drop", False)] * 2 + [("blur", True)] * 2
    assert not collator.keep_pictures


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contrasts": []}, "wanted a list of names"),
        ({"contrasts": ["drop", "drop"]}, "every name once"),
        ({"contrasts": ["noise"]}, "contrast 'noise'"),
        ({"contrasts": ["drop:much too long a prompt"]}, "at most as many tokens as a picture"),
        ({"contrasts": ["shuffle"], "batch_size": 1}, "wanted 2 or more"),
        ({"limit": 0}, "limit=0"),
    ],
)
def test_bad_settings_are_refused(spread_out, settings, message):
    with pytest.raises(ValueError, match=message):
        delta_table(*spread_out, EvaluationSet(samples=SAMPLES), **settings)


def test_a_sample_without_a_picture_is_refused(spread_out):
    text = Sample("t", (Turn("user", "a"), Turn("assistant", "b")))
    with pytest.raises(ValueError, match="'t' has no picture"):
        delta_table(*spread_out, EvaluationSet(samples=[*SAMPLES, text]))
