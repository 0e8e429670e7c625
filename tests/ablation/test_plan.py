from worlds.small_ablations import planned_cells

from contralign.ablation.plan import count_work


def test_equal_steps_are_counted_once(tmp_path):
    work = count_work(planned_cells(tmp_path))
    assert work.cells == work.results == 8
    assert work.stages == {"build": 2, "it": 2, "last": 8}
    assert work.unshared == 24
    assert str(work) == "8 cells, 8 results, 12 steps (build 2, it 2, last 8) of 24 unshared"


def test_arms_that_do_not_differ_are_run_once(tmp_path):
    work = count_work(planned_cells(tmp_path, grid={"beta": {"key": "cal.beta", "values": [3, 5, 7]}}))
    assert (work.cells, work.results) == (12, 8)
    assert work.stages["last"] == 2 * (1 + 3)


def test_stages_in_which_arms_differ_part_them_there(tmp_path):
    """Table 3: CAL in the first stage, the second or both; plain training is one arm for all of them."""
    stage = {
        "values": {
            "first": {"stages.it.cal": True, "stages.last.cal": False},
            "second": {},
            "both": {"stages.it.cal": True},
        }
    }
    work = count_work(planned_cells(tmp_path, grid={"stage": stage}, seeds=[0]))
    assert work.stages == {"build": 1, "it": 2, "last": 4}
    assert work.results == 4


def test_every_step_stands_on_the_one_before(tmp_path):
    for one in planned_cells(tmp_path):
        assert [step.stage for step in one.steps] == ["build", "it", "last"]
        assert [step.parent for step in one.steps] == [None, one.steps[0].key, one.steps[1].key]


def test_a_model_that_is_there_is_not_built(tmp_path):
    (tmp_path / "model").mkdir()
    path = f"model.path={tmp_path / 'model'}"
    planned = planned_cells(tmp_path, path, "model.tiny={}")
    assert {step.stage for one in planned for step in one.steps} == {"it", "last"}
    assert {one.steps[0].parent for one in planned} == {None}
