"""Training from a score file: the weights of live training with no second pass, and refusals before the first step."""

import copy
import logging
from dataclasses import replace

import pytest
import torch
from transformers import TrainingArguments
from worlds.small_models import spread
from worlds.small_recipes import STAGE, TINY, small_plan, write_records
from worlds.small_scores import mixed_samples, scored, spread_pair, text_sample
from worlds.tiny_worlds import coloured, coloured_samples

from contralign import CalConfig, CALTrainer, ContrastiveAlignment
from contralign.batch import CACHED_DELTA
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import Turn
from contralign.data.records.mixture import load_samples
from contralign.data.records.swap_noise import swap_images
from contralign.data.scores.score_file import ScoreFile, ScoreMismatch
from contralign.models.small.tiny import build_tiny
from contralign.recipe.schema import RecipeError
from contralign.run import steps
from contralign.run.build import save_folder
from contralign.run.preflight import cal_configs
from contralign.run.run import run_plan
from contralign.run.score_files import check_score_files
from contralign.training import scores as scores_module
from contralign.training.alignment import CACHED
from contralign.training.scores import with_cached_scores

SAMPLES = mixed_samples(11)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    model, collator = spread_pair(SAMPLES)
    model.double()  # so that what the file rounds to, and not the order of a sum, is what the tolerance is for
    return model, collator, scored(tmp_path_factory.mktemp("scores") / "s.parquet", model, collator, SAMPLES)


def arguments(folder, **changes):
    settings = {
        "output_dir": str(folder),
        "max_steps": 1,
        "learning_rate": 0.1,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**(settings | changes))


class Weights:
    """Weights of every label token of training, by batch, and how many second passes were run."""

    def __init__(self, monkeypatch):
        self.batches, self.second_passes = [], 0
        step = ContrastiveAlignment._step

        def remember(alignment, inputs, cached):
            out = step(alignment, inputs, cached)
            self.batches.append((inputs["input_ids"], out.weights[out.valid]))
            self.second_passes += alignment.contrast is not None
            return out

        monkeypatch.setattr(ContrastiveAlignment, "_step", remember)


def trainer_of(world, folder, train=SAMPLES, cal=None, collator=None, **settings):
    model, own, _ = world
    return CALTrainer(
        model=copy.deepcopy(model),
        args=arguments(folder, **settings.pop("args", {})),
        train_dataset=load_samples(train),
        data_collator=own if collator is None else collator,
        cal=cal or CalConfig(),
        **settings,
    )


@pytest.mark.parametrize("score", ["logit", "logprob"])
def test_the_bare_loop_gets_the_weights_of_the_live_one(score, world):
    model, collator, file = world
    cached = VLCollator(collator.processor, scores=ScoreFile.open(file.path, f"delta_{score}"))
    live = ContrastiveAlignment(model, CalConfig(score=score))(collator(SAMPLES))
    from_file = ContrastiveAlignment(model, CalConfig(score=score, scores=str(file.path)))(cached(SAMPLES))
    assert live.weights[live.valid].std() > 0.3
    torch.testing.assert_close(from_file.weights, live.weights, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(from_file.loss, live.loss, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_trainer_gets_them_with_accumulation_and_shuffling_and_runs_no_second_pass(world, tmp_path, monkeypatch):
    _, _, file = world
    live, cached = Weights(monkeypatch), None
    one = trainer_of(world, tmp_path)
    one.train()
    monkeypatch.undo()
    cached = Weights(monkeypatch)
    other = trainer_of(world, tmp_path, cal=CalConfig(scores=str(file.path)))
    other.train()
    assert (live.second_passes, cached.second_passes) == (3, 0)
    assert torch.cat([weights for _, weights in live.batches]).std() > 0.3
    for (ids, weights), (other_ids, other_weights) in zip(live.batches, cached.batches, strict=True):
        assert torch.equal(ids, other_ids)
        torch.testing.assert_close(weights, other_weights, atol=TOLERANCE, rtol=TOLERANCE)
    assert one.state.log_history[0]["loss"] == pytest.approx(other.state.log_history[0]["loss"], rel=TOLERANCE)
    for name, parameter in one.model.named_parameters():
        torch.testing.assert_close(parameter, other.model.get_parameter(name), atol=1e-4, rtol=1e-3)


def test_workers_bring_the_same_delta(world, tmp_path, monkeypatch):
    _, _, file = world
    seen = []
    for workers in (0, 2):
        with monkeypatch.context() as patch:
            weights = Weights(patch)
            settings = {"dataloader_num_workers": workers}
            trainer_of(world, tmp_path, cal=CalConfig(scores=str(file.path)), args=settings).train()
            seen.append(torch.cat([batch for _, batch in weights.batches]))
    assert torch.equal(*seen)


def test_the_name_of_the_key_is_the_one_that_alignment_reads():
    assert CACHED_DELTA == CACHED


def test_a_collator_that_has_the_file_already_is_taken_as_it_is(world, tmp_path):
    _, collator, file = world
    given = VLCollator(collator.processor, scores=file)
    trainer = trainer_of(world, tmp_path, cal=CalConfig(scores=str(file.path)), collator=given)
    assert trainer.data_collator is given


def test_a_collator_with_another_file_or_score_is_refused(world, tmp_path):
    model, collator, file = world
    other = scored(tmp_path / "other.parquet", model, collator, SAMPLES)
    for given in (other, ScoreFile.open(file.path, "delta_logprob")):
        with pytest.raises(ValueError, match="leave scores out of the collator"):
            trainer_of(
                world,
                tmp_path,
                cal=CalConfig(scores=str(file.path)),
                collator=VLCollator(collator.processor, scores=given),
            )


def test_the_users_collator_is_left_as_it_was(world, tmp_path):
    _, collator, file = world
    trainer = trainer_of(world, tmp_path, cal=CalConfig(scores=str(file.path)))
    assert collator.scores is None
    assert trainer.data_collator.skipped is collator.skipped


def test_a_collator_of_the_users_own_has_to_bring_delta(world, tmp_path):
    _, collator, file = world
    trainer = trainer_of(world, tmp_path, cal=CalConfig(scores=str(file.path)), collator=lambda rows: collator(rows))
    with pytest.raises(ValueError, match="wants 'cached_delta' in every batch"):
        trainer.train()


def test_a_collator_of_the_users_own_may_bring_delta(world, tmp_path):
    _, collator, file = world
    bringing = VLCollator(collator.processor, scores=file)
    cal = CalConfig(scores=str(file.path))
    trainer = trainer_of(
        world, tmp_path, cal=cal, collator=lambda rows: bringing(rows), eval_dataset=load_samples(SAMPLES[:3])
    )
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0


def test_all_that_differs_from_the_file_is_named_before_training(world, tmp_path):
    _, collator, file = world
    other = VLCollator(collator.processor, template="plain", max_length=500)
    cal = CalConfig(scores=str(file.path), contrast="mask")
    with pytest.raises(ScoreMismatch) as refused:
        trainer_of(world, tmp_path, cal=cal, collator=other)
    for words in ("template was 'chat', is 'plain'", "max_length was None, is 500", "contrast was 'drop', is 'mask'"):
        assert words in str(refused.value)


def test_a_score_that_the_file_has_not_is_named_with_the_rest(world, tmp_path):
    model, collator, _ = world
    scored(tmp_path / "s.parquet", model, collator, SAMPLES[:2], scores=("logit",), contrast=MaskImage())
    cal = CalConfig(scores=str(tmp_path / "s.parquet"), score="logprob")
    with pytest.raises(
        ScoreMismatch, match="contrast was 'mask', is 'drop'; it holds delta_logit, nll, not delta_logprob"
    ):
        with_cached_scores(cal, collator, None)


def test_a_tokenizer_that_grew_and_pictures_of_another_size_are_named(world, tmp_path):
    _, collator, file = world
    processor = copy.deepcopy(collator.processor)
    processor.tokenizer.add_tokens(["<new>"])
    processor.image_processor.image_std = [0.77, 0.77, 0.77]
    with pytest.raises(ScoreMismatch, match=r"tokenizer was .*; image_processor was "):
        with_cached_scores(CalConfig(scores=str(file.path)), VLCollator(processor), None)


def test_data_that_the_file_does_not_cover_are_refused_before_training(world, tmp_path):
    _, _, file = world
    more = [*SAMPLES, *(replace(sample, id=f"new{sample.id}") for sample in coloured_samples(2))]
    with pytest.raises(ScoreMismatch, match="lacks 2 of 14 samples, such as 'newc0'"):
        trainer_of(world, tmp_path, more, cal=CalConfig(scores=str(file.path)))


def test_swapped_pictures_are_refused_before_training(world, tmp_path):
    _, _, file = world
    noisy, _ = swap_images(SAMPLES, 0.5, seed=0)
    with pytest.raises(ScoreMismatch, match="another picture than was scored"):
        trainer_of(world, tmp_path, noisy, cal=CalConfig(scores=str(file.path)))


def test_a_mismatch_that_no_probe_saw_stops_training_at_its_batch(world, tmp_path, monkeypatch):
    _, _, file = world
    monkeypatch.setattr(scores_module, "_PROBES", 1)
    liar = replace(SAMPLES[5], turns=coloured("c5", "red", 2).turns, spans=())
    train = [*SAMPLES[:5], liar, *SAMPLES[6:]]
    trainer = trainer_of(world, tmp_path, train, cal=CalConfig(scores=str(file.path)))
    with pytest.raises(ScoreMismatch, match="sample list, c5: another text"):
        trainer.train()


def test_probing_leaves_no_trace_in_the_count_of_skipped_records(world, tmp_path):
    model, collator, _ = world
    short = VLCollator(collator.processor, max_length=60, on_bad="skip")
    turns = (Turn("user", "say it " * 60 + SAMPLES[1].turns[0].text), SAMPLES[1].turns[1])
    samples = [*SAMPLES, replace(SAMPLES[1], id="long", turns=turns)]
    file = scored(tmp_path / "s.parquet", model, short, samples)
    skipped = dict(short.skipped)
    assert sum(skipped.values()) == 1
    with_cached_scores(CalConfig(scores=str(file.path)), short, load_samples(SAMPLES))
    assert dict(short.skipped) == skipped


def test_evaluation_takes_delta_live_and_says_so(world, tmp_path, caplog):
    _, _, file = world
    held_out = load_samples([coloured("new", "red"), coloured("new2", "blue", 1), text_sample("new3")])
    live = trainer_of(world, tmp_path, eval_dataset=held_out)
    cached = trainer_of(world, tmp_path, cal=CalConfig(scores=str(file.path)), eval_dataset=held_out)
    with caplog.at_level(logging.WARNING):
        cached.evaluate()
        metrics = cached.evaluate()
    assert "evaluation takes Δ from the model as it is" in caplog.text
    assert metrics["eval_weight_mean"] > 1.1
    for name, value in live.evaluate().items():
        if "time" not in name and "per_second" not in name:
            assert metrics[name] == pytest.approx(value, rel=1e-6), name
    assert caplog.text.count("evaluation takes Δ") == 1
    assert cached.predict(held_out).metrics["test_loss"] == pytest.approx(metrics["eval_loss"], rel=1e-6)
    assert cached.data_collator.scores is not None


def test_evaluation_with_a_degraded_picture_gets_pictures_to_degrade(world, tmp_path):
    from contralign.contrast.patches import MaskPatches

    model, collator, _ = world
    keeping = VLCollator(collator.processor, keep_pictures=True)
    file = scored(tmp_path / "s.parquet", model, keeping, SAMPLES, contrast=MaskPatches(ratio=1.0))
    cal = CalConfig(scores=str(file.path), contrast="patches:1.0")
    trainer = trainer_of(world, tmp_path, cal=cal, eval_dataset=load_samples(SAMPLES[:4]))
    trainer.train()
    assert trainer.evaluate()["eval_weight_mean"] > 1
    with pytest.raises(ScoreMismatch, match=r"contrast_settings was .*'ratio': 1.0.* is .*'ratio': 0.5"):
        trainer_of(world, tmp_path, cal=replace(cal, contrast="patches:0.5"))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model directory whose Δ spreads, for recipes."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model, processor = build_tiny(["what colour? it is red green blue black 0 1 2 3 4 5 6 7 8 9"], **TINY)
    save_folder(folder, spread(model), processor)
    return folder, model, VLCollator(processor)


def check_files_of(plan):
    check_score_files(plan, cal_configs(plan))


def recipe_of(folder, start, **changes):
    return small_plan(folder, **{"model": {"path": str(start[0]), "tiny": None}, **changes})


def score_records(folder, start, **settings):
    _, model, collator = start
    samples = load_samples(write_records(folder), folder)
    return scored(folder / "s.parquet", model, collator, list(samples), **settings)


def test_an_arm_of_a_recipe_trains_from_a_file_as_it_would_live(tmp_path, start, monkeypatch):
    file = score_records(tmp_path, start)
    weights = Weights(monkeypatch)
    recipe = recipe_of(tmp_path, start, arms={"mle": None, "cal": {}, "cached": {"scores": str(file.path)}})
    run = run_plan(recipe, {})
    (live_ids, live), _, (ids, cached), _ = weights.batches
    assert torch.equal(live_ids, ids)
    assert live.std() > 0.3
    torch.testing.assert_close(cached, live, atol=TOLERANCE, rtol=TOLERANCE)
    assert weights.second_passes == 2
    first = {event["arm"]: event["loss"] for event in run.metrics.read() if event["step"] == 1}
    assert first["cached"] == pytest.approx(first["cal"], rel=1e-5)
    assert first["mle"] != pytest.approx(first["cal"], rel=1e-2)


def test_a_recipe_is_refused_before_its_first_stage_is_trained(tmp_path, start, monkeypatch):
    file = score_records(tmp_path, start)
    monkeypatch.setattr(steps, "load_model", lambda *_: pytest.fail("a model was loaded"))
    stages = {"it": {"cal": False}, "last": {**STAGE, "cal": True, "data": {"template": "plain"}}}
    recipe = recipe_of(tmp_path, start, stages=stages, cal={"scores": str(file.path), "contrast": "mask"})
    with pytest.raises(RecipeError) as refused:
        run_plan(recipe, {})
    assert str(refused.value).startswith("arms.cal.scores: stages.last: score file")
    assert "template was 'chat', is 'plain'; contrast was 'drop', is 'mask'" in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_recipe_with_a_file_that_is_not_there_is_refused(tmp_path, start):
    with pytest.raises(RecipeError, match=r"arms.cal.scores: stages.it: score file 'gone' is not there"):
        check_files_of(recipe_of(tmp_path, start, arms={"mle": None, "cal": {"scores": "gone"}}))


def test_a_recipe_with_other_swaps_than_the_file_is_refused(tmp_path, start):
    about = {"swap_noise": 0.0, "noise_seed": None}
    file = score_records(tmp_path, start, about=about, contrast=DropImage())
    changes = {"data": {"swap_noise": 0.5}, "arms": {"cal": {"scores": str(file.path)}, "mle": None}}
    with pytest.raises(RecipeError, match=r"swap_noise was 0.0, is 0.5; noise_seed was None, is 0"):
        check_files_of(recipe_of(tmp_path, start, **changes))
    check_files_of(recipe_of(tmp_path, start, arms=changes["arms"]))


@pytest.mark.parametrize(
    ("settings", "column"),
    [
        ({"weighting": "prior"}, "nll_without"),
        ({"weighting": "vig", "options": {"keep": 0.5}}, "delta_logprob"),
        ({"weighting": "tpo"}, "delta_logit"),
        ({"weighting": "quantile", "score": "logprob"}, "delta_logprob"),
    ],
)
def test_every_weighting_finds_its_column_and_weighs_as_live(settings, column, world, tmp_path):
    model, collator, file = world
    config = CalConfig(**settings, scores=str(file.path))
    attached = with_cached_scores(config, collator, load_samples(SAMPLES))
    assert attached.scores.column == column
    live = ContrastiveAlignment(model, CalConfig(**settings))(collator(SAMPLES))
    cached = ContrastiveAlignment(model, config)(attached(SAMPLES))
    pictured = live.valid & live.has_image.unsqueeze(1)
    assert live.delta[pictured].std() > 0.3
    torch.testing.assert_close(cached.weights, live.weights, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(cached.delta.double(), live.delta, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(cached.loss, live.loss, atol=TOLERANCE, rtol=TOLERANCE)


def test_centred_delta_is_scored_and_read(world, tmp_path):
    model, collator, _ = world
    file = scored(tmp_path / "c.parquet", model, collator, SAMPLES, "centred", scores=("centred",))
    assert file.token_columns == ("position", "label", "delta_centred", "nll")
    config = CalConfig(score="centred", scores=str(file.path))
    live = ContrastiveAlignment(model, CalConfig(score="centred"))(collator(SAMPLES))
    cached = ContrastiveAlignment(model, config)(with_cached_scores(config, collator, None)(SAMPLES))
    assert live.weights[live.valid].std() > 0.3
    torch.testing.assert_close(cached.weights, live.weights, atol=TOLERANCE, rtol=TOLERANCE)


def test_rho1_compares_with_the_model_that_scored_and_is_evaluated_as_mle(world, tmp_path):
    model, collator, _ = world
    reference = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    # How the second look of the file was made does not matter: only its first is read.
    file = scored(tmp_path / "r.parquet", reference, collator, SAMPLES, scores=("logit",), contrast=MaskImage())
    config = CalConfig(weighting="rho1", options={"keep": 0.4}, scores=str(file.path))
    attached = with_cached_scores(config, collator, load_samples(SAMPLES))
    out = ContrastiveAlignment(model, config)(attached(SAMPLES))
    other = ContrastiveAlignment(reference, CalConfig(weighting="uniform"))(collator(SAMPLES))
    pictured = out.valid & out.has_image.unsqueeze(1)
    excess = (out.nll - other.nll)[pictured]
    assert excess.std() > 0.1
    kept = out.weights[pictured] == 1
    assert excess[kept].min() >= excess[~kept].max()
    assert int(kept.sum()) == -(-4 * int(pictured.sum()) // 10)

    trainer = trainer_of(world, tmp_path, cal=config, eval_dataset=load_samples(SAMPLES[:4]))
    trainer.train()
    assert 0.3 < trainer.state.log_history[0]["weight_mean"] < 0.8
    evaluated = trainer.evaluate()
    assert evaluated["eval_loss"] == pytest.approx(evaluated["eval_nll"], rel=1e-5)
    assert evaluated["eval_weight_mean"] == 1


def test_a_column_that_the_file_has_not_is_named(world, tmp_path):
    model, collator, _ = world
    file = scored(tmp_path / "l.parquet", model, collator, SAMPLES[:2], scores=("logit",))
    with pytest.raises(ScoreMismatch, match="it holds delta_logit, nll, not nll_without"):
        with_cached_scores(CalConfig(weighting="prior", scores=str(file.path)), collator, None)
    given = collator.with_scores(file)
    with pytest.raises(ValueError, match=r"the collator brings delta_logit of .*, and CalConfig reads nll of"):
        with_cached_scores(CalConfig(weighting="rho1", scores=str(file.path)), given, None)
