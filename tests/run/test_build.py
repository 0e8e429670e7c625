"""From a recipe's words to a model that learns."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor
from worlds.same_numbers import assert_near, in_float64
from worlds.small_recipes import TINY, small_plan

from contralign.checkpoints.run_errors import CannotWrite
from contralign.recipe.model_settings import LoraSettings, ModelSettings
from contralign.recipe.schema import RecipeError
from contralign.recipe.stage_settings import Stage
from contralign.run.arguments import training_arguments
from contralign.run.build import (
    build_trainer,
    feature_store,
    load_model,
    load_processor,
    outline_model,
    ready_to_learn,
    save_folder,
)
from contralign.run.records import RecordReader, make_collator
from contralign.run.start_model import save_start, save_tiny
from contralign.training.config import CalConfig
from contralign.training.trainer import CALTrainer


@pytest.fixture
def tiny(tmp_path):
    """A small recipe, its samples and the model directory it starts from."""
    recipe = small_plan(tmp_path)
    samples = RecordReader().read(recipe.recipe.data, recipe.recipe.data.train, "data")
    save_tiny(recipe.recipe.model, samples, recipe.recipe.seed, tmp_path / "tiny")
    return recipe, samples, str(tmp_path / "tiny")


def test_tiny_is_an_ordinary_model_directory(tiny):
    _, _, folder = tiny
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert AutoProcessor.from_pretrained(folder).tokenizer("it is red")["input_ids"]


def test_the_same_seed_builds_the_same_tiny(tiny, tmp_path):
    recipe, samples, folder = tiny
    for seed, same in ((recipe.recipe.seed, True), (recipe.recipe.seed + 1, False)):
        save_tiny(recipe.recipe.model, samples, seed, tmp_path / f"again{seed}")
        first, second = (
            load_model(str(path), recipe.recipe.model).state_dict() for path in (folder, tmp_path / f"again{seed}")
        )
        assert all(torch.equal(first[name], second[name]) for name in first) == same


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hiden": 64}, "model.tiny.hiden: unknown setting; did you mean 'hidden'"),
        ({"seed": 3}, "model.tiny.seed: unknown setting"),
        ({**TINY, "heads": 5}, "model.tiny: "),
        ({**TINY, "layers": "two"}, "model.tiny.layers: wanted a whole number, got 'two'"),
    ],
)
def test_tiny_settings_that_the_builder_refuses_are_named(settings, message, tiny, tmp_path):
    _, samples, _ = tiny
    with pytest.raises(RecipeError) as refused:
        save_tiny(ModelSettings(path="tiny", tiny=settings), samples, 0, tmp_path / "other")
    assert message in str(refused.value)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("load", [load_processor, lambda path: load_model(path, ModelSettings(path=path))])
@pytest.mark.parametrize("path", ["no/such-model", "/no/such/folder"])
def test_a_model_that_is_nowhere_is_refused_with_what_to_do(load, path):
    with pytest.raises(RecipeError, match=rf"model.path='{path}' is no model directory .* Give a directory with"):
        load(path)


def test_weights_have_the_wanted_type(tiny):
    _, _, folder = tiny
    model = load_model(folder, ModelSettings(path=folder, dtype="bfloat16", attn_implementation="eager"))
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"


def test_a_folder_appears_only_when_it_is_complete(tiny, tmp_path):
    recipe, _, folder = tiny

    class Broken:
        def save_pretrained(self, place):
            raise OSError("disk full")

    with pytest.raises(CannotWrite, match=r"saved could not be written: disk full \(it takes"):
        save_folder(tmp_path / "saved", load_model(folder, recipe.recipe.model), Broken())
    assert not (tmp_path / "saved").exists()


def trainer(tiny, folder, cal=None, **stage):
    recipe, samples, path = tiny
    recipe = small_plan(folder, stages={"it": stage})
    model = load_model(path, recipe.recipe.model)
    model = ready_to_learn(model, recipe.recipe.model, recipe.stages["it"].settings)
    args = training_arguments(recipe, recipe.stages["it"], folder / "checkpoints")
    processor = load_processor(path)
    collate = make_collator(processor, recipe.recipe.data)
    return build_trainer(
        model,
        args,
        recipe.stages["it"].settings,
        processor=processor,
        collate=collate,
        train=samples,
        evaluation=None,
        cal=cal,
    )


def test_cal_decides_the_class_of_the_trainer(tiny, tmp_path):
    assert not isinstance(trainer(tiny, tmp_path), CALTrainer)
    with_cal = trainer(tiny, tmp_path, CalConfig(window=5))
    assert isinstance(with_cal, CALTrainer)
    assert with_cal.cal_config == CalConfig(window=5)


def test_parts_that_are_not_named_stay_as_they_were(tiny, tmp_path):
    built = trainer(tiny, tmp_path, train=["projector"])
    before = {name: parameter.detach().clone() for name, parameter in built.model.named_parameters()}
    built.train()
    moved = {name for name, parameter in built.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name in before if "multi_modal_projector" in name}


def test_the_vision_tower_is_trained_at_its_own_rate(tiny, tmp_path):
    built = trainer(tiny, tmp_path, train=["projector", "vision_tower"], vision_learning_rate=1e-5, schedule="constant")
    built.train()
    assert {group["lr"] for group in built.optimizer.param_groups} == {1e-2, 1e-5}


def test_the_projector_is_trained_at_its_own_rate_beside_adapters(tiny, tmp_path):
    recipe, samples, path = tiny
    stage = {"train": ["projector", "language_model"], "projector_learning_rate": 0.5, "schedule": "constant"}
    recipe = small_plan(tmp_path, stages={"it": stage})
    model = ready_to_learn(
        load_model(path, recipe.recipe.model),
        ModelSettings(path=path, lora=LoraSettings(r=2)),
        recipe.stages["it"].settings,
    )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    args = training_arguments(recipe, recipe.stages["it"], tmp_path / "checkpoints")
    processor = load_processor(path)
    collate = make_collator(processor, recipe.recipe.data)
    built = build_trainer(
        model,
        args,
        recipe.stages["it"].settings,
        processor=processor,
        collate=collate,
        train=samples,
        evaluation=None,
        cal=CalConfig(),
    )
    built.train()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert any("multi_modal_projector" in name and "modules_to_save" in name for name in moved)
    assert any("lora_B" in name for name in moved)
    assert all("multi_modal_projector" in name or "lora_" in name for name in moved)
    assert {group["lr"] for group in built.optimizer.param_groups} == {1e-2, 0.5}


def test_kept_features_serve_every_later_load_of_the_same_tower(tiny):
    _, samples, path = tiny
    settings = ModelSettings(path=path, cache_features=True, feature_gib=0.125)
    store = feature_store(0.125, None)
    batch = in_float64(make_collator(load_processor(path), tiny[0].recipe.data)(samples[:4]))
    with torch.no_grad():
        plain = load_model(path, ModelSettings(path=path)).eval().double()(**batch).logits
        for _ in range(2):
            assert_near(load_model(path, settings).eval().double()(**batch).logits, plain)
    assert (store.counts.missing, store.counts.in_memory) == (4, 4)


def test_a_tower_that_learns_cannot_have_its_features_kept(tiny):
    _, _, path = tiny
    settings = ModelSettings(path=path, cache_features=True)
    stage = Stage(train=("vision_tower",), steps=1, learning_rate=1.0, batch_size=1)
    with pytest.raises(RecipeError, match="vision_tower cannot learn with model"):
        ready_to_learn(load_model(path, settings), settings, stage)


def test_lora_wraps_only_stages_that_train_the_language_model(tiny):
    recipe, _, path = tiny
    settings = ModelSettings(path=path, lora=LoraSettings(r=2))
    for parts, wrapped in ((("projector",), False), (("projector", "language_model"), True)):
        stage = Stage(train=parts, steps=1, learning_rate=1.0, batch_size=1)
        assert isinstance(ready_to_learn(load_model(path, recipe.recipe.model), settings, stage), PeftModel) == wrapped


PARTS = {
    "family": "llava",
    "language_model": "lmsys/vicuna-7b-v1.5",
    "vision_tower": "openai/clip-vit-large-patch14-336",
}


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_a_tiny_shape_is_saved_with_the_words_of_the_samples(tiny, tmp_path, family):
    _, samples, _ = tiny
    settings = ModelSettings(**{**PARTS, "family": family, "shape": "tiny"})
    save_start(settings, samples, 0, tmp_path / "made")
    tokenizer = load_processor(str(tmp_path / "made")).tokenizer
    assert len(tokenizer("colour", add_special_tokens=False)["input_ids"]) < 6
    assert load_model(str(tmp_path / "made"), settings).config.model_type == family


def test_parts_that_cannot_be_fetched_are_a_mistake_in_the_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"^model: 'lmsys/vicuna-7b-v1\.5' is no directory and cannot be fetched"):
        save_start(ModelSettings(**PARTS), [], 0, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_an_outline_is_as_large_as_the_model(tiny):
    _, _, folder = tiny
    settings = ModelSettings(path=folder)
    shapes = {name: tensor.shape for name, tensor in load_model(folder, settings).named_parameters()}
    model = outline_model(settings)
    assert {name: tensor.shape for name, tensor in model.named_parameters()} == shapes
    assert {tensor.device.type for tensor in model.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "tiny"}, "depend on its tokenizer"),
        ({"path": "no/such-model"}, "is no model directory"),
        ({**PARTS, "vision_tower": "no/such"}, "none of the names whose shapes are known"),
    ],
)
def test_an_outline_that_cannot_be_drawn_says_why(settings, message):
    with pytest.raises(RecipeError, match=message):
        outline_model(ModelSettings(**settings))


def test_an_outline_of_a_tiny_shape_is_small():
    model = outline_model(ModelSettings(**PARTS, shape="tiny"))
    assert sum(parameter.numel() for parameter in model.parameters()) < 10**6
