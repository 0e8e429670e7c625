"""What a recipe may say, and that everything else is refused with its place and what was wanted."""

import math

import pytest
import yaml

from contralign.recipe.plan import RunPlan
from contralign.recipe.planning import plan_of
from contralign.recipe.recipe import Recipe, plain
from contralign.recipe.schema import RecipeError, from_mapping, merge
from contralign.run.preflight import cal_configs
from contralign.training.cal_settings import CalSettings
from contralign.training.config import CalConfig

GOOD = """
name: run
model: {path: tiny}
data: {train: [scenes:train], eval: [scenes:heldout], settings: {scenes: {count: 10}}}
stages:
  text: {kind: text, steps: 3, learning_rate: 0.001, batch_size: 4}
  it: {train: [projector, language_model], steps: 5, learning_rate: 0.001, batch_size: 4, cal: true}
cal: {alpha: 1, beta: 5}
arms: {mle: null, cal: {}}
evaluate: {grounding: {}}
"""


def plan_with(changes: str) -> RunPlan:
    return plan_of(from_mapping(Recipe, merge(yaml.safe_load(GOOD), yaml.safe_load(changes))))


def recipe_with(changes: str) -> Recipe:
    return plan_with(changes).recipe


BAD = {
    "unknown section": ("modle: {}", "modle: unknown setting; did you mean 'model'?"),
    "unknown model setting": ("model: {pth: x}", "model.pth: unknown setting; did you mean 'path'?"),
    "unknown lora setting": ("model: {lora: {rank: 8}}", "model.lora.rank: unknown setting"),
    "unknown data setting": ("data: {max_len: 8}", "data.max_len: unknown setting; did you mean 'max_length'?"),
    "unknown stage setting": (
        "stages: {it: {learning_rte: 1}}",
        "stages.it.learning_rte: unknown setting; did you mean 'learning_rate'?",
    ),
    "unknown cal setting": ("cal: {windw: 3}", "cal.windw: unknown setting; did you mean 'window'?"),
    "unknown arm setting": ("arms: {cal: {scor: logprob}}", "arms.cal.scor: unknown setting; did you mean 'score'?"),
    "unknown stage data": ("stages: {it: {data: {templat: chat}}}", "stages.it.data.templat: unknown setting"),
    "unknown trainer setting": (
        "trainer: {loging_steps: 5}",
        "trainer.loging_steps: unknown setting; did you mean 'logging_steps'?",
    ),
    "trainer setting the recipe owns": ("trainer: {max_steps: 5}", "trainer.max_steps: set stages.NAME.steps instead"),
    "trainer type": ("trainer: {bf16: 1.5}", "trainer.bf16: wanted true or false, got 1.5"),
    "text for a number": (
        "stages: {it: {learning_rate: fast}}",
        "stages.it.learning_rate: wanted a number, got 'fast'",
    ),
    "share for a whole number": ("stages: {it: {steps: 1.5}}", "stages.it.steps: wanted a whole number, got 1.5"),
    "number for text": ("name: 3", "name: wanted text, got 3"),
    "bool for a number": ("seed: true", "seed: wanted a whole number, got True"),
    "number for a bool": ("report: 1", "report: wanted true or false, got 1"),
    "null for a number": (
        "stages: {it: {batch_size: null}}",
        "stages.it.batch_size: wanted a whole number, got nothing",
    ),
    "list for settings": ("model: [tiny]", "model: wanted settings (key: value), got ['tiny']"),
    "scalar for stages": ("stages: 3", "stages: wanted settings"),
    "scalar stage": ("stages: {it: 5}", "stages.it: wanted settings"),
    "unknown template": ("data: {template: vicuna}", "data.template: got 'vicuna'; did you mean 'vicuna_v1'?"),
    "unknown part": (
        "stages: {it: {train: [projektor]}}",
        "stages.it.train[0]: got 'projektor'; did you mean 'projector'?",
    ),
    "unknown kind": ("stages: {it: {kind: aline}}", "stages.it.kind: got 'aline'; did you mean 'align'?"),
    "unknown schedule": ("stages: {it: {schedule: cosin}}", "did you mean 'cosine'?"),
    "part twice": (
        "stages: {it: {train: [projector, projector]}}",
        "stages.it: train=['projector', 'projector'] names",
    ),
    "nothing to train": ("stages: {it: {train: []}}", "stages.it: train is empty"),
    "steps and epochs": ("stages: {it: {epochs: 1}}", "stages.it: steps=5 and epochs=1.0: give one of them"),
    "neither steps nor epochs": ("stages: {it: {steps: null}}", "stages.it: steps=None and epochs=None"),
    "negative steps": ("stages: {it: {steps: -5}}", "stages.it: steps=-5: wanted 1 or more"),
    "no epochs": ("stages: {it: {steps: null, epochs: 0}}", "stages.it: epochs=0.0: wanted a number above 0"),
    "learning rate 0": ("stages: {it: {learning_rate: 0}}", "stages.it: learning_rate=0.0: wanted a number above 0"),
    "batch of 0": ("stages: {it: {batch_size: 0}}", "stages.it: batch_size=0: wanted 1 or more"),
    "negative warmup": ("stages: {it: {warmup: -1}}", "stages.it: warmup=-1.0: wanted 0 or more"),
    "warmup without effect": (
        "stages: {it: {warmup: 3, schedule: constant}}",
        "warmup=3.0 has no effect with schedule='constant': set constant_with_warmup",
    ),
    "vision rate without effect": (
        "stages: {it: {vision_learning_rate: 1.0}}",
        "stages.it: vision_learning_rate has no effect: vision_tower is not in train",
    ),
    "projector rate without effect": (
        "stages: {it: {projector_learning_rate: 1.0, train: [language_model]}}",
        "stages.it: projector_learning_rate has no effect: projector is not in train",
    ),
    "projector rate 0": (
        "stages: {it: {projector_learning_rate: 0}}",
        "projector_learning_rate=0.0: wanted a number above",
    ),
    "features of a tower that learns": (
        "model: {cache_features: true}",
        "the vision tower of path: tiny learns in a stage",
    ),
    "feature folder without effect": (
        "model: {feature_folder: features}",
        "model: feature_gib and feature_folder have no effect without cache_features: true",
    ),
    "no memory for features": ("model: {feature_gib: 0}", "model: feature_gib=0.0: wanted a number above 0"),
    "parts in a text stage": ("stages: {text: {train: [projector]}}", "has no effect with kind='text'"),
    "cal in a text stage": ("stages: {text: {cal: true}}", "cal=True has no effect with kind='text'"),
    "parts in a tower stage": (
        "stages: {text: {kind: tower, train: [projector]}}",
        "has no effect with kind='tower', which trains the vision_tower by itself",
    ),
    "text stage of a model that has learnt": (
        "model: {path: llava-hf/llava-1.5-7b-hf}",
        "stages.text.kind: 'text' is what the tiny LLaVA learns first",
    ),
    "accumulation in a text stage": ("stages: {text: {grad_accumulation: 2}}", "grad_accumulation=2 has no effect"),
    "tiny settings of another model": (
        "model: {path: llava-hf/llava-1.5-7b-hf, tiny: {hidden: 64}}",
        "model: tiny has no effect with path='llava-hf/llava-1.5-7b-hf'",
    ),
    "lora without effect": (
        "{model: {lora: {}}, stages: {it: {train: [projector]}}}",
        "model.lora has no effect: no stage has language_model in train",
    ),
    "lora rank 0": ("model: {lora: {r: 0}}", "model.lora: r=0: wanted 1 or more"),
    "lora dropout 1": ("model: {lora: {dropout: 1}}", "model.lora: dropout=1.0: wanted a share"),
    "no sources": ("data: {train: []}", "data: train is empty"),
    "noise above 1": ("data: {swap_noise: 30}", "data: swap_noise=30.0: wanted a share in [0, 1]"),
    "noise seed without noise": ("data: {noise_seed: 1}", "data: noise_seed=1 has no effect with swap_noise=0"),
    "length 0": ("data: {max_length: 0}", "data: max_length=0: wanted 2 or more"),
    "image root without files": ("data: {image_root: pictures}", "data: image_root has no effect"),
    "image roots that do not fit": (
        "data: {train: [a.json, b.json, c.json], image_root: [a, b]}",
        "image_root has 2 folders for 3 files",
    ),
    "settings of a set not used": ("data: {settings: {easy_vqa: {count: 3}}}", "settings.easy_vqa has no effect"),
    "eval in a stage": ("stages: {it: {data: {eval: x.json}}}", "stages.it.data.eval has no effect"),
    "evaluation without records": ("data: {eval: []}", "evaluate: needs records that were held out"),
    "held-out records for nothing": ("evaluate: null", "data.eval=['scenes:heldout'] has no effect: evaluate is empty"),
    "evaluation steps without records": (
        "{data: {eval: []}, evaluate: null, trainer: {eval_strategy: steps}}",
        "trainer.eval_strategy: needs records that were held out",
    ),
    "cal stage without cal": ("{cal: null, arms: null}", "stages.it.cal: true needs CAL's settings"),
    "cal without a cal stage": (
        "{stages: {it: {cal: false}}, arms: null}",
        "cal has no effect: no stage has cal: true",
    ),
    "arms without cal": ("{stages: {it: {cal: false}}, cal: null}", "arms: they differ in CAL alone"),
    "arms that are all plain": ("arms: {cal: null}", "cal has no effect: every arm is null"),
    "arm with a reserved name": ("arms: {start: {}}", "arms.start: the run directory keeps this name"),
    "arm that is a path": ("arms: {../x: {}}", "arms.../x: '../x' becomes a folder"),
    "name that is a path": ("name: a/b", "name: 'a/b' becomes a folder"),
    "cal out of range": ("cal: {alpha: -1}", "cal: alpha=-1"),
    "cal without effect": ("cal: {alpha: 0, weighting: dft}", "cal: alpha=0.0 has no effect with weighting='dft'"),
    "even window": ("arms: {cal: {window: 2}}", "arms.cal: window=2"),
    "fill of two colours": (
        "cal: {contrast: {name: patches, fill: [1, 2]}}",
        "cal: contrast {'name': 'patches', 'fill': (1, 2)}: fill=(1, 2): wanted three integers",
    ),
    "blur of the former spelling": (
        "cal: {contrast: blur, blur_sigma: 3}",
        "cal.blur_sigma: 3 is written with the contrast now: contrast: blur:3",
    ),
    "patches of the former spelling": (
        "arms: {cal: {contrast: patches, patch_ratio: 0.7, patch_seed: 3}}",
        "arms.cal.patch_ratio: 0.7 is written with the contrast now: contrast: {name: patches, ratio: 0.7, seed: 3}",
    ),
    "contrast that is none": ("cal: {contrast: blurs}", "did you mean 'blur'?"),
    "stage that is null": ("stages: {it: null}", "stages.it: wanted settings (key: value), got None"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_a_recipe_that_cannot_be_followed_is_refused_with_place_and_reason(changes, message):
    values = merge(yaml.safe_load(GOOD), yaml.safe_load(changes))
    with pytest.raises(RecipeError) as refused:
        cal_configs(plan_of(from_mapping(Recipe, values)))
    assert message in str(refused.value)


@pytest.mark.parametrize("missing", ["model", "data", "stages", "name"])
def test_a_missing_section_is_named(missing):
    values = yaml.safe_load(GOOD)
    del values[missing]
    with pytest.raises(RecipeError, match=f"{missing}: missing"):
        plan_of(from_mapping(Recipe, values))


def test_a_good_recipe_keeps_stages_in_order_and_paper_defaults():
    recipe = recipe_with("{}")
    assert list(recipe.stages) == ["text", "it"]
    assert recipe.cal == CalSettings(alpha=1.0, beta=5.0, window=3, form="exact", contrast="drop", score="logit")
    assert recipe.data.template == "chat"


def test_one_source_may_stand_without_a_list():
    assert recipe_with("data: {train: scenes:train}").data.train == ("scenes:train",)


def test_beta_may_be_infinite():
    assert recipe_with("cal: {beta: .inf}").cal.beta == math.inf


def test_arms_may_weigh_tokens_in_other_ways():
    recipe = recipe_with(
        """
        arms:
          uniform: {weighting: uniform}
          prior: {weighting: prior, options: {power: 1.5}}
          rho1: {weighting: rho1, options: {keep: 0.6}, scores: start.parquet}
          quantile: {weighting: quantile, alpha: 0.5, options: {low: 0.1}, score: centred}
        """
    )
    arms = cal_configs(plan_of(recipe))
    assert arms["uniform"] == CalConfig(weighting="uniform")
    assert arms["prior"] == CalConfig(weighting="prior", options={"power": 1.5})
    assert arms["rho1"] == CalConfig(weighting="rho1", options={"keep": 0.6}, scores="start.parquet")
    assert arms["quantile"] == CalConfig(weighting="quantile", alpha=0.5, options={"low": 0.1}, score="centred")


def test_options_of_cal_reach_the_arms_and_are_written_down_as_they_were_given():
    recipe = recipe_with("{cal: {weighting: vig, options: {keep: 0.5}}, arms: {vig: {}, more: {options: {keep: 0.9}}}}")
    arms = cal_configs(plan_of(recipe))
    assert arms["vig"] == CalConfig(weighting="vig", options={"keep": 0.5})
    assert arms["more"] == CalConfig(weighting="vig", options={"keep": 0.9})
    written = yaml.safe_load(yaml.safe_dump(plain(recipe)))
    assert written["cal"]["options"] == {"keep": 0.5}
    assert from_mapping(Recipe, written) == recipe


def test_arms_are_differences_from_cal():
    recipe = recipe_with("{cal: {beta: 3}, arms: {logprob: {score: logprob, window: 1}}}")
    arms = cal_configs(plan_of(recipe))
    assert arms["mle"] is None
    assert arms["cal"] == CalConfig(beta=3.0)
    assert arms["logprob"] == CalConfig(beta=3.0, score="logprob", window=1)


@pytest.mark.parametrize(("cal", "arm"), [("{}", "cal"), (None, "mle")])
def test_without_arms_the_one_arm_is_named_after_the_method(cal, arm):
    values = yaml.safe_load(GOOD)
    del values["arms"], values["cal"]
    values["stages"]["it"]["cal"] = cal is not None
    if cal is not None:
        values["cal"] = yaml.safe_load(cal)
    assert list(plan_of(from_mapping(Recipe, values)).arms) == [arm]


def test_arms_part_at_the_first_stage_with_cal():
    assert plan_with("{}").fork == 1
    assert plan_with("stages: {more: {train: projector, steps: 1, learning_rate: 1, batch_size: 1}}").fork == 1


def test_a_stage_may_differ_in_its_data():
    recipe = recipe_with("stages: {it: {data: {swap_noise: 0.3, settings: {scenes: {glyphs: 7}}}}}")
    assert recipe.data.swap_noise == 0
    assert plan_of(recipe).stages["it"].data.swap_noise == 0.3
    assert plan_of(recipe).stages["it"].data.settings == {"scenes": {"count": 10, "glyphs": 7}}
    assert plan_of(recipe).stages["text"].data == recipe.data


def test_settings_of_a_source_go_before_those_of_its_set():
    data = recipe_with("data: {settings: {scenes: {glyphs: 7}, 'scenes:train': {count: 20}}}").data
    assert data.source_settings("scenes:train") == {"count": 20, "glyphs": 7}
    assert data.source_settings("scenes:heldout") == {"count": 10, "glyphs": 7}


def test_a_plain_recipe_builds_the_same_recipe_again():
    recipe = recipe_with("{model: {lora: {r: 4}}, cal: {beta: .inf, contrast: {name: patches, fill: [1, 2, 3]}}}")
    assert from_mapping(Recipe, plain(recipe)) == recipe


def test_a_recipe_that_an_earlier_version_resolved_is_read():
    recipe = recipe_with("cal: {contrast: mask, patch_ratio: null, blur_sigma: null, prompt: null, mean_tokens: null}")
    assert recipe == recipe_with("cal: {contrast: mask}")


def test_the_tokenizer_learns_from_the_stages_that_are_named():
    assert plan_with("{}").tokenizer_stages == ("text", "it")
    assert plan_with("model: {tokenizer_stages: [text]}").tokenizer_stages == ("text",)
    with pytest.raises(RecipeError, match=r"tokenizer_stages: no such stage; did you mean 'text'"):
        recipe_with("model: {tokenizer_stages: [txt]}")


def test_a_tower_whose_features_are_kept_cannot_learn():
    values = yaml.safe_load(GOOD) | {"model": {"path": "some/model", "cache_features": True}}
    values["stages"] = {"more": {**values["stages"]["it"], "train": ["projector", "vision_tower"]}}
    with pytest.raises(RecipeError, match=r"stages.more.train: vision_tower cannot learn with model.cache_features"):
        plan_of(from_mapping(Recipe, values))
