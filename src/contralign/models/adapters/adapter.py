"""The adapter seam: all that the two passes must know of a model family."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from PIL import Image
from torch import Tensor

from contralign.batch import IGNORE_INDEX, VLBatch, column_indices
from contralign.core.head import Head, LinearHead, OpaqueHead
from contralign.core.sharding import Sharding, sharding_of
from contralign.models.adapters.verified import VERIFIED_MODELS
from contralign.models.decoder.attention_mask import PAIR_MASKS, decoder_mask, sliding_window
from contralign.models.decoder.last_layer import LastLayer
from contralign.models.decoder.output_head import (
    UNKNOWN,
    gathered_head,
    is_gathered_linear,
    is_plain_linear,
    logit_transform,
)

PictureEncoder = Callable[[Sequence[Image.Image]], Mapping[str, Any]]

ALL_CONTRASTS = frozenset({"drop", "mask", "shuffle", "mean", "patches", "blur"})
REMOVING_CONTRASTS = frozenset({"drop", "mean", "shuffle"})
"""Contrasts that take image tokens out of the sequence, be it of a lone row: right only where "drop" is.

They are for LLaVA; for a model behind the generic adapter the first batch has to show it. The other contrasts change
nothing but what stands at image tokens, or who attends to them.
"""
_RECURRENT = frozenset({"linear_attention", "conv", "mamba", "recurrent"})
_TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "labels", "position_ids", "pictures"})


class UnsupportedModel(ValueError):
    """A model, or a contrast on it, that would be trained wrongly; the message says why."""


@dataclass(frozen=True, kw_only=True)
class DecoderInputs:
    """What a model hands its decoder for a batch; `VLBatch` says what the parts are."""

    embeds: Float[Tensor, "batch seq hidden"]
    positions: Int[Tensor, "*axes batch seq"]
    token_inputs: Mapping[str, Shaped[Tensor, "batch seq *parts"]] = field(default_factory=dict)
    cross_attention_inputs: Mapping[str, Any] = field(default_factory=dict)
    pair_masks: Mapping[str, Bool[Tensor, "batch seq seq"]] | None = None


class Adapter(ABC):
    """A model as the two passes see it.

    A family is one subclass with three methods: `placeholder_mask`, `embed`, `logits`. Where its decoder reads more
    than embeddings and positions, it has `decoder_inputs` in the place of `embed`.

    Attributes:
        model: the bare Hugging Face model, its wrappers taken off.
        contrasts: names of the contrasts that are right for this model.
        proven: False where "drop" has to be compared with "mask" on a real batch before it is trusted.
        encode_pictures: pictures -> inputs of the vision tower; contrasts that degrade the picture need it.
    """

    contrasts: frozenset[str] = ALL_CONTRASTS
    proven: bool = True

    def __init__(self, model: Any, encode_pictures: PictureEncoder | None = None) -> None:
        self.model = model
        self.encode_pictures = encode_pictures
        self._transform: tuple[float, float | None] | None = None
        self._last_layer: LastLayer | None = None
        self._sharding: Sharding | None = None
        text = model.config.get_text_config()
        layer_types: set[str] = set(getattr(text, "layer_types", None) or ())
        self.window = sliding_window(text, layer_types)
        self._recurrent = bool(layer_types & _RECURRENT)
        if self._recurrent:
            # A masked token still moves a recurrent state, so only leaving it out is "without the picture", and there
            # is nothing that it could be compared with.
            self.contrasts, self.proven = self.contrasts - {"mask"}, True

    @abstractmethod
    def placeholder_mask(self, input_ids: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
        """True at image tokens."""

    @abstractmethod
    def embed(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        position_ids: Int[Tensor, "*axes batch seq"] | None,
        vision_inputs: Mapping[str, Any],
    ) -> tuple[Float[Tensor, "batch seq hidden"], Int[Tensor, "*axes batch seq"]]:
        """What the language model reads: embeddings, image features in place, and position ids.

        The vision tower and the projector run here and nowhere else.
        """

    def decoder_inputs(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        position_ids: Int[Tensor, "*axes batch seq"] | None,
        vision_inputs: Mapping[str, Any],
    ) -> DecoderInputs:
        """All that the decoder reads, beside and in place of what `embed` gives."""
        embeds, positions = self.embed(input_ids, attention_mask, position_ids, vision_inputs)
        return DecoderInputs(embeds=embeds, positions=positions)

    @abstractmethod
    def logits(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """The model's own final transform, soft-capping and scale included."""

    def embed_text(self, input_ids: Int[Tensor, " words"]) -> Float[Tensor, "words hidden"]:
        """What stands for these words in `inputs_embeds`: what the model's own embedding layer says.

        The scale that a Gemma keeps in that layer is in it.
        """
        return self.model.get_input_embeddings()(input_ids)

    def hidden(self, batch: VLBatch, **arguments: Any) -> Float[Tensor, "rows tokens hidden"]:
        """Last hidden states of the language model.

        Args:
            batch: with `inputs_embeds`.
            arguments: more for the decoder; see `hidden_at`.
        """
        return self.model.get_decoder()(
            inputs_embeds=batch.inputs_embeds,
            attention_mask=decoder_mask(batch, self._attention),
            position_ids=_once(batch.position_ids),
            use_cache=False,
            **self.token_arguments(batch),
            **batch.cross_attention_inputs,
            **arguments,
        ).last_hidden_state

    def token_arguments(self, batch: VLBatch) -> dict[str, Any]:
        """Arguments of the decoder for what it reads of every token beside its embedding."""
        return dict(batch.token_inputs)

    def hidden_at(self, batch: VLBatch, at: Bool[Tensor, "batch seq"]) -> Float[Tensor, "tokens hidden"]:
        """Last hidden states where `at` is True, in reading order; if it can be, the last layer runs there alone."""
        read_at = at.flatten().nonzero().squeeze(1)
        if self._last_layer is None:
            self._last_layer = LastLayer(self.model.get_decoder())
        short = {} if self.sharding == "modules" else self._last_layer.arguments(read_at)
        states = self.hidden(batch, **short)
        if short and states.shape[:2] == (1, len(read_at)):
            return states.squeeze(0)
        return states.flatten(0, 1)[read_at]

    def head(self) -> Head:
        """The vocabulary head: its matrix where that is all there is to it, else the function `logits`."""
        module = self.model.get_output_embeddings()
        gathered = self.sharded and is_gathered_linear(module)
        if gathered or (self.sharding != "modules" and is_plain_linear(module)):
            if self._transform is None:
                self._transform = logit_transform(module, self.logits, self.model.config)
            if self._transform != UNKNOWN:
                scale, cap = self._transform
                if gathered:
                    return gathered_head(module, scale, cap)
                return LinearHead(weight=module.weight, bias=module.bias, scale=scale, cap=cap)
        vocabulary = self.model.config.get_text_config().vocab_size
        return OpaqueHead(self.logits, vocabulary, whole=self.sharded)

    @property
    def sharding(self) -> Sharding:
        """How parameters are sharded; `prepare` looks again in every step, since wrappers come on when they like."""
        if self._sharding is None:
            self._sharding = sharding_of(self.model)
        return self._sharding

    @property
    def sharded(self) -> bool:
        """True where every forward gathers parameters from all ranks."""
        return self.sharding != "none"

    @property
    def supports_packing(self) -> bool:
        """True where the decoder can be given an attention mask over pairs of tokens."""
        return self._attention in PAIR_MASKS and self.window is None and not self._recurrent

    @property
    def _attention(self) -> str:
        return str(self.model.config.get_text_config()._attn_implementation)

    @property
    def verified(self) -> bool:
        """True where "drop" and "mask" were measured to be both right for models of this class (docs/models.md)."""
        return type(self.model).__name__.removeprefix("FSDP") in VERIFIED_MODELS  # fully_shard renames the class

    def check_contrast(self, name: str, num_tokens: int) -> None:
        """Refuse a contrast that this model cannot be given on rows of `num_tokens`.

        Of one that is not contralign's own nothing is known: it is let through.

        Raises:
            UnsupportedModel: with the reason and the contrasts that are right.
        """
        if name in ALL_CONTRASTS and name not in self.contrasts:
            raise UnsupportedModel(
                f"contrast={name!r} is not right for {type(self.model).__name__}; "
                f"use one of {', '.join(sorted(self.contrasts))}"
            )
        if name in REMOVING_CONTRASTS and self.window is not None and num_tokens > self.window:
            raise UnsupportedModel(
                f"contrast={name!r} on rows of {num_tokens} tokens with a sliding window of {self.window}: taking "
                "image tokens out lets the window reach further back (windows count places, not positions); use "
                "contrast='mask'"
            )

    def prepare(self, inputs: Mapping[str, Any], draw: int = 0) -> VLBatch:
        """The collated batch as the language model reads it. Position ids are made here, once, for both passes.

        Args:
            inputs: what the collator gave: input_ids, labels, attention_mask, pixel_values …
            draw: number of this batch, for contrasts that draw at random.

        Raises:
            ValueError: tensors are missing or do not fit, or the pictures do not fit the image tokens.
        """
        self._sharding = None
        given = {name: value for name, value in inputs.items() if value is not None}
        for needed in ("input_ids", "labels"):
            if needed not in given:
                raise ValueError(f"the batch holds {sorted(given)}: wanted {needed!r} too; look at the data collator")
        ids = given["input_ids"]
        attention_mask = given.get("attention_mask", torch.ones_like(ids))
        for name, value in (("labels", given["labels"]), ("attention_mask", attention_mask)):
            if value.shape != ids.shape:
                raise ValueError(f"{name} {tuple(value.shape)} and input_ids {tuple(ids.shape)}: wanted one shape")
        image_mask = self.placeholder_mask(ids)
        vision_inputs = {name: value for name, value in given.items() if name not in _TEXT_INPUTS}
        read = self.decoder_inputs(ids, attention_mask, given.get("position_ids"), vision_inputs)
        rows, columns = column_indices(ids)
        return VLBatch(
            input_ids=ids,
            attention_mask=attention_mask,
            labels=given["labels"].masked_fill(image_mask, IGNORE_INDEX),
            image_mask=image_mask,
            position_ids=read.positions,
            inputs_embeds=read.embeds,
            row_index=rows,
            token_index=columns,
            pictures=given.get("pictures"),
            vision_inputs=vision_inputs,
            draw=draw,
            token_inputs=read.token_inputs,
            cross_attention_inputs=read.cross_attention_inputs,
            pair_masks=read.pair_masks,
        )

    def encode(self, batch: VLBatch) -> VLBatch:
        """The batch with `inputs_embeds`; where they are missing its `pictures` are encoded.

        Raises:
            ValueError: no way to encode pictures was given.
        """
        if batch.inputs_embeds is not None:
            return batch
        pictures = [picture for row in batch.pictures or () for picture in row]
        vision_inputs: dict[str, Any] = {}
        if pictures:
            if self.encode_pictures is None:
                raise ValueError(
                    "this contrast encodes a degraded picture, and nothing was given to encode it with: "
                    "pass processor=... (or encode_pictures=...)"
                )
            encoded = self.encode_pictures(pictures)
            vision_inputs = {
                name: value.to(batch.input_ids.device) if isinstance(value, Tensor) else value
                for name, value in encoded.items()
            }
        read = self.decoder_inputs(batch.input_ids, batch.attention_mask, batch.position_ids, vision_inputs)
        return replace(batch, inputs_embeds=read.embeds, token_inputs=read.token_inputs, vision_inputs=vision_inputs)


def counted_positions(input_ids: Tensor, position_ids: Tensor | None) -> Tensor:
    """The given position ids, or 0, 1, 2 … as transformers' decoders count them."""
    if position_ids is not None:
        return position_ids
    return torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape[0], -1)


def _once(position_ids: Tensor | None) -> Tensor | None:
    """(1, seq) where all rows share one memory, as counted positions do: rotary embeddings then are made once."""
    if position_ids is not None and position_ids.dim() == 2 and position_ids.stride(0) == 0:
        return position_ids[:1]
    return position_ids
