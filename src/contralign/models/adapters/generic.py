"""Any Hugging Face image-text-to-text model with causal text attention, in-line image tokens and `inputs_embeds`.

Instead of knowing how a family builds the inputs of its language model, this adapter lets the model build them and
records what it hands over: embeddings, positions, and attention masks over pairs of tokens where it makes its own. What
it hands over also tells whether the model is one that can be served: cross-attention states or features injected at
deeper layers are refused, never ignored, unless a family adapter knows them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from contralign.batch import VLBatch
from contralign.core.sharding import ranks_agree
from contralign.models.adapters.adapter import (
    Adapter,
    DecoderInputs,
    PictureEncoder,
    UnsupportedModel,
    counted_positions,
)
from contralign.models.decoder.attention_mask import PAIR_MASKS, own_masks
from contralign.models.decoder.recorder import forward_replaced, recorded_arguments

_READ = frozenset({"inputs_embeds", "attention_mask", "position_ids"})
_HARMLESS = frozenset(
    {"input_ids", "use_cache", "cache_position", "past_key_values", "output_attentions", "output_hidden_states"}
    | {"return_dict", "is_causal"}
)


class GenericAdapter(Adapter):
    """A model served through what it hands to its own decoder.

    Attributes:
        makes_own_masks: True where the model always hands its decoder masks over pairs of tokens: its sliding windows
            are in them, so that image tokens may be taken out of rows of any length.
        token_input_names: arguments of its decoder that a family adapter takes care of in `record_token_inputs`.
        cross_attention_names: arguments of its decoder that only the pass with the image is given, as they are.
    """

    proven = False
    makes_own_masks: bool = False
    token_input_names: frozenset[str] = frozenset()
    cross_attention_names: frozenset[str] = frozenset()

    def __init__(self, model: PreTrainedModel, encode_pictures: PictureEncoder | None = None) -> None:
        super().__init__(model, encode_pictures)
        self.image_token_ids, self.other_token_ids = _read_token_ids(model)
        self.body: nn.Module = model.base_model
        self.decoder: nn.Module = model.get_decoder()
        self._refuse_by_structure(model)
        self._output_type: type[Any] = BaseModelOutputWithPast
        self._checked_in_line = False
        if self.makes_own_masks and self._attention in PAIR_MASKS:
            self.window = None

    def placeholder_mask(self, input_ids: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
        """True at image, video and audio tokens of the configuration."""
        return _is_one_of(input_ids, [*self.image_token_ids, *self.other_token_ids])

    def embed(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        position_ids: Int[Tensor, "*axes batch seq"] | None,
        vision_inputs: Mapping[str, Any],
    ) -> tuple[Float[Tensor, "batch seq hidden"], Int[Tensor, "*axes batch seq"]]:
        """Embeddings and positions of `decoder_inputs`."""
        read = self.decoder_inputs(input_ids, attention_mask, position_ids, vision_inputs)
        return read.embeds, read.positions

    def decoder_inputs(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        position_ids: Int[Tensor, "*axes batch seq"] | None,
        vision_inputs: Mapping[str, Any],
    ) -> DecoderInputs:
        """Record what the model hands to its decoder for these inputs.

        Raises:
            UnsupportedModel: it hands over something that a pass without the picture cannot be given.
            ValueError: parameters are sharded, and some ranks have pictures and others none.
        """
        pictured = any(isinstance(value, Tensor) and value.is_floating_point() for value in vision_inputs.values())
        if self.sharded:
            self._refuse_unlike_ranks(pictured, input_ids.device)
        given = dict(vision_inputs) if position_ids is None else {**vision_inputs, "position_ids": position_ids}
        arguments, outputs = recorded_arguments(
            self.decoder,
            lambda: self.body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **given),
        )
        self._output_type = type(outputs)
        if self.cross_attention_names and "input_ids" in arguments:
            arguments["inputs_embeds"] = self.embed_text(arguments["input_ids"])
        self._refuse_by_call(arguments)
        embeds = arguments["inputs_embeds"]
        if pictured and not self._checked_in_line:
            self._check_in_line(input_ids, embeds)
        positions = counted_positions(input_ids, arguments.get("position_ids"))
        return DecoderInputs(
            embeds=embeds,
            positions=positions.expand(*positions.shape[:-2], *input_ids.shape),
            token_inputs=self.record_token_inputs(arguments),
            cross_attention_inputs={name: arguments[name] for name in self.cross_attention_names if name in arguments},
            pair_masks=self._own_masks(arguments.get("attention_mask"), attention_mask),
        )

    def record_token_inputs(self, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
        """`VLBatch.token_inputs`, made of the decoder's arguments `token_input_names`."""
        return {}

    def encode(self, batch: VLBatch) -> VLBatch:
        """The batch with `inputs_embeds`; where they are missing its `pictures` are encoded.

        Raises:
            ValueError: no way to encode pictures was given, or the batch holds videos or sounds, which would be lost.
        """
        if batch.inputs_embeds is None and bool(_is_one_of(batch.input_ids, self.other_token_ids).any()):
            raise ValueError(
                "this contrast encodes degraded pictures, and the batch holds a video or a sound: use contrast='drop' "
                "or another that encodes nothing"
            )
        return super().encode(batch)

    def logits(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """Whatever the model's own forward does after its body: head, scale, soft-capping."""

        def body(*_: Any, **__: Any) -> Any:
            return self._output_type(last_hidden_state=hidden.unsqueeze(0))

        with forward_replaced(self.body, body):
            return self.model.forward(inputs_embeds=hidden.unsqueeze(0)).logits.squeeze(0)

    def _refuse_by_structure(self, model: PreTrainedModel) -> None:
        name, text = type(model).__name__, model.config.get_text_config()
        if getattr(model.config, "is_encoder_decoder", False) or getattr(text, "is_encoder_decoder", False):
            raise UnsupportedModel(f"{name} is an encoder-decoder; wanted causal attention over text and image tokens")
        if getattr(text, "cross_attention_layers", None) and not self.cross_attention_names:
            raise UnsupportedModel(f"{name} reads pictures by cross-attention; there are no image tokens to take out")
        if getattr(text, "use_bidirectional_attention", None) and not self.makes_own_masks:
            raise UnsupportedModel(f"{name} attends in both directions; wanted causal text attention")
        if self.body is model or self.decoder is self.body or self.decoder is model:
            raise UnsupportedModel(f"{name} keeps body, decoder and head in one module; a family adapter is needed")

    def _refuse_unlike_ranks(self, pictures: bool, device: torch.device) -> None:
        """The tower runs where there are pictures; sharded, it would wait for ever for ranks that have none."""
        if not ranks_agree(pictures, device):
            raise ValueError(
                f"this rank's batch holds {'pictures' if pictures else 'text alone'} and another rank's does not: with "
                f"sharded parameters (FSDP, DeepSpeed ZeRO-3) the vision tower of {type(self.model).__name__} must run "
                "on all ranks or none. Put a row with a picture into every batch, or train with DDP or ZeRO-2"
            )

    def _refuse_by_call(self, arguments: Mapping[str, Any]) -> None:
        name = type(self.model).__name__
        if "inputs_embeds" not in arguments:
            raise UnsupportedModel(f"{name} gives its decoder no inputs_embeds (only {sorted(arguments)})")
        accepted = _READ | _HARMLESS | self.token_input_names | self.cross_attention_names
        extra = [key for key, value in arguments.items() if key not in accepted and _holds_tensor(value)]
        if extra:
            raise UnsupportedModel(
                f"{name} gives its decoder {', '.join(sorted(extra))} besides inputs_embeds (cross-attention, features "
                "injected at deeper layers, or the like); a family adapter is needed"
            )

    def _own_masks(self, mask: Any, attention_mask: Int[Tensor, "batch seq"]) -> dict[str, Tensor] | None:
        try:
            masks = own_masks(mask, attention_mask)
        except ValueError as error:
            raise UnsupportedModel(f"{type(self.model).__name__} gives its decoder {error}") from error
        if masks is not None and self._attention not in PAIR_MASKS:
            raise UnsupportedModel(
                f"{type(self.model).__name__} makes the attention mask of its decoder itself, and attention "
                f"{self._attention!r} takes none that a second pass could be given: load the model with "
                "attn_implementation='sdpa' or 'eager'"
            )
        return masks

    def _check_in_line(self, input_ids: Tensor, embeds: Tensor) -> None:
        image_mask = self.placeholder_mask(input_ids)
        if embeds.shape[:2] != input_ids.shape:
            raise UnsupportedModel(
                f"{type(self.model).__name__} turns {tuple(input_ids.shape)} tokens into {tuple(embeds.shape[:2])}: "
                "its image tokens are not in line"
            )
        if bool(image_mask.any()):
            with torch.no_grad():
                text = self.model.get_input_embeddings()(input_ids.masked_fill(image_mask, 0))
                moved = (text - embeds)[~image_mask].abs().max()
            if not bool(moved <= 1e-3 * text.abs().max()):
                raise UnsupportedModel(
                    f"{type(self.model).__name__}: pictures change embeddings of text tokens, by {float(moved):.3g}"
                )
            self._checked_in_line = True


def _read_token_ids(model: PreTrainedModel) -> tuple[list[int], list[int]]:
    """Ids that pictures stand at, and those of videos and sounds."""
    names = ("image_token_id", "video_token_id", "audio_token_id")
    picture, *others = [getattr(model.config, name, None) for name in names]
    if not isinstance(picture, int):
        raise UnsupportedModel(
            f"{type(model).__name__} has no image_token_id in its configuration: wanted a model whose pictures stand "
            "in line with the text"
        )
    return [picture], [token for token in others if isinstance(token, int) and token != picture]


def _is_one_of(input_ids: Tensor, ids: list[int]) -> Tensor:
    return torch.isin(input_ids, torch.tensor(ids, dtype=input_ids.dtype, device=input_ids.device))


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(item) for item in value)
    return isinstance(value, Tensor)
