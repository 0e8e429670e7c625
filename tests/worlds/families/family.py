"""Tiny random models of today's families, and batches of rows with pictures, videos, both, or none. Built, not loaded.

A family says how one picture looks to it; rows, padding and labels are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from worlds.small_models import spread

Row = dict[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """How a picture or a video of one family looks.

    Attributes:
        token: the id that stands for it.
        tokens: how often.
        tensors: what the tower is given of it.
        around: ids before and after.
        filled: whether those are filled by the model too.
        runs: frames that stand by themselves, each with its tokens and what is around them.
    """

    token: int
    tokens: int
    tensors: Callable[[torch.Generator], Row]
    around: tuple[Sequence[int], Sequence[int]] = ((), ())
    filled: bool = False
    runs: int = 1


@dataclass(frozen=True)
class Family:
    """A tiny model and what a batch of it is made of.

    Attributes:
        name: as people say it.
        make: the model.
        kinds: "image", and "video" where the model takes one.
        beside: ids, labels -> what the family's processor gives of every token.
        collate: lists of the tensors of every row's pictures -> those of a batch; by default one after the other.
        prefix: True where pictures and prompt come first and one answer last.
        by_row: False where a row's logits depend on padding or on the other rows of its batch.
        removed: what the model's own forward wants of the text when it is told nothing of pictures.
        across: inputs that pictures are read from by cross-attention.
        dtype: that its kernels can be run in here.
        head: factor on the head's random weights; pictures move logits by several units.
    """

    name: str
    make: Callable[[], Any]
    kinds: Mapping[str, Kind]
    beside: Callable[[list[int], list[int]], dict[str, list[int]]] = lambda ids, labels: {}
    collate: Callable[[list[list[Row]], Tensor], Row] = field(default=lambda rows, ids: one_after_another(rows))
    prefix: bool = False
    by_row: bool = True
    removed: tuple[str, ...] = ()
    across: tuple[str, ...] = ()
    dtype: torch.dtype = torch.float64
    head: float = 4.0


def built(family: Family, **changes: Any) -> Any:
    """The model with random weights so large that pictures move logits by several units."""
    torch.manual_seed(0)
    return spread(family.make(**changes), head=family.head).to(family.dtype).eval()


def one_after_another(rows: list[list[Row]]) -> Row:
    """The tensors of all pictures in reading order, by their names."""
    pictures = [picture for row in rows for picture in row]
    names = dict.fromkeys(name for picture in pictures for name in picture)
    return {name: torch.cat([picture[name] for picture in pictures if name in picture]) for name in names}


def family_rows(family: Family, rows: Sequence[Sequence[str]], seed: int = 0) -> list[tuple[list, list, list[Row]]]:
    """Ids, labels and pictures of rows told by the kinds of their pictures: [["image"], [], ["image", "image"]].

    All begin with one system prompt, but for families that read a prefix. Every answer is labelled.
    """
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> list[int]:
        return torch.randint(3, 80, (count,), generator=generator).tolist()

    made, system = [], [1, *words(2)]
    for number, kinds in enumerate(rows):
        ids, labels, pictures = ([], [], []) if family.prefix else ([*system], [-100] * 3, [])

        def look(kind: Kind, ids=ids, pictures=pictures) -> None:
            for _ in range(kind.runs):
                ids += [*kind.around[0], *[kind.token] * kind.tokens, *kind.around[1]]
            pictures.append(kind.tensors(generator))

        if family.prefix:
            for kind in kinds:
                look(family.kinds[kind])
            ids += [1, *words(4)]
            answer = words(6 + number % 3)
            labels += [-100] * len(ids) + answer
            ids += answer
        else:
            for turn in range(max(2, len(kinds))):
                if turn < len(kinds):
                    look(family.kinds[kinds[turn]])
                ids += words(2)
                labels += [-100] * (len(ids) - len(labels))
                answer = words(3 + (number + turn) % 3)
                ids += answer
                labels += answer
        tail = words(number % 2) if not family.prefix else []
        made.append(([*ids, *tail], labels + [-100] * len(tail), pictures))
    return made


def family_batch(
    family: Family,
    rows: Sequence[Sequence[str]],
    padding: str = "right",
    seed: int = 0,
    only: int | None = None,
    shown: Sequence[int] | None = None,
) -> Row:
    """A collated batch as the family's processor and a collator give it.

    Args:
        family: one of `worlds.families.registry.FAMILIES`.
        rows: kinds of the pictures of every row.
        padding: side.
        seed: of words and pictures.
        only: a single row of these, by itself and without padding.
        shown: for every row the row whose pictures it is shown; None is its own.
    """
    made = family_rows(family, rows, seed)
    if shown is not None:
        made = [(ids, labels, made[giver][2]) for (ids, labels, _), giver in zip(made, shown, strict=True)]
    made = made if only is None else made[only : only + 1]

    def padded(values: list[list[int]], fill: int) -> Tensor:
        tensors = [torch.tensor(value) for value in values]
        return pad_sequence(tensors, batch_first=True, padding_value=fill, padding_side=padding)

    batch = {
        "input_ids": padded([ids for ids, _, _ in made], 0),
        "labels": padded([labels for _, labels, _ in made], -100),
        "attention_mask": padded([[1] * len(ids) for ids, _, _ in made], 0),
    }
    beside = [family.beside(ids, labels) for ids, labels, _ in made]
    batch |= {name: padded([row[name] for row in beside], 0) for name in beside[0]}
    if any(pictures for _, _, pictures in made):
        pictured = family.collate([pictures for _, _, pictures in made], batch["input_ids"])
        batch |= {
            name: value.to(family.dtype) if value.is_floating_point() else value for name, value in pictured.items()
        }
    return batch
