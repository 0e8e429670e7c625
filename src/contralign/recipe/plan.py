"""What a run does, decided once: every stage with its data, every arm with its settings, where the arms part.

Whatever does a run is handed a plan and looks nothing up again, in schema or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from contralign.recipe.data_settings import DataSettings
from contralign.recipe.recipe import Recipe
from contralign.recipe.schema import RecipeError
from contralign.recipe.stage_settings import Stage
from contralign.training.cal_settings import CalSettings


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage.

    Attributes:
        name: in the recipe.
        settings: its own.
        data: `data` with the differences of the stage.
    """

    name: str
    settings: Stage
    data: DataSettings

    def accumulation(self, world: int) -> int:
        """Micro-batches a step on `world` devices.

        Raises:
            RecipeError: they cannot share the stage's global batch; the message says what can.
        """
        try:
            return self.settings.accumulation(world)
        except ValueError as error:
            raise RecipeError(f"stages.{self.name}: {error}") from error

    def stream_steps(self, num_ranks: int) -> int | None:
        """Steps of `epochs` passes over a stream of `data.count` records; None for no stream, and where `steps` is set.

        Args:
            num_ranks: processes that take batches.
        """
        epochs, count = self.settings.epochs, self.data.count
        if epochs is None or not self.data.streaming or count is None:
            return None
        return math.ceil(epochs * count / (self.settings.batch_size * self.accumulation(num_ranks) * num_ranks))


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A whole run.

    Attributes:
        recipe: what it is the plan of; written down beside the results.
        stages: in order, by name.
        arms: CAL's settings of every arm, None for plain training; the one arm of a recipe without `arms` is "cal", or
            "mle" where it has no CAL.
        fork: index of the stage at which the arms part; 0 with one arm, since nothing is shared.
        output_dir: the run directory.
        tokenizer_stages: stages from whose texts the tokenizer of a tiny model learns.
    """

    recipe: Recipe
    stages: Mapping[str, StagePlan]
    arms: Mapping[str, CalSettings | None]
    fork: int
    output_dir: Path
    tokenizer_stages: tuple[str, ...]

    def with_seed(self, seed: int) -> RunPlan:
        """The same run from another seed."""
        return replace(self, recipe=replace(self.recipe, seed=seed))
