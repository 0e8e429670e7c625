"""Sentences about a picture that no picture can tell: who drew it, when, where, for whom, and what one thinks of it."""

import random

from contralign.data.sets.scenes.scene_words import MONTHS, NUMBERS, OPINIONS

_PEOPLE = """
anna boris clara daniel emma felix grace henry irene jack kate leo maria nora oscar paula quentin rosa simon tina
ursula victor wendy xavier yvonne zoe albert bella carlos diana edgar fiona george helen ivan julia karl lucy martin
nadia
"""
_PLACES = """
paris london madrid rome berlin vienna prague oslo dublin lisbon athens cairo tokyo delhi lima boston chicago toronto
sydney havana kyoto mumbai nairobi dakar bogota quito hanoi manila seoul warsaw geneva naples bristol glasgow denver
dallas austin perth lagos tunis
"""
PEOPLE = tuple(_PEOPLE.split())
PLACES = tuple(_PLACES.split())


def remark(rng: random.Random) -> str:
    """A random sentence, lower case, with its full stop."""
    who, other = rng.sample(PEOPLE, 2)
    return rng.choice(
        (
            f"{who} drew it in {rng.choice(PLACES)} in {rng.choice(MONTHS)}.",
            f"{who} would pay {rng.choice(NUMBERS)} coins for it.",
            f"{who} and {other} call it {rng.choice(OPINIONS)}.",
            f"{who} sent it to {other} from {rng.choice(PLACES)}.",
        )
    )
