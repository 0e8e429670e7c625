"""What CAL can be told to do: one dataclass, the paper's values as defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from contralign.contrast import ContrastName
from contralign.core.delta import Score
from contralign.core.weights import Form, check_clamp, check_form
from contralign.training.options import Options
from contralign.weighting.base import Weighting
from contralign.weighting.registry import build_weighting

START = "start"
"""`CalConfig.scores` of a recipe: a file that the run writes itself, with the model that the stage starts from."""


@dataclass(frozen=True, kw_only=True)
class CalConfig:
    """Settings of contrastive alignment; the defaults are the paper's (section 3.1), the loss form is ours.

    Attributes:
        weighting: how label tokens are weighed: "cal", or a rival of `contralign.weighting.registry.WEIGHTINGS`. Alpha,
            beta, window and score belong to "cal" and to those that have settings of these names; a weighting that
            takes no second look has no contrast.
        options: further settings of the weighting, by name; see its class.
        alpha: lower bound of a token's weight (equation 3), 0 or more.
        beta: upper bound, `alpha` or more, up to infinity.
        window: odd width of the average pooling (equation 4); 1 is none.
        form: how the loss is pooled and normalised: "exact" over the whole optimizer step, "paper" in every sample
            (equation 5), "released" as the released code does (needs `contrast="mask"` and `score="logit"`).
        contrast: the second look: "drop" takes image tokens out, "mask" hides their keys, "patches" and "blur" degrade
            the picture and encode it again (section A.3); "shuffle" shows another row's picture and "mean" a few tokens
            of the mean picture (both ours); "none" takes no second look and every weight is 1: plain MLE through the
            same fast loss.
        score: "logit" (the paper's), "centred" or "logprob"; see `contralign.core.delta.token_scores`.
        patch_ratio: share of the 10 x 20 grid that `contrast="patches"` covers, in (0, 1].
        patch_fill: colour of a covered cell, RGB 0..255; None is the mean colour of CLIP's pictures.
        patch_seed: seed of the draw.
        blur_sigma: σ of `contrast="blur"` in pixels of the original picture.
        prompt: a short text that `contrast="drop"` puts in the picture's place, such as "an image", so that the first
            word of a plain caption has some context without it too; None, the paper's way, puts nothing there.
        mean_tokens: how many tokens a picture keeps under `contrast="mean"`; None is 4.
        scores: Δ, or what else the weighting reads of the second look, comes from this file, written by
            `contralign score`, and no second pass is run; `contrast` and `score` must be those of the file. Batches
            carry it as `cached_delta`, which `VLCollator` puts there. Evaluation takes it from the model all the same:
            its samples are not those that were scored. "rho1" takes from it the loss of the model that scored, and is
            evaluated as "uniform". In a recipe "start" stands for a file that the run writes itself, with the model
            that the stage starts from.
        check_views: on the first batch with a picture, compare Δ of "drop" and "mask" where a model is served by the
            generic adapter, and refuse to go on if they differ; False trusts the model.

    Raises:
        ValueError: a value out of range, or a setting that would have no effect.
    """

    weighting: str = "cal"
    options: Mapping[str, Any] = field(default_factory=Options)
    alpha: float = 1.0
    beta: float = 5.0
    window: int = 3
    form: Form = "exact"
    contrast: ContrastName = "drop"
    score: Score = "logit"
    patch_ratio: float | None = None
    patch_fill: tuple[int, int, int] | None = None
    patch_seed: int | None = None
    blur_sigma: float | None = None
    prompt: str | None = None
    mean_tokens: int | None = None
    scores: str | None = None
    check_views: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", Options(self.options))
        check_clamp(self.alpha, self.beta, self.window)
        check_form(self.form)
        if self.score not in get_args(Score):
            raise ValueError(f"score={self.score!r}: wanted one of {', '.join(get_args(Score))}")
        if self.contrast not in get_args(ContrastName):
            raise ValueError(f"contrast={self.contrast!r}: wanted one of {', '.join(get_args(ContrastName))}")
        self._refuse_settings_without_effect()
        self._check_weighting()
        if self.scores is not None and self.form == "released":
            raise ValueError("form='released' also weighs by Δ at ignored positions, which no score file holds")
        if self.form == "released" and (self.contrast != "mask" or self.score != "logit"):
            raise ValueError(
                f"form='released' with contrast={self.contrast!r} and score={self.score!r}: the released code masks "
                "the image keys and compares raw logits; use CalConfig.released()"
            )

    def _refuse_settings_without_effect(self) -> None:
        owners = {
            **{"patch_ratio": "patches", "patch_fill": "patches", "patch_seed": "patches", "blur_sigma": "blur"},
            **{"prompt": "drop", "mean_tokens": "mean"},
        }
        for setting, owner in owners.items():
            if getattr(self, setting) is not None and self.contrast != owner:
                raise ValueError(
                    f"{setting}={getattr(self, setting)} has no effect with contrast={self.contrast!r}: "
                    f"leave it out, or set contrast={owner!r}"
                )

        if self.contrast == "none" and self.weighting == "cal":
            map_settings = {"alpha": 1.0, "beta": 5.0, "window": 3, "score": "logit", "scores": None}
            for setting, default in map_settings.items():
                if getattr(self, setting) != default:
                    raise ValueError(
                        f"{setting}={getattr(self, setting)!r} has no effect with contrast='none', where every weight "
                        "is 1: leave it out"
                    )

    def _check_weighting(self) -> None:
        weighting = self.token_weighting()
        if self.form == "released" and self.weighting != "cal":
            raise ValueError(f"form='released' with weighting={self.weighting!r}: the released code knows CAL alone")
        if self.scores is not None and weighting.stored is None:
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
        if weighting.main is None and self.prompt is not None:
            raise ValueError(
                f"prompt={self.prompt!r} has no effect with weighting={self.weighting!r}, which takes no second look: "
                "leave it out"
            )
        if weighting.main is None and self.contrast not in ("drop", "none"):
            raise ValueError(
                f"contrast={self.contrast!r} has no effect with weighting={self.weighting!r}, which takes no second "
                "look: leave it out"
            )
        if weighting.main is not None and self.contrast == "none" and self.weighting != "cal":
            raise ValueError(
                f"contrast='none' with weighting={self.weighting!r}, which compares two looks: set another contrast, "
                "or weighting='uniform'"
            )

    def token_weighting(self) -> Weighting:
        """The weighting that these settings name.

        Raises:
            ValueError: see `contralign.weighting.registry.build_weighting`.
        """
        unset = {"alpha": 1.0, "beta": 5.0, "window": 3, "score": "logit"}
        common = {name: (getattr(self, name), value) for name, value in unset.items()}
        # Exact and paper are how any loss is normalised; only the released form also changes weights.
        return build_weighting(self.weighting, self.options, common | {"form": (self.form, self.form)})

    @property
    def compares(self) -> bool:
        """True where weights come of two looks, the second one live or from a score file."""
        return self.contrast != "none" and self.token_weighting().main is not None

    def without_scores(self) -> CalConfig:
        """The same read from the model alone, for samples that no file holds.

        What compares with a reference model cannot be; it becomes plain maximum likelihood.
        """
        if self.weighting == "rho1":
            return replace(self, scores=None, weighting="uniform", options={})
        return replace(self, scores=None)

    @classmethod
    def released(cls, **changes: float) -> CalConfig:
        """The arithmetic of the released code: masked image keys, flat pooling, micro-batch normaliser (spec 1.2)."""
        return cls(form="released", contrast="mask", **changes)  # type: ignore[arg-type]

    @classmethod
    def adaptive(cls, **changes: Any) -> CalConfig:
        """The best of what was compared (docs/results.md): Δ of log-probabilities, and bounds that follow the data.

        Weights run from α to β between the 25 % and 95 % quantiles of Δ, wherever these lie (`weighting="quantile"`).
        The paper's [1, 5] are bounds for raw logits of 7B models: of a small model Δ hardly reaches 1.
        """
        return cls(**{"weighting": "quantile", "score": "logprob", **changes})
