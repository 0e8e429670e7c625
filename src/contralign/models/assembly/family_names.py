"""Values of the recipe key `model.family`; `architectures` says what they are, and imports transformers."""

from typing import Literal, get_args

FamilyName = Literal["llava", "llava_next", "mini_gemini", "mini_gemini_hd"]

TWO_TOWERS: tuple[FamilyName, ...] = ("mini_gemini", "mini_gemini_hd")
"""Families that look through a second, high-resolution tower."""


def check_parts(family: str, aux_tower: str | None) -> None:
    """Refuse a family that is none, and a tower more or less than it has.

    Raises:
        ValueError: with the names there are, or what to give.
    """
    if family not in get_args(FamilyName):
        raise ValueError(f"family={family!r}: wanted one of {', '.join(get_args(FamilyName))}")
    if family in TWO_TOWERS and aux_tower is None:
        raise ValueError(f"family={family!r} looks through two towers: give aux_tower")
    if family not in TWO_TOWERS and aux_tower is not None:
        raise ValueError(f"aux_tower={aux_tower!r} has no effect: {family} has one tower")
