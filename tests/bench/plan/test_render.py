from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from contralign.bench.plan.operations.counting import MODES
from contralign.bench.plan.predict import predict_all
from contralign.bench.plan.render import plan_dict, table


def printed(drawn) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(drawn)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_table_has_a_row_a_mode_and_says_that_it_is_a_prediction():
    text = printed(table(predict_all("llava-next-13b", gpus=16, gpu="a100")))
    assert all(f" {mode} " in text for mode in MODES)
    assert "llava-next-13b on 16 x a100, 8 samples a GPU" in text and "predicted" in text


def test_a_table_shows_the_ratio_of_the_plan():
    plans = predict_all("mgm-2b", gpus=8, gpu="h100")
    rows = {line.split()[0]: line for line in printed(table(plans)).splitlines() if line.split()}
    assert f" {plans[-1].time_ratio:.3f} " in rows["released"]
    assert rows["released"].split()[-1] == ("yes" if plans[-1].fits else "no")


def test_a_dict_has_a_key_a_mode_and_the_floor_and_survives_json():
    found = json.loads(json.dumps(plan_dict(predict_all("llava15-7b", gpus=8, gpu="a100"))))
    assert set(found) == {*MODES, "floor"}
    assert found["released"]["time_ratio"] > found["cal"]["time_ratio"] > found["cal_cached"]["time_ratio"]
    assert found["floor"] == pytest.approx(256 / (4 * 832))


def test_plans_of_two_models_are_not_one_table():
    plans = predict_all("mgm-2b", gpus=8, gpu="a100") + predict_all("mgm-7b", gpus=8, gpu="a100")
    with pytest.raises(ValueError, match="mgm-2b, mgm-7b"):
        table(plans)
    with pytest.raises(ValueError, match="nothing"):
        plan_dict([])
