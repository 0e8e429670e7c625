"""`contralign score`: a recipe's data or named ones, resuming after SIGKILL, and messages instead of tracebacks."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner
from worlds.small_models import spread
from worlds.small_recipes import STAGE, TINY, small_plan, write_records

from contralign.cli.main import app
from contralign.data.scores.score_file import ScoreFile, read_settings
from contralign.models.small.tiny import build_tiny
from contralign.recipe.recipe_file import dump_recipe
from contralign.run.build import save_folder

PARTS, KILLS = 60, 5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model directory whose Δ spreads."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    network, processor = build_tiny(["what colour? it is red green blue black 0 1 2 3 4 5 6 7 8 9"], **TINY)
    save_folder(folder, spread(network), processor)
    return folder


@pytest.fixture
def recipe(tmp_path, model):
    """A recipe on disk that trains from that directory, with swaps."""
    changes = {"model": {"path": str(model), "tiny": None}, "data": {"swap_noise": 0.5}}
    path = tmp_path / "small.yaml"
    path.write_text(dump_recipe(small_plan(tmp_path, **changes).recipe))
    return path


def run(verb, *words):
    return CliRunner().invoke(app, [verb, *map(str, words)])


def words_of(result):
    return " ".join(result.output.split())


def test_named_files_are_scored(tmp_path, model):
    output = tmp_path / "scores.parquet"
    done = run("score", model, write_records(tmp_path), "--image-root", tmp_path, "-o", output, "--template", "plain")
    assert done.exit_code == 0, done.output
    assert "Scored 8 samples" in words_of(done)
    settings = read_settings(output)
    assert settings["template"] == "plain"
    assert settings["model"] == str(model)
    assert settings["sources"] == ["records.json"]
    assert ScoreFile.open(output).index.values.std() > 0.5
    again = run(
        "score", model, tmp_path / "records.json", "--image-root", tmp_path, "-o", output, "--template", "plain"
    )
    assert "8 of them by an earlier run" in words_of(again)


def test_a_built_in_set_takes_its_settings(tmp_path, model):
    output = tmp_path / "scores.parquet"
    done = run("score", model, "scenes:train", "--setting", "scenes.count=5", "-o", output, "--score", "logprob")
    assert done.exit_code == 0, done.output
    assert len(ScoreFile.open(output, "delta_logprob")) == 5
    assert read_settings(output)["data"]["settings"] == {"scenes": {"count": 5}}


def test_a_recipe_is_scored_with_its_noise_and_trained_from_its_scores(tmp_path, model, recipe):
    output = tmp_path / "scores.parquet"
    assert run("score", model, "--recipe", recipe, "-o", output).exit_code == 0
    assert (read_settings(output)["swap_noise"], read_settings(output)["noise_seed"]) == (0.5, 0)
    trained = run("train", recipe, f"arms.cal.scores={output}")
    assert trained.exit_code == 0, trained.output


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--prompt", "it is"], {"contrast": "drop", "contrast_settings": {"prompt": "it is"}}),
        (["--contrast", "mean"], {"contrast": "mean", "contrast_settings": {"tokens": 4}}),
        (["--contrast", "shuffle"], {"contrast": "shuffle", "contrast_settings": {"seed": 0}}),
    ],
)
def test_our_own_contrasts_are_scored_and_named_in_the_file(words, settings, tmp_path, model):
    output = tmp_path / "scores.parquet"
    done = run("score", model, "scenes:train", "--setting", "scenes.count=5", "-o", output, *words)
    assert done.exit_code == 0, done.output
    assert {name: read_settings(output)[name] for name in settings} == settings
    assert ScoreFile.open(output).index.values.std() > 0.5


def test_a_recipe_trains_from_scores_of_the_contrast_it_names_and_of_no_other(tmp_path, model, recipe):
    output = tmp_path / "scores.parquet"
    assert run("score", model, "--recipe", recipe, "cal.contrast=drop:it is", "-o", output).exit_code == 0
    trained = run("train", recipe, f"arms.cal.scores={output}", "cal.contrast=drop:it is")
    assert trained.exit_code == 0, trained.output
    refused = run("train", recipe, f"arms.cal.scores={output}", f"output_dir={tmp_path / 'other'}")
    assert refused.exit_code == 2
    assert "contrast_settings was" in words_of(refused)


def test_changes_to_the_recipe_are_those_of_train(tmp_path, model, recipe):
    output = tmp_path / "scores.parquet"
    assert run("score", model, "--recipe", recipe, "seed=3", "cal.contrast=mask", "-o", output).exit_code == 0
    assert read_settings(output)["noise_seed"] == 3
    assert read_settings(output)["contrast"] == "mask"
    refused = run("train", recipe, f"arms.cal.scores={output}", f"output_dir={tmp_path / 'other'}")
    assert refused.exit_code == 2
    assert "arms.cal.scores: stages.it: score file" in words_of(refused)
    assert "contrast was 'mask', is 'drop'; noise_seed was 3, is 0" in words_of(refused)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to score: name files or built-in sets"),
        (["gone.json"], "gone.json"),
        (["scens:train"], "no built-in set 'scens'; did you mean 'scenes'?"),
        (["scenes:train", "--setting", "scenes.count=5", "--setting", "scenes.glyps=5"], "'glyps'"),
        (["scenes:train", "--setting", "scenes=5"], "data.settings.scenes: wanted settings"),
        (["scenes:train", "--setting", "scenes.count=5", "--template", "vicunja"], "data.template: got 'vicunja'"),
        (["scenes:train", "--setting", "scenes.count=5", "--contrast", "none"], "there is no Δ to score"),
        (
            ["scenes:train", "--setting", "scenes.count=5", "--contrast", "wipe"],
            "cal: contrast='wipe': wanted one of drop, mask",
        ),
        (
            ["scenes:train", "--setting", "scenes.count=5", "--score", "logits"],
            "--score logits: wanted logit, centred, logprob or both",
        ),
        (["scenes:train", "--setting", "scenes.count=5", "--device", "abacus"], "--device abacus"),
        (["scenes:train", "--setting", "scenes.count=5", "--dtype", "int3"], "model.dtype: got 'int3'"),
        (["scenes:train", "--setting", "scenes.count=5", "--image-root", "."], "image_root has no effect"),
        (["scenes:train", "--stage", "it"], "--stage it has no effect without --recipe"),
        (["--recipe", "nowhere"], "nowhere: no such recipe"),
        (["--recipe", "RECIPE", "--template", "plain"], "data.template: the recipe says so already"),
        (["--recipe", "RECIPE", "--contrast", "mask"], "with cal.contrast=VALUE instead of an option"),
        (["--recipe", "RECIPE", "--prompt", "it is"], "with cal.contrast=VALUE instead of an option"),
        (["scenes:train", "--contrast", "mask", "--prompt", "it is"], "contrast 'mask' has no setting 'prompt'"),
        (
            ["scenes:train", "--setting", "scenes.count=5", "--contrast", "shuffle", "--batch-size", "1"],
            "contrast='shuffle' with batch_size=1",
        ),
        (["--recipe", "RECIPE", "--stage", "pt"], "--stage pt: the stages of"),
        (["--recipe", "RECIPE", "records.json"], "wanted key=value"),
        (["--recipe", "RECIPE", "cal=null", "arms=null", "stages.it.cal=false"], "trains nothing with CAL"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(words, message, tmp_path, model, recipe):
    refused = run("score", model, *(recipe if word == "RECIPE" else word for word in words), "-o", tmp_path / "s")
    assert refused.exit_code == 2, refused.output
    assert message in words_of(refused)
    assert "Traceback" not in refused.output
    assert not (tmp_path / "s").exists()


def test_a_model_that_is_nowhere_is_a_mistake(tmp_path):
    refused = run("score", "no/such-model", "scenes:train", "--setting", "scenes.count=5", "-o", tmp_path / "s")
    assert refused.exit_code == 2
    assert "no model directory" in words_of(refused)


def test_which_of_several_stages_has_to_be_said(tmp_path, model):
    stages = {"it": {**STAGE, "cal": True}, "more": {**STAGE, "cal": True, "data": {"template": "plain"}}}
    path = tmp_path / "two.yaml"
    path.write_text(dump_recipe(small_plan(tmp_path, stages=stages).recipe))
    refused = run("score", model, "--recipe", path, "-o", tmp_path / "s")
    assert refused.exit_code == 2
    assert "CAL in the stages it, more: say which one with --stage" in words_of(refused)
    assert run("score", model, "--recipe", path, "-o", tmp_path / "s", "--stage", "more").exit_code == 0
    assert read_settings(tmp_path / "s")["template"] == "plain"


def test_a_bad_record_is_counted_in_the_summary(tmp_path, model):
    records = write_records(tmp_path)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    words = [model, records, "--image-root", tmp_path, "-o", tmp_path / "s"]
    assert run("score", *words).exit_code == 2
    done = run("score", *words, "--on-bad", "skip")
    assert done.exit_code == 0, done.output
    assert "Left out 1 bad records: corrupt_picture 1" in words_of(done)
    assert read_settings(tmp_path / "s")["bad_records"][0]["record"].endswith("r3")


def start(model, folder, output, processes=1):
    words = ["score", model, folder / "records.json", "--image-root", folder, "-o", output]
    words += ["--batch-size", 1, "--part-size", 8]
    command = folder / "command.py"
    command.write_text("from contralign.cli.main import main\n\nmain()\n")
    torchrun = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    source = str(Path(sys.modules["contralign"].__file__).parents[1])
    settings = {"PYTHONPATH": source, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, *(torchrun if processes > 1 else []), str(command), *map(str, words)],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE if processes > 1 else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def parts_of(output):
    return len(list(output.with_name(f"{output.name}.parts").glob("part-*.parquet")))


@pytest.mark.bit_exact
@pytest.mark.slow
def test_five_kills_at_random_moments_and_resuming_equal_an_unbroken_run_to_the_bit(tmp_path, model):
    write_records(tmp_path, 8 * PARTS)
    unbroken, broken = tmp_path / "unbroken.parquet", tmp_path / "broken.parquet"
    assert start(model, tmp_path, unbroken).wait(timeout=600) == 0
    draw = random.Random(0)
    found = []
    for _ in range(KILLS):
        before, wanted = parts_of(broken), draw.randint(1, 7)
        process = start(model, tmp_path, broken)
        deadline = time.monotonic() + 600
        while parts_of(broken) < before + wanted and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=600) == -signal.SIGKILL
        assert not broken.exists()
        found.append(parts_of(broken))
    assert found == sorted(set(found))
    assert 0 < found[0] < found[-1] < PARTS
    assert start(model, tmp_path, broken).wait(timeout=600) == 0
    assert broken.read_bytes() == unbroken.read_bytes()
    assert not broken.with_name("broken.parquet.parts").exists()
    assert ScoreFile.open(broken).index.values.std() > 0.5


@pytest.mark.bit_exact
@pytest.mark.slow
def test_two_processes_share_the_parts_and_write_the_file_of_one(tmp_path, model):
    write_records(tmp_path, 8 * 7)
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    assert start(model, tmp_path, one).wait(timeout=600) == 0
    process = start(model, tmp_path, two, processes=2)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    assert said.count(f"Score file: {two}") >= 1
    assert two.read_bytes() == one.read_bytes()
    assert not two.with_name("two.parquet.parts").exists()
