"""LLaVA's order of records: batches of one modality and of about one length (spec 2.5 and 10.10).

Records are shuffled and cut into megabatches, each what one optimizer step of all ranks takes: `num_chunks` batches
(ranks times micro-batches a step) of `batch_size` records. Inside of a megabatch records are sorted by length and dealt
so that its batches are about equally long. Pictures and text alone never share a megabatch, but for the last one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch

from contralign.data.records.messages import Sample


def modality_lengths(samples: Iterable[Sample]) -> list[int]:
    """Words of every sample, counted at white space over all turns; negative for one without pictures.

    A picture's features add nothing; its marker is a word where white space stands on both sides, as LLaVA's
    ``<image>`` is.

    Raises:
        ValueError: a sample without any word, which has no sign.
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
    """Indices of the records in the order in which one pass takes them.

    The last megabatch of each modality, full or not, comes at the end, both together and sorted by index. Where there
    is one modality, this is `length_order`.

    Args:
        lengths: see `modality_lengths`.
        batch_size: records of one rank and micro-batch.
        num_chunks: batches of a megabatch: ranks times micro-batches a step.
        generator: draws the order of the megabatches; None draws from torch's global state.
        shuffle_generator: draws the order inside of each modality. None draws from torch's global state, and so does
            the original, whatever generator it is given.

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
    """Indices of the records, with batches of about one length; see `modality_length_order`.

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
    """Draws that depend on nothing but these two; other epochs of other seeds do not share them."""
    digest = hashlib.blake2b(f"{seed} {epoch}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def _cut(indices: Sequence[int], size: int) -> list[list[int]]:
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]


def _dealt(indices: Sequence[int], lengths: Sequence[int], num_chunks: int) -> list[list[int]]:
    """Chunks of equal count: each index goes to the one with the least length so far that is not full.

    Where the count does not divide, every `num_chunks`-th index goes to the same chunk, whatever its length.
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
