"""Contrast "drop": image tokens are taken out and the text keeps its positions (section A.4, last sentence).

For causal attention this equals hiding the image keys, and costs the text tokens alone.

Where a row has hardly any text before its answer, as a plain caption has, what is left of the context is a lone
beginning-of-sequence token, after which a language model expects anything at all, and Δ of the first words is huge
whether they are visual or not. A short prompt in the picture's place gives the second pass something to go by.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from contralign.batch import VLBatch
from contralign.contrast.taking_out import first_run, last_of_runs, take_out

Words = tuple[Int[Tensor, " words"], Float[Tensor, "words hidden"]]
"""Ids of a text and their embeddings."""


@dataclass(frozen=True)
class DropImage:
    """Take image tokens out of the sequence, or put a text in the place of some of them.

    What cannot change any Δ goes too; see `take_out`.

    Attributes:
        pack: lay several short rows into one, and compute once what all of them begin with; the view then needs an
            attention mask over pairs of tokens, which not every model takes.
        prompt: a text that stands, once a row, at the last positions of the row's first run of image tokens, so next
            to the text that follows the picture; None leaves nothing.
        words: gives the prompt's ids and embeddings; `contralign.reading.fitted` binds it to a model.

    Raises:
        ValueError: an empty prompt.
    """

    pack: bool = False
    prompt: str | None = None
    words: Callable[[], Words] | None = field(default=None, compare=False, repr=False)

    name: ClassVar[str] = "drop"
    reencodes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.prompt == "":
            raise ValueError("prompt='': wanted a short text such as 'an image', or None for no text at all")

    def __call__(self, batch: VLBatch) -> VLBatch:
        """A view of the text tokens; it may have no rows at all.

        Raises:
            ValueError: a prompt that is longer than the picture, or that no model has given words to.
        """
        if self.prompt is None:
            return take_out(batch, batch.image_mask, self.pack)
        if self.words is None:
            raise ValueError(f"prompt={self.prompt!r} has no token ids yet: pass the contrast through reading.fitted")
        ids, embeddings = self.words()  # also where no row has a picture: under ZeRO-3 all ranks look words up, or none
        return self._with_prompt(batch, ids, embeddings)

    def _with_prompt(
        self, batch: VLBatch, ids: Int[Tensor, " words"], embeddings: Float[Tensor, "words hidden"]
    ) -> VLBatch:
        assert batch.inputs_embeds is not None
        places = last_of_runs(batch.image_mask, len(ids)) & first_run(batch.image_mask)
        for row, (there, pictured) in enumerate(zip(places.sum(dim=1).tolist(), batch.has_image.tolist(), strict=True)):
            if pictured and there != len(ids):
                raise ValueError(
                    f"row {row}: prompt={self.prompt!r} is {len(ids)} tokens and the picture that it stands for is "
                    f"{there}: wanted a prompt of at most as many tokens as a picture"
                )
        rows = int(batch.has_image.sum())
        spoken = replace(
            batch,
            input_ids=batch.input_ids.masked_scatter(places, ids.repeat(rows)),
            inputs_embeds=batch.inputs_embeds.masked_scatter(
                places.unsqueeze(-1), embeddings.to(batch.inputs_embeds.dtype).repeat(rows, 1)
            ),
            token_inputs={name: _cleared(value, places) for name, value in batch.token_inputs.items()},
        )
        return take_out(spoken, batch.image_mask & ~places, self.pack)


def _cleared(values: Shaped[Tensor, "batch seq *parts"], places: Bool[Tensor, "batch seq"]) -> Tensor:
    """Nothing where a word stands that no picture is behind."""
    return values.masked_fill(places.view(*places.shape, *[1] * (values.dim() - 2)), 0)
