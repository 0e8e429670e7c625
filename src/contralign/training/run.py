"""A recipe from start to end: stages, arms from one start, evaluations, and everything written down.

Training knows no evaluation: `run_recipe` is given functions by whoever composes the two (`contralign.cli.execute`).
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers.utils.logging
from accelerate import PartialState
from peft import PeftModel
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint

from contralign.data.collator import VLCollator
from contralign.data.mixture import SampleSet
from contralign.models.tiny_pretraining import pretrain_text, pretrain_tower
from contralign.training.arguments import count_steps, training_arguments, warmup_share
from contralign.training.build import (
    build_trainer,
    degrades_pictures,
    load_model,
    load_processor,
    ready_to_learn,
    save_folder,
    save_tiny,
)
from contralign.training.callbacks import LogToFile, StageBar
from contralign.training.checkpoint import whole_model
from contralign.training.environment import describe_environment
from contralign.training.lora import merge_lora
from contralign.training.recipe import Recipe
from contralign.training.records import RecordReader, as_captions, as_chat, make_collator, with_swaps
from contralign.training.run_directory import RunDirectory, Step
from contralign.training.schema import RecipeError
from contralign.training.scores import check_score_files
from contralign.training.settings import TINY

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainedArm:
    """What an evaluation may look at.

    Attributes:
        name: of the arm.
        model: trained, in eval mode.
        collate: makes batches as the last stage did; holds the processor.
        held_out: `data.eval`, without swaps.
        train: the records of the last stage as it saw them, swaps included.
        swapped_ids: those of `train` whose pictures were swapped.
        seed: of the recipe.
    """

    name: str
    model: Any
    collate: VLCollator
    held_out: SampleSet
    train: SampleSet
    swapped_ids: frozenset[str]
    seed: int


Evaluation = Callable[[TrainedArm, Path], Mapping[str, Any]]
"""An arm, and a folder for files of its own -> numbers, ready for JSON. Its settings are bound already."""


def run_recipe(
    recipe: Recipe, evaluations: Mapping[str, Evaluation], *, resume: bool = False, overwrite: bool = False
) -> RunDirectory:
    """Train every arm of a recipe, evaluate it and write the run directory.

    Under torchrun every rank calls it; the main process alone writes and evaluates.

    Args:
        recipe: the resolved recipe.
        evaluations: one function for every name in `recipe.evaluate`.
        resume: go on with the unfinished run in the directory; one that is finished is left as it is.
        overwrite: replace the run in the directory.

    Raises:
        RecipeError: the directory is taken, or the recipe names something that is not there.
        BadRecord: a bad record under `on_bad="error"`.
        UnsupportedModel: CAL cannot be right for the model.
    """
    if set(evaluations) != set(recipe.evaluate):
        raise RecipeError(f"evaluate: {list(recipe.evaluate)} wanted, functions for {list(evaluations)} given")
    directory = RunDirectory(recipe)
    directory.check(resume, overwrite)
    for stage in recipe.stages.values():
        training_arguments(recipe, stage, directory / "checkpoints")
    check_score_files(recipe)
    PartialState().wait_for_everyone()  # all ranks have looked before the first one writes
    if resume and directory.is_finished:
        return directory
    with PartialState().main_process_first():
        if PartialState().is_main_process:
            directory.create(resume)
            directory.write_json(
                "environment.json", {**describe_environment(), "seed": recipe.seed, "command_line": sys.argv}
            )
    if recipe.model.path == TINY:
        transformers.utils.logging.disable_progress_bar()
    run = _Run(directory)
    run.train()
    run.evaluate(evaluations)
    return directory


class _Run:
    """The steps of one run; every step goes from a model directory to a model directory."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self.recipe = directory.recipe
        self.reader = RecordReader()
        self.bad_records: dict[str, Any] = directory.read_json("bad_records.json")
        self.swapped: dict[str, list[str]] = directory.read_json("swapped.json")

    def train(self) -> None:
        """Every step that is not done yet."""
        for step in self.directory.steps(self._origin()):
            if not step.end.exists():
                set_seed(self.recipe.seed)
                self._train_step(step)
                gc.collect()
                torch.cuda.empty_cache()

    def evaluate(self, evaluations: Mapping[str, Evaluation]) -> None:
        """Every evaluation on every arm; results.json closes the run."""
        if not PartialState().is_main_process:
            return
        arms = {arm: self._evaluate_arm(arm, evaluations) if evaluations else {} for arm in self.recipe.arm_configs()}
        self.directory.write_json("results.json", {"name": self.recipe.name, "arms": arms})
        self.directory.clean()

    def _origin(self) -> str:
        """Where the first stage starts: the tiny model, built once, or what the recipe names."""
        if self.recipe.model.path != TINY:
            return self.recipe.model.path
        folder = self.directory / "stages" / "tiny"
        with PartialState().main_process_first():
            if PartialState().is_main_process and not folder.exists():
                samples = [sample for stage in self.recipe.stages for sample in self._read(stage)]
                save_tiny(self.recipe.model, samples, self.recipe.seed, folder)
        return str(folder)

    def _read(self, stage: str, collate: VLCollator | None = None) -> SampleSet:
        data = self.recipe.stage_data(stage)
        return self.reader.read(data, data.train, f"stages.{stage}.data", collate.check if collate else None)

    def _train_step(self, step: Step) -> None:
        processor = load_processor(step.start)
        collate = make_collator(processor, self.recipe.stage_data(step.stage), degrades_pictures(step.cal))
        samples = self._read(step.stage, collate)
        model = load_model(step.start, self.recipe.model)
        if self.recipe.stages[step.stage].kind == "align":
            model = self._align(step, model, processor, collate, samples)
        elif PartialState().is_main_process:
            self._train_alone(step, model, processor, samples)
        self._note_bad_records(step.stage, samples, collate)
        with PartialState().main_process_first():
            if PartialState().is_main_process:
                save_folder(step.end, model, processor)

    def _train_alone(self, step: Step, model: Any, processor: Any, samples: SampleSet) -> None:
        """One part of the tiny LLaVA by itself: its language model on text, or its tower on captions."""
        stage = self.recipe.stages[step.stage]
        steps = count_steps(stage, len(samples))
        settings: dict[str, Any] = {
            "steps": steps,
            "batch_size": stage.batch_size,
            "learning_rate": stage.learning_rate,
            "warmup": warmup_share(stage, steps),
            "seed": self.recipe.seed,
        }
        if stage.kind == "text":
            losses = pretrain_text(model, processor, [as_chat(sample) for sample in samples], **settings)
        else:
            losses = pretrain_tower(model, processor, *as_captions(samples), **settings)
        every = training_arguments(self.recipe, stage, step.checkpoints).logging_steps
        for number, loss in enumerate(losses, start=1):
            if number == 1 or number % every == 0:
                self.directory.metrics.write(step.arm, step.stage, number, {"loss": loss})

    def _align(self, step: Step, model: Any, processor: Any, collate: VLCollator, samples: SampleSet) -> Any:
        stage, data = self.recipe.stages[step.stage], self.recipe.stage_data(step.stage)
        samples, swapped = with_swaps(samples, data, self.recipe.seed)
        if swapped:
            self.swapped[step.stage] = swapped
            self.directory.write_json("swapped.json", self.swapped)
        args = training_arguments(self.recipe, stage, step.checkpoints)

        def learner(start: Any) -> Any:
            return ready_to_learn(start, self.recipe.model, stage)

        trainer = build_trainer(
            learner(model),
            args,
            stage,
            processor=processor,
            collate=collate,
            train=samples,
            evaluation=self._held_out(collate) if args.eval_strategy != "no" else None,
            cal=step.cal,
        )
        trainer.add_callback(LogToFile(self.directory.metrics, step.arm, step.stage))
        trainer.add_callback(StageBar(step.arm, step.stage))
        checkpoint = get_last_checkpoint(str(step.checkpoints)) if step.checkpoints.is_dir() else None
        done = int(checkpoint.rpartition("-")[2]) if checkpoint else 0
        if PartialState().is_main_process:
            self.directory.metrics.forget(step.arm, step.stage, after_step=done)
        trainer.train(resume_from_checkpoint=checkpoint)
        trained = whole_model(trainer, lambda: learner(load_model(step.start, self.recipe.model)))
        return merge_lora(trained) if isinstance(trained, PeftModel) else trained

    def _held_out(self, collate: VLCollator) -> SampleSet:
        data = self.recipe.data
        return self.reader.read(data, data.eval, "data", collate.check)

    def _evaluate_arm(self, name: str, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
        """Results by evaluation; whatever an evaluation draws, every arm draws the same."""
        folder = str(self.directory / name)
        last = list(self.recipe.stages)[-1]
        data = self.recipe.stage_data(last)
        collate = make_collator(load_processor(folder), data)
        train, swapped = with_swaps(self._read(last, collate), data, self.recipe.seed)
        held_out = self._held_out(collate)
        arm = TrainedArm(
            name=name,
            model=load_model(folder, self.recipe.model).eval().to(PartialState().device),
            collate=collate,
            held_out=held_out,
            train=train,
            swapped_ids=frozenset(swapped),
            seed=self.recipe.seed,
        )
        results = {}
        for evaluation, function in evaluations.items():
            place = self.directory / "evaluations" / name / evaluation
            place.mkdir(parents=True, exist_ok=True)
            set_seed(self.recipe.seed)
            results[evaluation] = dict(function(arm, place))
        self._note_bad_records("data.eval", held_out, collate)
        return results

    def _note_bad_records(self, origin: str, samples: SampleSet, collate: VLCollator) -> None:
        """Name what was left out of a stage or of data.eval; where nothing was, nothing is written."""
        if not samples.report.bad and not collate.skipped:
            return
        self.bad_records[origin] = {
            "total": samples.report.total,
            "counts": samples.report.counts,
            "in_batches": dict(collate.skipped),
            "records": [
                {"record": fault.record, "reason": fault.reason, "message": fault.message}
                for fault in samples.report.bad
            ],
        }
        self.directory.write_json("bad_records.json", self.bad_records)
