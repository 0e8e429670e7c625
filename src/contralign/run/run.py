"""A recipe from start to end: stages, arms from one start, evaluations, and everything written down.

Training knows no evaluation: `run_plan` is given functions by whoever composes the two
(`contralign.cli.actions.execute`).
"""

import sys
from collections.abc import Mapping
from typing import Any

import transformers.utils.logging
from accelerate import PartialState

from contralign.checkpoints.stopping import StopRequest
from contralign.recipe.model_settings import TINY
from contralign.recipe.plan import RunPlan
from contralign.recipe.schema import RecipeError
from contralign.run.environment import describe_environment
from contralign.run.preflight import check_run
from contralign.run.run_directory import RunDirectory, RunNotes
from contralign.run.steps import Evaluation, StepRunner


def run_plan(
    plan: RunPlan, evaluations: Mapping[str, Evaluation], *, resume: bool = False, overwrite: bool = False
) -> RunDirectory:
    """Train every arm of a recipe, evaluate it and write the run directory.

    Under torchrun every rank calls it; the main process alone writes and evaluates.

    Args:
        plan: of the recipe.
        evaluations: one function for every name in its `evaluate`.
        resume: go on with the unfinished run in the directory; one that is finished is left as it is, and where there
            is none it is begun, so that the same command may be given again and again.
        overwrite: replace the run in the directory.

    Raises:
        RecipeError: the directory is taken, or the recipe names something that is not there.
        BadRecord: a bad record under `on_bad="error"`.
        UnsupportedModel: CAL cannot be right for the model.
        RunError: the run had to stop and can go on: see `contralign.checkpoints.run_errors`.
    """
    recipe, directory = plan.recipe, RunDirectory(plan)
    if set(evaluations) != set(recipe.evaluate):
        raise RecipeError(f"evaluate: {list(recipe.evaluate)} wanted, functions for {list(evaluations)} given")
    directory.check(resume, overwrite)
    arms = check_run(plan)
    PartialState().wait_for_everyone()  # all ranks have looked before the first one writes
    if resume and directory.is_finished:
        if PartialState().is_main_process:
            directory.clean()
        return directory
    with PartialState().main_process_first():
        if PartialState().is_main_process:
            directory.create(resume)
            directory.write_json(
                "environment.json", {**describe_environment(), "seed": recipe.seed, "command_line": sys.argv}
            )
    if recipe.model.learns_tokenizer:
        transformers.utils.logging.disable_progress_bar()
    stop = StopRequest()
    runner = StepRunner(plan, RunNotes(directory.path), stop=stop)
    with stop.listening():
        for step in directory.steps(arms, _origin(directory, runner)):
            if not step.end.exists():
                runner.train(step)
                stop.raise_if_requested(f"at the end of stage {step.stage.name} ({step.arm})")
        if PartialState().is_main_process:
            _evaluate_arms(directory, runner, evaluations)
    return directory


def _origin(directory: RunDirectory, runner: StepRunner) -> str:
    """Where the first stage starts: the model that the recipe names, or the one it describes, made once."""
    model = directory.recipe.model
    if not model.is_made:
        return str(model.path)
    folder = directory / "stages" / ("tiny" if model.path == TINY else "assembled")
    with PartialState().main_process_first():
        if PartialState().is_main_process and not folder.exists():
            runner.make_start(folder)
    return str(folder)


def _evaluate_arms(directory: RunDirectory, runner: StepRunner, evaluations: Mapping[str, Evaluation]) -> None:
    """Every evaluation on every arm, those of an arm kept once they are made; results.json closes the run."""
    arms: dict[str, Mapping[str, Any]] = {}
    for arm in runner.plan.arms:
        found = directory.results_of(arm) if evaluations else {}
        if found is None:
            found = runner.evaluate(arm, directory / arm, evaluations, directory / "evaluations" / arm)
            directory.keep_results(arm, found)
        arms[arm] = found
    directory.write_json("results.json", {"name": directory.recipe.name, "arms": arms})
    directory.clean()
