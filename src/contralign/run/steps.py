"""The single steps of a recipe: each trains from a model directory to a model directory; the ends are evaluated.

What has to be done, and where models lie, is the caller's business: `run_plan` does one recipe, an ablation the steps
of many. Training knows no evaluation: whoever composes the two hands in functions.
"""

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import set_seed

from contralign.checkpoints.manifest import last_whole_checkpoint
from contralign.checkpoints.resumable_sampler import SKIPPED_FOLDER
from contralign.checkpoints.resuming_trainer import gather_model
from contralign.checkpoints.run_errors import Stopped
from contralign.checkpoints.stopping import StopCallback, StopRequest
from contralign.data.batches.collator import VLCollator
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.mixture import SampleSet
from contralign.data.records.skipped_records import SkippedRecords
from contralign.data.streams.streaming import StreamedSamples
from contralign.models.small.tiny_pretraining import pretrain_text, pretrain_tower
from contralign.recipe.plan import RunPlan, StagePlan
from contralign.run.arguments import count_steps, training_arguments, warmup_share
from contralign.run.build import (
    as_trained,
    build_trainer,
    degrades_pictures,
    load_model,
    load_processor,
    ready_to_learn,
    save_folder,
)
from contralign.run.callbacks import LogToFile, StageBar
from contralign.run.learning.lora import finished_model
from contralign.run.records import AnySamples, RecordReader, as_captions, as_chat, make_collator, with_swaps
from contralign.run.run_directory import RunNotes, Step
from contralign.run.start_model import save_start
from contralign.run.start_scores import with_start_scores

MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Settings of the Trainer, and what they compute in."""

SCORES_FILE = "scores.parquet"
"""Beside the checkpoints of a stage with `scores: start`."""


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
    train: AnySamples
    swapped_ids: frozenset[str]
    seed: int


Evaluation = Callable[[TrainedArm, Path], Mapping[str, Any]]
"""An arm, and a folder for files of its own -> numbers, ready for JSON. Its settings are bound already."""


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """What a step of a run took.

    Attributes:
        steps: optimizer steps.
        seconds: that they took, without reading records, loading and saving; see `clock`.
    """

    steps: int
    seconds: float


def clock() -> float:
    """Seconds for taking differences: of this process's processors, or wall-clock where an accelerator does the work.

    What shares the machine makes a process wait, and hardly makes it compute more.
    """
    return time.perf_counter() if torch.accelerator.is_available() else time.process_time()


class StepRunner:
    """Does the single steps of a recipe, each from a model directory to a model directory, and evaluates their ends.

    Args:
        plan: of the recipe.
        notes: what is written down beside the models.
        reader: of records; several runners may share one.
        stop: what the outside has asked for; None is never asked.
    """

    def __init__(
        self, plan: RunPlan, notes: RunNotes, reader: RecordReader | None = None, stop: StopRequest | None = None
    ) -> None:
        self.plan = plan
        self.recipe = plan.recipe
        self.notes = notes
        self.reader = RecordReader() if reader is None else reader
        self.stop = StopRequest() if stop is None else stop

    def make_start(self, folder: Path) -> None:
        """Make the start model of the recipe; the texts of its stages are read where a tokenizer learns from them."""
        stages = self.plan.tokenizer_stages if self.recipe.model.learns_tokenizer else ()
        samples = [sample for stage in stages for sample in self._read(self.plan.stages[stage])]
        save_start(self.recipe.model, samples, self.recipe.seed, folder)

    def train(self, step: Step) -> StepTime:
        """Train one step, from its last whole checkpoint if it has one, and save what came of it; every rank calls it.

        Raises:
            BadRecord: a bad record under `on_bad="error"`.
            UnsupportedModel: CAL cannot be right for the model.
            RunError: see `contralign.checkpoints.run_errors`.
        """
        set_seed(self.recipe.seed)
        took = self._train(step)
        gc.collect()
        torch.cuda.empty_cache()
        return took

    def evaluate(
        self, name: str, model: str | Path, evaluations: Mapping[str, Evaluation], place: Path
    ) -> dict[str, Any]:
        """Results by evaluation; whatever an evaluation draws, every arm draws the same. The main process calls it.

        A recipe that trains in bfloat16 (or float16) is evaluated in it.

        Args:
            name: of the arm.
            model: its directory.
            evaluations: functions by name.
            place: each gets a folder for files of its own in it.
        """
        folder = str(model)
        last = list(self.plan.stages.values())[-1]
        collate = make_collator(load_processor(folder), last.data)
        train, swapped = with_swaps(self._read(last, collate), last.data, self.recipe.seed)
        held_out = self._held_out(collate)
        arm = TrainedArm(
            name=name,
            model=load_model(folder, replace(self.recipe.model, quantization="none")).eval().to(PartialState().device),
            collate=collate,
            held_out=held_out,
            train=train,
            swapped_ids=frozenset(swapped),
            seed=self.recipe.seed,
        )
        results = {}
        for evaluation, function in evaluations.items():
            (place / evaluation).mkdir(parents=True, exist_ok=True)
            set_seed(self.recipe.seed)
            with self._arithmetic():
                results[evaluation] = dict(function(arm, place / evaluation))
        self._note_bad_records("data.eval", held_out, collate.skipped_records.values())
        return results

    def _arithmetic(self) -> torch.autocast:
        """Mixed precision as the Trainer has it."""
        mixed = {name: dtype for name, dtype in MIXED.items() if self.recipe.trainer.get(name)}
        dtype = next(iter(mixed.values()), torch.bfloat16)
        device = PartialState().device or torch.device("cpu")
        return torch.autocast(device.type, dtype=dtype, enabled=bool(mixed))

    def _read(self, stage: StagePlan, collate: VLCollator | None = None) -> AnySamples:
        data, path = stage.data, f"stages.{stage.name}.data"
        if data.streaming:
            return self.reader.stream(data, passes=None if collate else 1)
        return (
            self.reader.read_for(collate, data, data.train, path)
            if collate
            else self.reader.read(data, data.train, path)
        )

    def _train(self, step: Step) -> StepTime:
        processor = load_processor(step.start)
        collate = make_collator(processor, step.stage.data, degrades_pictures(step.cal))
        samples = self._read(step.stage, collate)
        model = load_model(step.start, self.recipe.model)
        took = StepTime(steps=0, seconds=0.0)
        if step.stage.settings.kind == "align":
            model, took = self._align(step, model, processor, collate, samples)
        elif PartialState().is_main_process:
            took = self._train_alone(step, model, processor, samples)
        in_batches = (
            ()
            if isinstance(samples, StreamedSamples)
            else SkippedRecords(step.checkpoints / SKIPPED_FOLDER).report().bad
        )
        self._note_bad_records(step.stage.name, samples, in_batches)
        with PartialState().main_process_first():
            if PartialState().is_main_process:
                save_folder(step.end, model, as_trained(processor, collate.image_aspect))
        return took

    def _train_alone(self, step: Step, model: Any, processor: Any, samples: AnySamples) -> StepTime:
        """One part of the tiny LLaVA by itself: its language model on text, or its tower on captions."""
        stage = step.stage.settings
        assert isinstance(samples, SampleSet)  # a stage of this kind that streams is refused
        steps = count_steps(stage, len(samples))
        settings: dict[str, Any] = {
            "steps": steps,
            "batch_size": stage.batch_size,
            "learning_rate": stage.learning_rate,
            "warmup": warmup_share(stage, steps),
            "seed": self.recipe.seed,
        }
        begun = clock()
        if stage.kind == "text":
            losses = pretrain_text(model, processor, [as_chat(sample) for sample in samples], **settings)
        else:
            losses = pretrain_tower(model, processor, *as_captions(samples), **settings)
        took = StepTime(steps=steps, seconds=clock() - begun)
        every = training_arguments(self.plan, step.stage, step.checkpoints).logging_steps
        self.notes.metrics.forget(step.arm, step.stage.name, after_step=0)
        for number, loss in enumerate(losses, start=1):
            if number == 1 or number % every == 0:
                self.notes.metrics.write(step.arm, step.stage.name, number, {"loss": loss})
        return took

    def _align(
        self, step: Step, model: Any, processor: Any, collate: VLCollator, samples: AnySamples
    ) -> tuple[Any, StepTime]:
        """The trained model, and what training took."""
        stage, name, data = step.stage.settings, step.stage.name, step.stage.data
        samples, swapped = with_swaps(samples, data, self.recipe.seed)
        if swapped:
            self.notes.swapped_in(name, swapped)
        args = training_arguments(self.plan, step.stage, step.checkpoints)
        cal = step.cal and with_start_scores(
            step.cal, step.start, self.recipe.model, samples, data, self.recipe.seed, step.checkpoints / SCORES_FILE
        )

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
            cal=cal,
            sampler=data.sampler,
        )
        trainer.add_callback(LogToFile(self.notes.metrics, step.arm, name))
        trainer.add_callback(StageBar(step.arm, name))
        trainer.add_callback(StopCallback(self.stop))
        checkpoint = last_whole_checkpoint(step.checkpoints)
        done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        if PartialState().is_main_process:
            self.notes.metrics.forget(step.arm, name, after_step=done)
        begun = clock()
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        reached, of = trainer.state.global_step, trainer.state.max_steps
        if reached < of and self.stop.signal is not None:
            place = f"step {reached} of {of} of stage {name} ({step.arm})"
            raise Stopped(f"stopped by {self.stop.signal.name} after {place}. {trainer.last_checkpoint_words()}")
        trainer.refuse_broken_weights()
        took = StepTime(steps=trainer.state.global_step - done, seconds=clock() - begun)
        trained = gather_model(trainer, lambda: learner(load_model(step.start, self.recipe.model)))
        return None if trained is None else finished_model(trained), took

    def _held_out(self, collate: VLCollator) -> SampleSet:
        data = self.recipe.data
        return self.reader.read_for(collate, data, data.eval, "data")

    def _note_bad_records(self, origin: str, samples: AnySamples, in_batches: Iterable[BadRecord]) -> None:
        """Name what was left out of a stage or of data.eval; where nothing was, nothing is written."""
        report = samples.report
        report = replace(report, bad=(*report.bad, *in_batches))
        if report.bad:
            self.notes.left_out_of(origin, report)
