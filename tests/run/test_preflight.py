"""What a run refuses before it writes anything."""

import pytest
from worlds.small_recipes import small_plan

from contralign.bench.forecast.stages import forecast
from contralign.models.small.tiny import build_tiny
from contralign.recipe.schema import RecipeError
from contralign.run.preflight import cal_configs, check_run
from contralign.run.run import run_plan
from contralign.training.config import CalConfig
from contralign.weighting.quantile import Quantile

PARTS = {
    "path": None,
    "tiny": None,
    "family": "llava",
    "language_model": "lmsys/vicuna-7b-v1.5",
    "vision_tower": "openai/clip-vit-large-patch14-336",
}
BAD = [
    ({"model": PARTS}, r"model: 'lmsys/vicuna-7b-v1\.5' is no directory and cannot be fetched"),
    ({"model": {**PARTS, "vision_tower": "lmsys/vicuna-7b-v1.5"}}, r"model: vision_tower=.* is of type 'llama'"),
    ({"model": {**PARTS, "shape": "tiny", "vision_tower": "no/tower"}}, r"model: 'no/tower' is no model directory"),
    ({"model": {"tiny": {"hiden": 8}}}, r"model\.tiny\.hiden: unknown setting; did you mean 'hidden'"),
    ({"model": {"tiny": {"heads": 5}}}, r"model\.tiny: tower_hidden=32, hidden=32: wanted multiples of heads \(5\)"),
    ({"model": {"tiny": {"layers": -1}}}, r"model\.tiny: layers=-1: wanted at least 1"),
    ({"model": {"path": "no/such/model", "tiny": None}}, r"model\.path='no/such/model' is no model directory"),
    ({"data": {"train": ["scens:train"], "image_root": []}}, r"stages\.it\.data: no built-in set 'scens'"),
    (
        {"data": {"train": ["easy_vqa:train"], "image_root": [], "settings": {"easy_vqa": {"limmit": 3}}}},
        r"stages\.it\.data\.settings\.easy_vqa\.limmit: unknown setting; did you mean 'limit'",
    ),
    ({"cal": {"weighting": "quantile", "options": {"lwo": 0.1}}}, r"arms\.cal: .*options\.lwo"),
    ({"cal": {"contrast": {"name": "blur", "sigmer": 1}}}, r"arms\.cal: .*has no setting 'sigmer'"),
    ({"cal": {"contrast": "blur:0"}}, r"arms\.cal: .*blur:0"),
    ({"trainer": {"optim": "adamm"}}, "trainer: "),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_what_cannot_come_to_its_end_is_refused_and_nothing_is_written(tmp_path, changes, message):
    plan = small_plan(tmp_path, **changes)
    with pytest.raises(RecipeError, match=message):
        run_plan(plan, {})
    assert not (tmp_path / "run").exists()


def test_arms_become_settings_with_their_weighting(tmp_path):
    plan = small_plan(tmp_path, arms={"mle": None, "quantile": {"weighting": "quantile", "options": {"low": 0.1}}})
    arms = cal_configs(plan)
    assert arms["mle"] is None and isinstance(arms["quantile"], CalConfig)
    assert arms["quantile"].token_weighting() == Quantile(low=0.1)
    assert check_run(plan) == arms


def grown_vocabulary(folder, words):
    """A tiny model directory whose tokenizer has more words than its embeddings have rows."""
    _, processor = build_tiny(
        ["it is red and blue"], folder, image_size=32, hidden=32, layers=1, tower_hidden=32, heads=2
    )
    processor.tokenizer.add_tokens(words)
    processor.save_pretrained(folder)
    return str(folder)


def test_a_tokenizer_with_words_that_the_model_has_no_rows_for_is_refused(tmp_path):
    path = grown_vocabulary(tmp_path / "model", ["red box", "<loc_1>", "<loc_2>"])
    plan = small_plan(tmp_path, model={"path": path, "tiny": None})
    with pytest.raises(RecipeError, match=r"'red box' \(\d+\) and 2 more have none.*resize_token_embeddings"):
        run_plan(plan, {})
    assert not (tmp_path / "run").exists()
    with pytest.raises(RecipeError, match="resize_token_embeddings"):
        forecast(plan)


def test_a_tokenizer_that_fits_is_taken(tmp_path):
    check_run(small_plan(tmp_path, model={"path": grown_vocabulary(tmp_path / "model", []), "tiny": None}))
