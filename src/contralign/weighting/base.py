"""What every weighting is: a frozen set of settings that says what it reads of label tokens, and weighs them by it.

A weighting is one file: a dataclass here, a line in `contralign.weighting.registry`, a test. Its settings are its
fields; those that `CalConfig` has too (alpha, beta, window, form, score) come from there, the others from
`CalConfig(options=...)`. Packages add theirs by entry points (docs/extending.md).
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contralign.core.head import upcast
from contralign.core.label_readings import COMPARED, DELTA, Reading
from contralign.core.settings import Score, check_score

Wanted = Literal[Reading, "reference_nll"]
"""A reading of the step, or the loss of a label under another model, which only a score file brings."""


@dataclass(frozen=True, kw_only=True)
class TokenReadings:
    """What is known of the label tokens of a micro-batch; arrays are shifted: position t holds the label it predicts.

    Attributes:
        readings: by name; what stands where nothing is labelled means nothing.
        valid: True at label tokens.
        has_image: True for rows with a picture.
    """

    readings: Mapping[Wanted, Float[Tensor, "batch seq"]]
    valid: Bool[Tensor, "batch seq"]
    has_image: Bool[Tensor, " batch"]

    def __getitem__(self, reading: Wanted) -> Float[Tensor, "batch seq"]:
        return upcast(self.readings[reading])

    @property
    def pictured(self) -> Bool[Tensor, "batch seq"]:
        """True at label tokens of rows with a picture: those that there is something to choose among."""
        return self.valid & self.has_image.unsqueeze(1)

    def beside_text(self, weights: Float[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
        """Weights of labels in rows with a picture; other labels keep weight 1, and what is no label gets 0."""
        return torch.where(self.pictured, weights, self.valid.to(weights.dtype))


@runtime_checkable
class Weighting(Protocol):
    """A rule from what is measured of label tokens to how much each counts; nobody has to inherit from it.

    It has to be the same from step to step: settings, and no state that a checkpoint would have to keep.
    """

    @property
    @abstractmethod
    def readings(self) -> tuple[Wanted, ...]:
        """What it weighs by; a step measures this and nothing else. Empty for a rule that reads nothing."""

    @abstractmethod
    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """Weight of every label token, without gradient.

        Returns:
            float32 (float64 stays), 0 or more; 0 where nothing is labelled. Labels of rows without a picture weigh 1
            unless the rule says otherwise.
        """


def check_weighting(weighting: Any) -> Weighting:
    """The same weighting, once it is known to follow the Protocol.

    Raises:
        ValueError: a class, or an object that lacks something; the message says what.
    """
    if isinstance(weighting, type):
        name = weighting.__name__
        raise ValueError(f"weighting={name} is a class: give an instance of it, {name}(...)")
    lacking = [] if callable(weighting) else ["__call__(tokens: TokenReadings) -> weights"]
    lacking += [] if hasattr(weighting, "readings") else ["readings, a tuple of names"]
    if lacking:
        raise ValueError(f"weighting={weighting!r} lacks {' and '.join(lacking)}: see contralign.weighting.Weighting")
    readings, known = weighting.readings, (*get_args(Reading), "reference_nll")
    if not isinstance(readings, tuple) or not set(readings) <= set(known):
        wanted = ", ".join(known)
        raise ValueError(f"weighting={weighting!r}: readings={readings!r}: wanted a tuple of some of {wanted}")
    return cast(Weighting, weighting)


def main_reading(weighting: Weighting) -> Wanted | None:
    """The reading that compares two looks, shown as `CalOutput.delta`; None for a rule that takes one look."""
    return next((reading for reading in weighting.readings if reading in COMPARED), None)


def stored_reading(weighting: Weighting) -> Wanted | None:
    """The reading that a score file can bring (`CalConfig.scores`); None where no file holds it.

    A reference's loss goes first: nothing else can bring it.
    """
    if "reference_nll" in weighting.readings:
        return "reference_nll"
    main = main_reading(weighting)
    return None if main == "kl" else main


def live_readings(weighting: Weighting, scored: bool) -> tuple[Reading, ...]:
    """What a step has to measure itself.

    Args:
        weighting: the rule.
        scored: a score file brings the reading that can be stored.
    """
    brought = stored_reading(weighting) if scored else None
    return tuple(each for each in weighting.readings if each != brought and each != "reference_nll")


def column_of(reading: Wanted) -> str:
    """The column of a score file that holds a reading: a reference's loss is the `nll` of the model that scored."""
    return "nll" if reading == "reference_nll" else reading


def delta_of(score: Score) -> Reading:
    """The reading that is Δ of a score.

    Raises:
        ValueError: unknown score.
    """
    check_score(score)
    return DELTA[score]


def check_number(name: str, value: Any, low: float, *, above: bool = False, high: float | None = None) -> None:
    """Refuse a setting that is no number in its range, both ends included.

    Args:
        name: of the setting.
        value: what came.
        low: smallest value.
        above: the smallest value itself is not allowed.
        high: largest value; None is any.

    Raises:
        ValueError: with the range.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and value < float("inf")
    if not number or not (value > low if above else value >= low) or (high is not None and value > high):
        allowed = f"above {low:g}" if above else f"{low:g} or more"
        raise ValueError(f"{name}={value!r}: wanted a number {allowed}{'' if high is None else f', up to {high:g}'}")
