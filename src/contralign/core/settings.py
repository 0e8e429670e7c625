"""Choices, ranges and options of what weights are made of, without torch: recipes are checked by these too."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

Score = Literal["logit", "centred", "logprob"]
"""What Δ is a difference of; see `contralign.core.delta.token_scores`."""

Form = Literal["exact", "paper", "released"]
"""How the loss is pooled and normalised; see `contralign.core.loss.token_coefficients`."""


def check_clamp(alpha: float, beta: float, window: int) -> None:
    """Refuse a clamp or a window that means nothing.

    Raises:
        ValueError: α is negative, β is below α, β is 0, either is NaN, α is infinite, or the window is not a positive
            odd integer.
    """
    if not (0 <= alpha < math.inf):
        raise ValueError(f"alpha={alpha}: wanted a finite number, 0 or more (paper, section 2.3)")
    if not beta >= alpha:
        raise ValueError(f"beta={beta}: wanted alpha ({alpha}) or more, up to infinity")
    if beta == 0:
        raise ValueError(f"beta={beta}: every weight would be 0 and nothing would be learnt; wanted more than 0")
    if isinstance(window, bool) or not isinstance(window, int) or window < 1 or window % 2 == 0:
        raise ValueError(f"window={window!r}: wanted a positive odd integer (1 is no pooling)")


def check_form(form: str) -> None:
    """Refuse an unknown form of the loss.

    Raises:
        ValueError: `form` is none of exact, paper, released.
    """
    if form not in get_args(Form):
        raise ValueError(f"form={form!r}: wanted one of {', '.join(get_args(Form))}")


def check_score(score: str) -> None:
    """Refuse an unknown score.

    Raises:
        ValueError: `score` is none of logit, centred, logprob.
    """
    if score not in get_args(Score):
        raise ValueError(f"score={score!r}: wanted one of {', '.join(get_args(Score))}")


class Options(Mapping[str, Any]):
    """A mapping that cannot be changed: hashable where its values are, equal to any mapping with the same items.

    Args:
        items: copied; lists become tuples.
    """

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items = {key: tuple(value) if isinstance(value, list) else value for key, value in (items or {}).items()}

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)
