"""The tensors of a measured batch: random words around pictures, labels at the end of every row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from contralign.batch import IGNORE_INDEX
from contralign.bench.shapes import Shape


@dataclass(frozen=True, kw_only=True)
class BatchInputs:
    """What a model wants of its batches.

    Attributes:
        words: ids that text is drawn from.
        bos: id at the start of a row; None where the model has none.
        picture: ids that stand for one picture, marks around the image tokens included.
        num_marks: how many of them are no image tokens; they count as text.
        vision_inputs: tensors of the vision tower for all pictures of the batch.
        token_fields: tensors beside the ids that the model wants, as their values over `picture`; 0 elsewhere.
    """

    words: Tensor
    bos: int | None
    picture: Sequence[int]
    num_marks: int = 0
    vision_inputs: Mapping[str, Tensor]
    token_fields: Mapping[str, Sequence[int]] = field(default_factory=dict)


def make_batch(shape: Shape, inputs: BatchInputs) -> dict[str, Tensor]:
    """A collated batch: rows with a picture first, then rows of text alone, padded on the right.

    Returns:
        input_ids, labels, attention_mask, each (batch, row_tokens), and the inputs of the vision tower.

    Raises:
        ValueError: the marks around a picture leave no room for the text asked for.
    """
    question = shape.text_tokens - shape.prefix - shape.label_tokens
    if question < inputs.num_marks:
        raise ValueError(
            f"this model puts {inputs.num_marks} marks around a picture, and text_tokens={shape.text_tokens} "
            f"leaves {question} between prefix and labels: raise text_tokens or lower prefix or label_tokens"
        )
    generator = torch.Generator().manual_seed(shape.seed)

    def draw(count: int) -> list[int]:
        return inputs.words[torch.randint(len(inputs.words), (count,), generator=generator)].tolist()

    prefix = draw(shape.prefix)
    if inputs.bos is not None:
        prefix[0] = inputs.bos
    size = (shape.batch, shape.row_tokens)
    batch = {
        "input_ids": torch.zeros(size, dtype=torch.long),
        "labels": torch.full(size, IGNORE_INDEX),
        "attention_mask": torch.zeros(size, dtype=torch.long),
        **{name: torch.zeros(size, dtype=torch.long) for name in inputs.token_fields},
    }
    for row in range(shape.batch):
        pictured = row < shape.pictures
        answer = draw(shape.label_tokens)
        ids = prefix + (list(inputs.picture) if pictured else [])
        ids += draw(question - (inputs.num_marks if pictured else 0)) + answer
        batch["input_ids"][row, : len(ids)] = torch.tensor(ids)
        batch["labels"][row, len(ids) - len(answer) : len(ids)] = torch.tensor(answer)
        batch["attention_mask"][row, : len(ids)] = 1
        if pictured:
            for name, values in inputs.token_fields.items():
                batch[name][row, shape.prefix : shape.prefix + len(values)] = torch.tensor(values)
    return {**batch, **inputs.vision_inputs}
