"""The recipes of the paper's nine models against the tables of the training specification, number by number."""

import pytest
import yaml

from contralign.recipe.planning import plan_of
from contralign.recipe.published_sizes import published_count
from contralign.recipe.recipe_file import PACKAGED, find_recipe, load_recipe
from contralign.run.build import outline_model
from contralign.run.learning.trainable_parts import freeze_unread_layers, parameter_groups, train_only

VICUNA_7B, VICUNA_13B, GEMMA_2B = "lmsys/vicuna-7b-v1.5", "lmsys/vicuna-13b-v1.5", "google/gemma-2b-it"
CLIP = "openai/clip-vit-large-patch14-336"
CONVNEXT = "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"

BOTH, IT_ALONE = ("pt", "it"), ("it",)

# name: (family, language model, stages, GPUs of the paper, batch sizes on them, longest row)
MODELS = {
    "llava15_7b": ("llava", VICUNA_7B, BOTH, 8, {"pt": 32, "it": 16}, 2048),
    "llava15_13b": ("llava", VICUNA_13B, BOTH, 8, {"pt": 32, "it": 16}, 2048),
    "llava_next_7b": ("llava_next", VICUNA_7B, BOTH, 16, {"pt": 16, "it": 8}, 4096),
    "llava_next_13b": ("llava_next", VICUNA_13B, BOTH, 16, {"pt": 16, "it": 8}, 4096),
    "mgm_2b": ("mini_gemini", GEMMA_2B, BOTH, 8, {"pt": 8, "it": 8}, 2048),
    "mgm_7b": ("mini_gemini", VICUNA_7B, BOTH, 16, {"pt": 16, "it": 8}, 2048),
    "mgm_13b": ("mini_gemini", VICUNA_13B, BOTH, 16, {"pt": 8, "it": 4}, 2048),
    "mgm_hd_7b": ("mini_gemini_hd", VICUNA_7B, IT_ALONE, 16, {"it": 4}, 4096),
    "mgm_hd_13b": ("mini_gemini_hd", VICUNA_13B, IT_ALONE, 32, {"it": 4}, 4096),
}
ACCUMULATION = {"mgm_2b": {"pt": 4, "it": 2}, "mgm_13b": {"pt": 2, "it": 2}, "mgm_hd_7b": {"it": 2}}
GLOBAL_BATCH = {"pt": 256, "it": 128}
LEARNING_RATE = {"pt": 1e-3, "it": 2e-5}
NAMES = [f"{model}/{arm}" for model in MODELS for arm in ("baseline", "cal")]

PROJECTOR = {VICUNA_7B: 20_979_712, VICUNA_13B: 31_467_520, GEMMA_2B: 6_295_552}
MINING = 6_963_456
LANGUAGE_MODEL = {VICUNA_7B: 6_738_415_616, VICUNA_13B: 13_015_864_320, GEMMA_2B: 2_506_172_416}
WIDTH = {VICUNA_7B: 4096, VICUNA_13B: 5120, GEMMA_2B: 2048}
ADDED_ROWS = 64
"""Of embeddings and head: a Hugging Face LLaVA looks its image token up."""


def recipe_of(name):
    return load_recipe(find_recipe(name))


def test_every_model_of_the_paper_has_a_baseline_and_a_cal_recipe():
    there = {str(path.relative_to(PACKAGED).with_suffix("")) for path in PACKAGED.glob("*/*.yaml")}
    assert set(NAMES) <= there


@pytest.mark.parametrize("name", NAMES)
def test_model_and_stages(name):
    model, arm = name.split("/")
    family, language_model, stages, _, batches, max_length = MODELS[model]
    recipe = recipe_of(name)
    assert recipe.name == f"{model}-{arm}"
    assert recipe.seed == 42
    assert recipe.model.family == family
    assert recipe.model.language_model == language_model
    assert recipe.model.vision_tower == CLIP
    assert recipe.model.aux_tower == (CONVNEXT if family.startswith("mini_gemini") else None)
    assert (recipe.model.shape, recipe.model.dtype, recipe.model.lora) == ("full", "float32", None)
    assert tuple(recipe.stages) == stages
    for stage, settings in recipe.stages.items():
        assert (settings.kind, settings.epochs, settings.steps) == ("align", 1, None)
        assert settings.learning_rate == LEARNING_RATE[stage]
        assert (settings.schedule, settings.warmup) == ("cosine", 0.03)
        assert (settings.weight_decay, settings.max_grad_norm) == (0, 0)
        assert settings.batch_size == batches[stage]
        assert settings.global_batch == GLOBAL_BATCH[stage]
        assert settings.projector_learning_rate is None
        assert plan_of(recipe).stages[stage].data.max_length == max_length


@pytest.mark.parametrize("name", NAMES)
def test_on_the_papers_gpus_accumulation_is_the_papers(name):
    model = name.split("/")[0]
    gpus, stages = MODELS[model][3], recipe_of(name).stages
    found = {stage: settings.accumulation(gpus) for stage, settings in stages.items()}
    assert found == ACCUMULATION.get(model, dict.fromkeys(stages, 1))


@pytest.mark.parametrize("name", NAMES)
def test_what_learns_and_how_fast(name):
    family = MODELS[name.split("/")[0]][0]
    stages = recipe_of(name).stages
    if "pt" in stages:
        assert stages["pt"].train == ("projector",)
        assert stages["pt"].vision_learning_rate is None
    everything = {"projector", "language_model", "vision_tower", "image_newline"}
    assert set(stages["it"].train) == (everything if family == "llava_next" else {"projector", "language_model"})
    assert stages["it"].vision_learning_rate == (2e-6 if family == "llava_next" else None)


@pytest.mark.parametrize("name", NAMES)
def test_templates_pictures_and_order(name):
    model = name.split("/")[0]
    family, recipe = MODELS[model][0], recipe_of(name)
    it = plan_of(recipe).stages["it"].data
    assert it.template == ("gemma" if model == "mgm_2b" else "vicuna_v1")
    assert it.image_aspect == ("processor" if family == "llava_next" else "pad")
    assert it.sampler == "modality_length"
    if "pt" in recipe.stages:
        pt = plan_of(recipe).stages["pt"].data
        assert pt.template == ("gemma" if model == "mgm_2b" else "plain")
        assert pt.image_aspect == "processor"
        assert pt.sampler == "random"


@pytest.mark.parametrize("name", NAMES)
def test_precision_and_memory(name):
    trainer = recipe_of(name).trainer
    assert trainer["bf16"] is True
    assert trainer["activation_checkpointing"] is True


@pytest.mark.parametrize("model", MODELS)
def test_cal_is_in_every_stage_of_the_cal_recipe_and_in_none_of_the_baseline(model):
    baseline, cal = (recipe_of(f"{model}/{arm}") for arm in ("baseline", "cal"))
    assert baseline.cal is None
    assert not any(stage.cal for stage in baseline.stages.values())
    assert all(stage.cal for stage in cal.stages.values())
    assert (cal.cal.alpha, cal.cal.beta, cal.cal.window) == (1, 5, 3)
    assert baseline.arms == cal.arms == {}


@pytest.mark.parametrize("model", [model for model in MODELS if MODELS[model][2] == BOTH])
@pytest.mark.parametrize("stage", BOTH)
def test_cal_is_switched_off_in_one_stage_for_table_3(model, stage):
    recipe = load_recipe(find_recipe(f"{model}/cal"), [f"stages.{stage}.cal=false"])
    assert [name for name, settings in recipe.stages.items() if settings.cal] == [
        name for name in BOTH if name != stage
    ]


@pytest.mark.parametrize("model", MODELS)
def test_a_cal_recipe_differs_from_its_baseline_in_cal_alone(model):
    written = yaml.safe_load((PACKAGED / model / "cal.yaml").read_text())
    stages = {name: {"cal": True} for name in MODELS[model][2]}
    expected = {"base": "baseline.yaml", "name": f"{model}-cal", "cal": {}, "stages": stages}
    if model.startswith("mgm_hd"):
        size = model.rpartition("_")[2]
        expected["model"] = {"projector": f"runs/mgm_{size}-cal-pt/cal"}
    assert written == expected


@pytest.mark.parametrize("name", NAMES)
def test_published_files_and_their_records(name):
    model, recipe = name.split("/")[0], recipe_of(name)
    it = published_count(plan_of(recipe).stages["it"].data.train)
    if model.startswith("mgm"):
        assert (it.records, it.is_exact) == (1_500_000, False)
    else:
        assert it.is_exact
        assert it.records == (665_298 if model.startswith("llava15") else 665_298 + 39_463 + 28_299 + 102_025)
    if "pt" in recipe.stages:
        pt = published_count(plan_of(recipe).stages["pt"].data.train)
        assert pt.records == (1_200_000 if model.startswith("mgm") else 558_128)


def test_only_the_hd_models_start_from_a_trained_projector():
    projectors = {name: recipe_of(name).model.projector for name in NAMES}
    assert {name for name, projector in projectors.items() if projector} == {n for n in NAMES if n.startswith("mgm_hd")}
    assert projectors["mgm_hd_7b/baseline"] == "runs/mgm_7b-baseline-pt/mle"


@pytest.fixture(scope="module")
def outlines():
    """Outlines by family and language model: they are made once, and re-frozen by every test."""
    made = {}

    def outline(settings):
        key = (settings.family, settings.language_model)
        if key not in made:
            made[key] = outline_model(settings)
        return made[key]

    return outline


@pytest.mark.parametrize("name", NAMES)
def test_trained_parameters_are_those_of_the_paper(name, outlines):
    family, language_model, *_ = MODELS[name.split("/")[0]]
    recipe = recipe_of(name)
    model = outlines(recipe.model)
    projector = PROJECTOR[language_model] + (MINING if family.startswith("mini_gemini") else 0)
    decoder = LANGUAGE_MODEL[language_model]
    if not family.startswith("mini_gemini"):
        decoder += 2 * ADDED_ROWS * WIDTH[language_model]
    if "pt" in recipe.stages:
        assert train_only(model, recipe.stages["pt"].train) == {"projector": projector}
    counts = train_only(model, recipe.stages["it"].train)
    assert counts["projector"] == projector
    assert counts["language_model"] == decoder
    if family == "llava_next":
        assert counts["image_newline"] == WIDTH[language_model]
        assert counts["vision_tower"] == 303_507_456
    assert all(parameter.device.type == "meta" for parameter in model.parameters())


def test_next_has_two_groups_and_the_tower_learns_ten_times_slower(outlines):
    recipe = recipe_of("llava_next_13b/cal")
    model, stage = outlines(recipe.model), recipe.stages["it"]
    train_only(model, stage.train)
    frozen = freeze_unread_layers(model)
    assert any(name.endswith("layers.23") for name in frozen)
    groups = parameter_groups(model, stage.learning_rate, stage.part_rates, stage.weight_decay)
    assert sorted(group["lr"] for group in groups) == [2e-6, 2e-5]
    tower = next(group for group in groups if group["lr"] == 2e-6)
    read = 303_507_456 - 12_596_224 - 2 * 1024  # without the last layer and the norm behind it
    assert sum(parameter.numel() for parameter in tower["params"]) == read
