"""The oracle: a model's own public forward, with its pictures and without, for every row by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from worlds.families.family import Family, Row, family_batch

from contralign import CalConfig
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.core.passes import compare_passes
from contralign.core.reference import reference_loss, reference_weights
from contralign.models.adapters.adapter import Adapter
from contralign.models.adapters.registry import adapter_for

IMAGES = (("image",), (), ("image", "image"), ("image",))
VIDEOS = (("video",), ("image",), (), ("video", "image"))

Rows = Sequence[Sequence[str]]
How = Literal["masked", "removed"]


def rows_of(family: Family) -> list[Rows]:
    """Rows with one picture, none, several; and with videos where the family takes them."""
    return [IMAGES, *([VIDEOS] if "video" in family.kinds else [])]


def tokens_of(family: Family) -> Tensor:
    """Ids that pictures and videos of a family stand at."""
    kinds = family.kinds.values()
    filled = [token for kind in kinds if kind.filled for side in kind.around for token in side]
    return torch.tensor([kind.token for kind in kinds] + filled)


def asked(inputs: Row) -> Row:
    """A batch as it goes into the model's forward for its logits."""
    return {name: value for name, value in inputs.items() if name != "labels"}


def own_logits(model: Any, inputs: Row) -> tuple[Tensor, Tensor]:
    """Logits with the pictures, and the position ids that the decoder was given or counts itself."""
    seen: list[Tensor | None] = []

    def note(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs.get("position_ids"))

    handle = model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    logits = model(**asked(inputs)).logits
    handle.remove()
    counted = torch.arange(inputs["input_ids"].shape[1]).unsqueeze(0)
    return logits, counted if seen[0] is None else seen[0]


def own_blind_logits(model: Any, family: Family, inputs: Row, positions: Tensor, how: How) -> Tensor:
    """Logits of one row without its pictures; at an image token those of the text before it.

    Args:
        model: of the family.
        family: of the row.
        inputs: one row without padding.
        positions: position ids of the forward with the pictures.
        how: image tokens stay with their keys hidden, or the text alone keeps its positions.
    """
    text = ~torch.isin(inputs["input_ids"], tokens_of(family))[0]
    if how == "masked":
        told = {name: value for name, value in asked(inputs).items() if name not in family.across}
        logits = model(**{**told, "attention_mask": text.long().unsqueeze(0), "position_ids": positions}).logits
        return logits[:, torch.where(text, torch.arange(len(text)), -1).cummax(dim=0).values.clamp(min=0)]
    kept = {name: inputs[name][:, text] for name in ("input_ids", "attention_mask", *family.removed)}
    logits = model(**kept, position_ids=positions[..., text]).logits
    return logits[:, (text.cumsum(dim=0) - 1).clamp(min=0)]


@dataclass(frozen=True)
class OwnRow:
    """One row as the model itself reads it; position t of logits predicts token t + 1.

    Attributes:
        logits: (seq - 1, vocabulary) with the pictures.
        blind: the same without.
        labels: (seq - 1,).
        pictured: True where the row has a picture.
    """

    logits: Tensor
    blind: Tensor
    labels: Tensor
    pictured: bool

    @property
    def delta(self) -> Tensor:
        """Δ of the label tokens; 0 for a row of text."""
        valid = self.labels != -100
        at = self.labels[valid].unsqueeze(-1)
        found = (self.logits[valid] - self.blind[valid]).gather(-1, at).squeeze(-1)
        return found if self.pictured else torch.zeros_like(found)


def own_rows(model: Any, family: Family, rows: Rows, how: How = "removed", padding: str = "right") -> list[OwnRow]:
    """Every row through the model's own forward, twice.

    With pictures it goes by itself, but where what a model says of a row depends on what is beside it.
    """
    batch = family_batch(family, rows, padding)
    together = None if family.by_row else own_logits(model, batch)[0]
    found = []
    for number, kinds in enumerate(rows):
        inputs = family_batch(family, rows, only=number)
        logits, positions = own_logits(model, inputs)
        if together is not None:
            logits = together[number][batch["attention_mask"][number].bool()].unsqueeze(0)
        with torch.no_grad():
            blind = own_blind_logits(model, family, inputs, positions, how)
        found.append(OwnRow(logits[0, :-1], blind[0, :-1], inputs["labels"][0, 1:], bool(kinds)))
    return found


def own_delta(model: Any, family: Family, rows: Rows, how: How = "removed", padding: str = "right") -> Tensor:
    """Δ of all label tokens in reading order."""
    with torch.no_grad():
        return torch.cat([row.delta for row in own_rows(model, family, rows, how, padding)])


def own_step(model: Any, family: Family, rows: Rows, config: CalConfig) -> tuple[Tensor, list[list[float]]]:
    """The loss of a CAL step, with its gradient, and the weights: the equations over the model's own forward."""
    found = own_rows(model, family, rows)
    width = max(len(row.labels) for row in found)
    nll, flags, delta = [], [], []
    for row in found:
        valid = row.labels != -100
        at = row.labels.masked_fill(~valid, 0).unsqueeze(-1)
        lost = -row.logits.log_softmax(dim=-1).gather(-1, at).squeeze(-1)
        nll.append(torch.nn.functional.pad(lost, (0, width - len(at))))
        flags.append([*valid.tolist(), *[False] * (width - len(at))])
        delta.append(torch.zeros(width, dtype=lost.dtype).masked_scatter(torch.tensor(flags[-1]), row.delta).tolist())
    weights = reference_weights(delta, flags, config.alpha, config.beta, config.window, config.form)
    return reference_loss(torch.stack(nll), weights, flags, config.form), weights


def our_delta(adapter: Adapter, contrast: Any, inputs: Row) -> Tensor:
    """Δ of all label tokens in reading order, as both passes find it."""
    looks = compare_passes(adapter, contrast, adapter.prepare(inputs))
    return looks.delta["logit"][looks.valid]


@dataclass(frozen=True)
class Measured:
    """Largest differences over both kinds of rows and both sides of padding.

    Attributes:
        own: logits of the pass with the picture from those of the model's own forward.
        removed: Δ of "drop" from the model's own forward on the text alone; packed rows too.
        masked: Δ of "mask" from the model's own forward with image keys hidden; None where it is refused.
        apart: Δ of "drop" from that of "mask", whether refused or not.
        spread: standard deviation of Δ over the label tokens: 0 would show nothing.
    """

    own: float
    removed: float
    masked: float | None
    apart: float
    spread: float


def measured(family: Family, model: Any) -> Measured:
    """A family's passes held against the model's own forward."""
    own, removed, masked, apart, spread = [], [], [], [], []
    for rows in rows_of(family):
        for padding in ("right", "left"):
            by_hiding, by_removing = (own_delta(model, family, rows, how, padding) for how in ("masked", "removed"))
            adapter = adapter_for(model)
            inputs = family_batch(family, rows, padding)
            told = inputs["attention_mask"].bool()
            with torch.no_grad():
                theirs = own_logits(model, inputs)[0]
                ours = adapter.logits(adapter.hidden(adapter.prepare(inputs)).flatten(0, 1)).view_as(theirs)
            own.append((ours - theirs)[told])
            dropped, packed = (
                our_delta(adapter, DropImage(pack=pack), inputs) for pack in (False, adapter.supports_packing)
            )
            hidden = our_delta(adapter, MaskImage(), inputs)
            removed += [dropped - by_removing, packed - by_removing]
            masked.append(hidden - by_hiding)
            apart.append(dropped - hidden)
            spread.append(float(dropped.std()))
    refused = "mask" not in adapter_for(model).contrasts
    return Measured(
        own=_largest(own),
        removed=_largest(removed),
        masked=None if refused else _largest(masked),
        apart=_largest(apart),
        spread=min(spread),
    )


def _largest(differences: list[Tensor]) -> float:
    return max(float(difference.abs().max()) for difference in differences)
