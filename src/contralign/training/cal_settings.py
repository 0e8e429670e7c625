"""What CAL can be told in plain values, as a recipe holds them: checked without torch, and without any weighting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contralign.contrast.registry import NONE, check_spelled_contrast, check_spelling, read_spelling
from contralign.core.settings import Form, Options, Score, check_clamp, check_form, check_score
from contralign.weighting.registry import check_name

COMMON = {"alpha": 1.0, "beta": 5.0, "window": 3, "score": "logit"}
"""Settings that several weightings have -> the value that says nothing."""
START = "start"
"""`CalSettings.scores` of a recipe: a file that the run writes itself, with the model that the stage starts from."""


@dataclass(frozen=True, kw_only=True)
class CalSettings:
    """Settings of contrastive alignment; the defaults are the paper's (section 3.1), the loss form is ours.

    `CalConfig` is the same with weighting and contrast made of it, and takes them as objects too.

    Attributes:
        weighting: how label tokens are weighed: "cal", or another name of
            `contralign.weighting.registry.WEIGHTINGS`. Alpha, beta, window and score belong to "cal" and to those that
            have settings of these names; a weighting that takes no second look has no contrast.
        options: further settings of the weighting, by name; see its class.
        alpha: lower bound of a token's weight (equation 3), 0 or more.
        beta: upper bound, `alpha` or more, up to infinity.
        window: odd width of the average pooling (equation 4); 1 is none.
        form: how the loss is pooled and normalised: "exact" over the whole optimizer step, "paper" in every sample
            (equation 5), "released" as the released code does (needs `contrast="mask"` and `score="logit"`).
        contrast: the second look: "drop" takes image tokens out, "mask" hides their keys, "patches" and "blur" degrade
            the picture and encode it again (section A.3); "shuffle" shows another row's picture and "mean" a few tokens
            of the mean picture (both ours); "none" takes no second look and every weight is 1: plain MLE through the
            same fast loss. One setting may stand behind the name: "drop:an image" (a text in the picture's place),
            "mean:4", "patches:0.7", "blur:10"; several are a mapping: {name: patches, ratio: 0.7, seed: 3}.
        score: "logit" (the paper's), "centred" or "logprob"; see `contralign.core.delta.token_scores`.
        scores: Δ, or what else the weighting reads of the second look, comes from this file, written by
            `contralign score`, and no second pass is run; `contrast` and `score` must be those of the file. Batches
            carry it as `cached_delta`, which `VLCollator` puts there. Evaluation takes it from the model all the same:
            its samples are not those that were scored. "rho1" takes from it the loss of the model that scored, and is
            evaluated as "uniform". In a recipe "start" stands for a file that the run writes itself, with the model
            that the stage starts from.
        check_views: on the first batch with a picture, compare Δ of "drop" and "mask" where a model is served by the
            generic adapter, and refuse to go on if they differ; False trusts the model.

    Raises:
        ValueError: a value out of range, a setting that would have no effect, or one that is written otherwise now.
    """

    weighting: str = "cal"
    options: Mapping[str, Any] = field(default_factory=Options)
    alpha: float = 1.0
    beta: float = 5.0
    window: int = 3
    form: Form = "exact"
    contrast: str | Mapping[str, Any] = "drop"
    score: Score = "logit"
    scores: str | None = None
    check_views: bool = True

    def __new__(cls, **settings: Any) -> CalSettings:
        """Say how a former keyword is written now, where Python would only say that it is unknown."""
        check_spelling(settings)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", Options(self.options))
        if isinstance(self.contrast, Mapping):
            object.__setattr__(self, "contrast", Options(self.contrast))
        check_clamp(self.alpha, self.beta, self.window)
        check_form(self.form)
        check_score(self.score)
        self._check_names()
        if self.contrast == NONE and self.weighting == "cal":
            self._refuse({**COMMON, "scores": None}, "with contrast='none', where every weight is 1")
        if self.form == "released":
            self._check_released()

    def _check_names(self) -> None:
        check_name(self.weighting)
        check_spelled_contrast(self.contrast)

    @property
    def contrast_name(self) -> str:
        """The contrast without its settings."""
        if not isinstance(self.contrast, str | Mapping):  # an object, which `CalConfig` takes
            return self.contrast.name
        return NONE if self.contrast == NONE else read_spelling(self.contrast)[0]

    def _refuse(self, unset: Mapping[str, Any], where: str) -> None:
        """Refuse settings that differ from the values that say nothing."""
        for setting, default in unset.items():
            if getattr(self, setting) != default:
                raise ValueError(f"{setting}={getattr(self, setting)!r} has no effect {where}: leave it out")

    def _check_released(self) -> None:
        if self.weighting != "cal":
            raise ValueError(f"form='released' with weighting={self.weighting!r}: the released code knows CAL alone")
        if self.scores is not None:
            raise ValueError("form='released' also weighs by Δ at ignored positions, which no score file holds")
        if self.contrast_name != "mask" or self.score != "logit":
            raise ValueError(
                f"form='released' with contrast={self.contrast!r} and score={self.score!r}: the released code masks "
                "the image keys and compares raw logits; use CalConfig.released()"
            )
