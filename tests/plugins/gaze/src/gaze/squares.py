"""A data set: pictures of one colour, and which colour it is."""

import random

from PIL import Image

from contralign.data.records.messages import IMAGE, Sample, Turn

COLOURS = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (30, 50, 220)}


def squares(split: str, *, count: int = 8, seed: int = 0) -> list[Sample]:
    rng = random.Random(f"{split} {seed}")
    samples = []
    for number in range(count):
        colour = rng.choice(list(COLOURS))
        turns = (Turn("user", f"{IMAGE}what colour?"), Turn("assistant", f"it is {colour}"))
        picture = Image.new("RGB", (32, 32), COLOURS[colour])
        samples.append(Sample(f"{split}-{number}", turns, (picture,), source=f"squares:{split}"))
    return samples
