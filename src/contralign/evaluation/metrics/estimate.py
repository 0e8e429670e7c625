"""A number with its 95 % interval and what it was counted on."""

from dataclasses import asdict, dataclass

Z95 = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


class Measured:
    """A dataclass of numbers."""

    __slots__ = ()

    def as_dict(self) -> dict[str, float | int | None]:
        """The same as plain numbers, for JSON and tables."""
        return asdict(self)  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Measured):
    """A measured number.

    Attributes:
        value: the number; None where there was nothing to measure.
        low: lower end of the 95 % interval; None where there is no interval.
        high: upper end.
        n: how many things it was measured on.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
