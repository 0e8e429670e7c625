"""Samples with another sample's pictures, to test whether a model looks at them.

A loss that rises without the picture shows only that captions differ from plain text. A loss that rises with a wrong
picture shows that the model looked.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from contralign.data.records.messages import Sample, open_image


def with_wrong_images(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """The samples in their order, each with the pictures of another, which differ from its own in their pixels.

    A derangement: everybody's pictures are used once, and nobody keeps their own, nor gets a copy of them. Pictures
    are exchanged among samples that have equally many. What a wrong picture shows may still agree with a word or two.

    Args:
        samples: all with pictures.
        seed: of the derangement.

    Raises:
        BadRecord: a picture that cannot be decoded.
        ValueError: a sample without a picture, or no such exchange exists: more than half of the samples with as many
            pictures share the same ones.
    """
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        if not sample.pictures:
            raise ValueError(f"sample {sample.id!r} has no picture, so it cannot have a wrong one; leave it out")
        groups[len(sample.pictures)].append(index)
    wrong = list(samples)
    rng = random.Random(f"wrong pictures {seed}")
    for count, members in sorted(groups.items()):
        digests = {index: image_digest(samples[index]) for index in members}
        for taker, giver in _exchange(members, digests, rng, count):
            wrong[taker] = replace(samples[taker], pictures=samples[giver].pictures)
    return wrong


def image_digest(sample: Sample) -> str:
    """Hash of the pixels of a sample's pictures."""
    digest = hashlib.sha256()
    for picture in map(open_image, sample.pictures):
        digest.update(f"{picture.size}".encode() + picture.tobytes())
    return digest.hexdigest()


def _exchange(
    members: list[int], digests: dict[int, str], rng: random.Random, num_pictures: int
) -> list[tuple[int, int]]:
    """Pairs (who takes, from whom). Copies stand side by side in a ring, which turns by as many as there are of one."""
    copies = Counter(digests.values())
    step = max(copies.values())
    if 2 * step > len(members):
        raise ValueError(
            f"{step} of {len(members)} samples with {num_pictures} picture(s) share the same ones: wanted samples "
            "with different pictures, at least two"
        )
    place = {digest: rng.random() for digest in sorted(copies)}
    ring = sorted(rng.sample(members, len(members)), key=lambda index: place[digests[index]])
    return list(zip(ring, ring[step:] + ring[:step], strict=True))
