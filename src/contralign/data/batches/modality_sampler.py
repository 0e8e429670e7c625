"""LLaVA's order of records: batches of one modality and of about one length (spec 2.5 and 10.10).

Records are shuffled and cut into megabatches, one for each optimizer step of all ranks: `num_chunks` batches (ranks
times micro-batches) of `batch_size` records. In a megabatch records are sorted by length and distributed so that its
batches are about equally long. Only the last megabatch may mix records with and without pictures.
"""

import hashlib
from collections.abc import Iterable, Sequence

import torch

from contralign.data.records.messages import Sample


def modality_lengths(samples: Iterable[Sample]) -> list[int]:
    """Number of words of every sample, split at white space over all turns; negative without pictures.

    Image tokens do not count; a picture's marker counts as a word if white space is on both sides, as LLaVA's
    ``<image>`` does.

    Raises:
        ValueError: a sample without words, whose length of 0 has no sign.
    """
    lengths = []
    for sample in samples:
        words = sum(len(turn.text.split()) for turn in sample.turns)
        if words == 0:
            raise ValueError(f"sample {sample.id!r} has no words, so its length says no modality; leave it out")
        lengths.append(words if sample.pictures else -words)
    return lengths


def modality_length_order(
    lengths: Sequence[int],
    batch_size: int,
    num_chunks: int,
    *,
    generator: torch.Generator | None = None,
    shuffle_generator: torch.Generator | None = None,
) -> list[int]:
    """Indices of the records in the order of one epoch.

    The last megabatch of each modality, full or not, comes at the end, both joined and sorted by index. With one
    modality this is `length_order`.

    Args:
        lengths: see `modality_lengths`.
        batch_size: records of one rank and micro-batch.
        num_chunks: batches of a megabatch: ranks times micro-batches a step.
        generator: draws the order of the megabatches; None draws from torch's global state.
        shuffle_generator: draws the order in each modality; None draws from torch's global state, as the original
            always does.

    Raises:
        ValueError: no records, a length of 0, or sizes below 1.
    """
    if any(length == 0 for length in lengths):
        raise ValueError("lengths hold a 0, which says no modality: wanted words > 0 with pictures, < 0 without")
    pictured = [index for index, length in enumerate(lengths) if length > 0]
    written = [index for index, length in enumerate(lengths) if length < 0]
    if not pictured or not written:
        return length_order(lengths, batch_size, num_chunks, generator=generator)
    whole: list[list[int]] = []
    last: list[int] = []
    for indices in (pictured, written):
        own = [abs(lengths[index]) for index in indices]
        places = length_order(own, batch_size, num_chunks, generator=shuffle_generator)
        *full, rest = _cut([indices[place] for place in places], batch_size * num_chunks)
        whole += full
        last += rest
    turns = torch.randperm(len(whole), generator=generator).tolist()
    return [index for turn in turns for index in whole[turn]] + sorted(last)


def length_order(
    lengths: Sequence[int], batch_size: int, num_chunks: int, *, generator: torch.Generator | None = None
) -> list[int]:
    """Indices of the records in batches of about equal length; see `modality_length_order`.

    Raises:
        ValueError: no records, or sizes below 1.
    """
    if not lengths:
        raise ValueError("no lengths: wanted one for every record")
    if batch_size < 1 or num_chunks < 1:
        raise ValueError(f"batch_size={batch_size}, num_chunks={num_chunks}: wanted 1 or more of both")
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    order: list[int] = []
    for megabatch in _cut(shuffled, batch_size * num_chunks):
        longest_first = sorted(megabatch, key=lambda index: lengths[index], reverse=True)
        for chunk in _dealt(longest_first, lengths, num_chunks):
            order += chunk
    return order


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator seeded by a hash of both, so that seed 0, epoch 1 and seed 1, epoch 0 differ."""
    digest = hashlib.blake2b(f"{seed} {epoch}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def _cut(indices: Sequence[int], size: int) -> list[list[int]]:
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]


def _dealt(indices: Sequence[int], lengths: Sequence[int], num_chunks: int) -> list[list[int]]:
    """Chunks of equal count: each index goes to the chunk of least total length that is not full.

    If the count does not divide by `num_chunks`, chunk n takes every `num_chunks`-th index from n on.
    """
    if len(indices) % num_chunks:
        return [list(indices[start::num_chunks]) for start in range(num_chunks)]
    room = len(indices) // num_chunks
    chunks: list[list[int]] = [[] for _ in range(num_chunks)]
    totals = [0] * num_chunks
    for index in indices:
        open_chunks = [place for place in range(num_chunks) if len(chunks[place]) < room]
        lightest = min(open_chunks, key=totals.__getitem__)
        chunks[lightest].append(index)
        totals[lightest] += lengths[index]
    return chunks
