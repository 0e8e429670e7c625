"""What CAL can be told to do: the settings of `CalSettings`, with the weighting and the contrast that they name."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from contralign.contrast.base import Contrast, check_contrast
from contralign.contrast.registry import NONE, check_spelled_contrast, contrast_named
from contralign.description import describe
from contralign.training.cal_settings import COMMON, CalSettings
from contralign.weighting.base import Weighting, check_weighting, main_reading, stored_reading
from contralign.weighting.registry import build_weighting, check_name


@dataclass(frozen=True, kw_only=True)
class CalConfig(CalSettings):
    """Settings of contrastive alignment, in names or in objects; see `CalSettings` for those that are not listed here.

    ```python
    CalConfig(weighting="quantile", options={"low": 0.25}, contrast="blur:10")
    CalConfig(weighting=Quantile(low=0.25), contrast=BlurPicture(sigma=10))
    ```

    Attributes:
        weighting: a name, or an object that follows `contralign.weighting.Weighting`. An object brings all its
            settings itself: alpha, beta, window, score and options are then left out.
        contrast: a spelling, or an object that follows `contralign.contrast.Contrast`. Every alignment works on a copy
            of its own.

    Raises:
        ValueError: a value out of range, a setting that would have no effect, or an object that lacks something.
    """

    weighting: str | Weighting = "cal"
    contrast: str | Mapping[str, Any] | Contrast = "drop"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.contrast, str | Mapping) and self.contrast != NONE:
            contrast_named(self.contrast)
        self._check_weighting()

    @classmethod
    def of(cls, settings: CalSettings) -> CalConfig:
        """The same settings, checked with the classes that they name.

        Raises:
            ValueError: see the class.
        """
        return cls(**vars(settings))

    def _check_names(self) -> None:
        if isinstance(self.weighting, str):
            check_name(self.weighting)
        else:
            check_weighting(self.weighting)
        if isinstance(self.contrast, str | Mapping):
            check_spelled_contrast(self.contrast)
        else:
            check_contrast(self.contrast)

    def _check_weighting(self) -> None:
        weighting = self.token_weighting()
        main = main_reading(weighting)
        if self.scores is not None and stored_reading(weighting) is None:
            reads = ", ".join(weighting.readings) or "nothing"
            raise ValueError(
                f"scores={self.scores!r} has no effect with weighting={self.weighting!r}, which reads {reads}, and no "
                "score file brings that: leave it out"
            )
        if "reference_nll" in weighting.readings and self.scores is None:
            raise ValueError(
                f"weighting={self.weighting!r} compares with the loss of a reference model: score the training data "
                "with that model (contralign score) and set scores=FILE; in a recipe, scores: start takes the model "
                "that the stage starts from"
            )
        if main is None and self.contrast not in ("drop", NONE):
            raise ValueError(
                f"contrast={self.contrast!r} has no effect with weighting={self.weighting!r}, which takes no second "
                "look: leave it out"
            )
        if main is not None and self.contrast == NONE and self.weighting != "cal":
            raise ValueError(
                f"contrast='none' with weighting={self.weighting!r}, which compares two looks: set another contrast, "
                "or weighting='uniform'"
            )

    def token_weighting(self) -> Weighting:
        """The weighting that these settings name, or the object itself.

        Raises:
            ValueError: see `contralign.weighting.registry.build_weighting`; also a setting beside an object.
        """
        if isinstance(self.weighting, str):
            common = {name: (getattr(self, name), unset) for name, unset in COMMON.items()}
            # Exact and paper are how any loss is normalised; only the released form also changes weights.
            return build_weighting(self.weighting, self.options, common | {"form": (self.form, self.form)})
        beside = f"beside weighting={self.weighting!r}, an object that brings its own settings"
        self._refuse({**COMMON, "options": {}}, beside)
        if getattr(self.weighting, "form", None) == "released":
            raise ValueError("weighting=Cal(form='released') is one part of the released form: CalConfig.released()")
        return self.weighting

    def second_look(self) -> Contrast | None:
        """The contrast of a live second pass, made anew or copied; None for "none" and where a score file stands in.

        What a contrast learns in one alignment no other sees.

        Raises:
            ValueError: see `contralign.contrast.registry.contrast_named`.
        """
        if self.contrast == NONE or self.scores is not None:
            return None
        if isinstance(self.contrast, str | Mapping):
            return contrast_named(self.contrast)
        return copy.deepcopy(self.contrast)

    def described(self) -> dict[str, Any]:
        """What weighting and contrast are, as JSON holds it: see `contralign.description.describe`."""
        contrast = replace(self, scores=None).second_look() if self.compares else None
        return {"weighting": describe(self.token_weighting()), "contrast": contrast and describe(contrast)}

    @property
    def compares(self) -> bool:
        """True where weights come of two looks, the second one live or from a score file."""
        return self.contrast != NONE and main_reading(self.token_weighting()) is not None

    def without_scores(self) -> CalConfig:
        """The same read from the model alone, for samples that no file holds.

        What compares with a reference model cannot be; it becomes plain maximum likelihood.
        """
        if "reference_nll" in self.token_weighting().readings:
            return replace(self, scores=None, weighting="uniform", options={}, **COMMON)
        return replace(self, scores=None)

    @classmethod
    def released(cls, **changes: float) -> CalConfig:
        """The arithmetic of the released code: masked image keys, flat pooling, micro-batch normaliser (spec 1.2)."""
        return cls(form="released", contrast="mask", **changes)  # type: ignore[arg-type]

    @classmethod
    def adaptive(cls, **changes: Any) -> CalConfig:
        """Δ of log-probabilities, and bounds that follow the data: what it brings is in docs/results.md.

        Weights run from α to β between the 25 % and 95 % quantiles of Δ, wherever these lie (`weighting="quantile"`).
        The paper's [1, 5] are bounds for raw logits of 7B models: of a small model Δ hardly reaches 1.
        """
        return cls(**{"weighting": "quantile", "score": "logprob", **changes})
