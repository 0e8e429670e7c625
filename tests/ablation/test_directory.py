import pytest
from worlds.small_ablations import made_directory

from contralign.ablation.ablation_file import load_ablation
from contralign.ablation.directory import AblationDirectory, move, write_json


def make_models(directory, planned):
    for one in planned:
        for step in one.steps:
            directory.model(step).mkdir(exist_ok=True)


def models(directory):
    return {path.name for path in directory.steps.iterdir() if path.is_dir()}


def test_the_ablation_lies_beside_its_results(tmp_path):
    directory, ablation, _ = made_directory(tmp_path)
    assert load_ablation(directory.path / "ablation.yaml") == ablation


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    _, ablation, _ = made_directory(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="no folder of an ablation: give another with --output"):
        AblationDirectory(tmp_path / "mine").create(ablation)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_cell_is_done_or_failed_or_open(tmp_path):
    directory, _, planned = made_directory(tmp_path)
    write_json(directory.cells / f"{planned[0].key}.json", {})
    (directory.steps / f"{planned[1].steps[-1].key}.error").write_text("x")
    (directory.cells / f"{planned[2].key}.error").write_text("x")
    assert [directory.state(one) for one in planned[:4]] == ["done", "failed", "failed", "open"]
    directory.forget_errors(planned)
    assert [directory.state(one) for one in planned[:4]] == ["done", "open", "open", "open"]


def test_a_shared_model_stays_until_its_last_cell_is_done(tmp_path):
    directory, _, planned = made_directory(tmp_path, seeds=[0])
    make_models(directory, planned)
    shared = {step.key for step in planned[0].steps[:2]}
    for one in planned[:-1]:
        write_json(directory.cells / f"{one.key}.json", {})
    directory.clean(planned)
    assert models(directory) == shared | {planned[-1].steps[-1].key}
    write_json(directory.cells / f"{planned[-1].key}.json", {})
    directory.clean(planned)
    assert models(directory) == set()


def test_a_failed_cell_keeps_its_models_for_the_next_try(tmp_path):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    make_models(directory, planned)
    write_json(directory.cells / f"{planned[0].key}.json", {})
    (directory.cells / f"{planned[1].key}.error").write_text("x")
    directory.clean(planned)
    assert models(directory) == {step.key for step in planned[1].steps}


def test_a_model_that_another_worker_has_just_made_is_kept(tmp_path):
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "who").write_text(name)
    move(tmp_path / "mine", tmp_path / "theirs")
    assert (tmp_path / "theirs" / "who").read_text() == "theirs"
    assert not (tmp_path / "mine").exists()
    move(tmp_path / "theirs", tmp_path / "place")
    assert (tmp_path / "place" / "who").read_text() == "theirs"


def test_a_folder_that_cannot_be_moved_is_no_success(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileNotFoundError):
        move(tmp_path / "mine", tmp_path / "no" / "such" / "place")
