import json

import pytest
from worlds.tiny_worlds import coloured_samples

from contralign.analysis.caption_delta import CaptionDelta
from contralign.analysis.gallery import gallery_samples, write_gallery
from contralign.analysis.run_report import Report, report_of_run


def test_reads_what_a_run_wrote(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: demo\n")
    (tmp_path / "environment.json").write_text('{"seed": 3}')
    (tmp_path / "results.json").write_text('{"name": "demo", "arms": {"mle": {"x": {"y": 1}}, "cal": {}}}')
    (tmp_path / "metrics.jsonl").write_text('{"arm": "mle", "stage": "it", "step": 1, "loss": 2.0}\n')
    (tmp_path / "bad_records.json").write_text('{"it": {"total": 3}}')
    samples = coloured_samples(1)
    shown = gallery_samples(samples, [CaptionDelta(id="c0", pieces=())], ["said"])
    for arm in ("cal", "mle"):
        folder = tmp_path / "evaluations" / arm / "gallery"
        folder.mkdir(parents=True)
        write_gallery(folder / "gallery.jsonl", shown)
    found = report_of_run(tmp_path)
    assert (found.title, found.recipe, found.environment["seed"]) == ("demo", "name: demo\n", 3)
    assert found.results["mle"] == {"x": {"y": 1}}
    assert found.events[0]["loss"] == 2.0
    assert list(found.galleries) == ["mle", "cal"]
    assert found.galleries["cal"] == shown
    assert found.bad_records == {"it": {"total": 3}}


def test_an_unfinished_run_is_read_as_far_as_it_goes(tmp_path):
    folder = tmp_path / "half"
    folder.mkdir()
    assert report_of_run(folder) == Report(title="half", events=[])


def test_refuses_what_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="no run directory"):
        report_of_run(tmp_path / "nowhere")
    (tmp_path / "results.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="wanted a JSON object"):
        report_of_run(tmp_path)
