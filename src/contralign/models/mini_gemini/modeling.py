"""Mini-Gemini (arXiv 2403.18814) as transformers writes a model; modules are named as in its LLaVA (spec 4)."""

from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModel, Cache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import slice_logits_to_keep
from transformers.models.llava.modeling_llava import LlavaCausalLMOutputWithPast, LlavaModelOutputWithPast
from transformers.utils import can_return_tuple

from contralign.models.mini_gemini.configuration import MiniGeminiConfig
from contralign.models.mini_gemini.convnext import MiniGeminiAuxTower
from contralign.models.mini_gemini.patch_mining import MiniGeminiPatchMining, map_parts
from contralign.models.mini_gemini.projector import MiniGeminiMultiModalProjector


class MiniGeminiPreTrainedModel(PreTrainedModel):
    """What transformers has to know of all Mini-Gemini models."""

    config_class = MiniGeminiConfig
    config: MiniGeminiConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]  # noqa: RUF012 (as in the base class)
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def post_init(self) -> None:
        """As the base class, and then keeps of the blocks that must not be split those that this model has.

        FSDP refuses a name it cannot find (CLIP's names its text half), and a unit in each ConvNeXt block would lie
        inside the unit of its stage.
        """
        super().post_init()
        there = {type(module).__name__ for module in self.modules()} - {"ConvNextLayer"}
        self._no_split_modules = set(self._no_split_modules or ()) & there


class MiniGeminiModel(MiniGeminiPreTrainedModel):
    """Towers, patch info mining, projector and language model, without a head."""

    def __init__(self, config: MiniGeminiConfig) -> None:
        super().__init__(config)
        vision: Any = config.vision_config
        aux: Any = config.aux_config
        self.vision_tower = AutoModel.from_config(vision, trust_remote_code=False)
        self.vision_tower_aux = MiniGeminiAuxTower(aux)
        self.patch_mining = MiniGeminiPatchMining(vision.hidden_size, sum(aux.hidden_sizes))
        self.multi_modal_projector = MiniGeminiMultiModalProjector(config)
        self.language_model = AutoModel.from_config(config.text_config, trust_remote_code=False)
        self.post_init()

    @can_return_tuple
    def get_image_features(
        self, pixel_values: Tensor, pixel_values_aux: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Both towers, patch info mining, projector, and the scale where it is on.

        Args:
            pixel_values: (pictures, 3, side, side), in HD (pictures, 5, 3, side, side): crops row by row, whole last.
            pixel_values_aux: (pictures, 3, large side, large side).
            kwargs: further arguments of the CLIP tower.

        Returns:
            `last_hidden_state`, features of the CLIP tower (pictures, tokens, width), and `pooler_output`, for every
            picture the (tokens, hidden) that take the places of its image tokens. In HD the whole goes first, then the
            crops.

        Raises:
            ValueError: one of the two is missing, or they do not fit each other or the config.
        """
        slots = self._slots(pixel_values, pixel_values_aux)
        patches = self._small(slots, **kwargs)
        with _frozen(self.vision_tower_aux):
            feature_map = self.vision_tower_aux(pixel_values_aux).to(patches.device, patches.dtype)
        parts = map_parts(feature_map, self.config.image_grid)
        found = self.patch_mining(patches.flatten(0, 1), parts.flatten(0, 1)).view_as(patches)
        features = self.multi_modal_projector((patches + found).flatten(1, 2))
        if self.config.scale_image_features:
            features = features * torch.tensor(features.shape[-1] ** 0.5, dtype=features.dtype, device=features.device)
        return BaseModelOutputWithPooling(last_hidden_state=patches.flatten(1, 2), pooler_output=list(features))  # type: ignore[arg-type]

    def get_placeholder_mask(
        self, input_ids: Int[Tensor, "batch seq"], image_features: Float[Tensor, "tokens hidden"] | None = None
    ) -> Bool[Tensor, "batch seq"]:
        """True at image tokens.

        Args:
            input_ids: of the text; image tokens have the config's id.
            image_features: of all pictures, one after another; given, they are counted.

        Raises:
            ValueError: there are more image tokens than features, or fewer.
        """
        mask = input_ids == self.config.image_token_id
        if image_features is not None and int(mask.sum()) != len(image_features):
            raise ValueError(
                f"{int(mask.sum())} image tokens (a row: {mask.sum(dim=1).tolist()}) but {len(image_features)} image "
                f"features, {self.config.image_seq_length} a picture: were image tokens cut off by a maximum length?"
            )
        return mask

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_aux: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LlavaModelOutputWithPast:
        """Last hidden states of the language model.

        Args:
            input_ids: (batch, seq); or `inputs_embeds`, with image features already in place.
            pixel_values: see `get_image_features`.
            pixel_values_aux: see `get_image_features`.
            attention_mask: (batch, seq).
            position_ids: (batch, seq).
            past_key_values: keys and values of what came before.
            inputs_embeds: (batch, seq, hidden).
            mm_encoder_outputs: under "image" what `get_image_features` gave, in place of pictures.
            kwargs: further arguments of the language model.

        Raises:
            ValueError: both or none of ids and embeddings; pictures twice; features that do not fit the image tokens.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("wanted either input_ids or inputs_embeds")
        encoded: Any = (mm_encoder_outputs or {}).get("image")
        if pixel_values is not None and (encoded is not None or input_ids is None):
            raise ValueError(
                "pixel_values besides mm_encoder_outputs or inputs_embeds: give the pictures once, with input_ids or "
                "already in inputs_embeds"
            )
        if pixel_values is not None:
            encoded = self.get_image_features(pixel_values, pixel_values_aux)
        features = None if encoded is None else torch.cat(list(encoded.pooler_output))
        if input_ids is not None:
            inputs_embeds = self._embedded(input_ids, features)
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        return LlavaModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=features,
        )

    def _embedded(self, input_ids: Tensor, features: Tensor | None) -> Tensor:
        """Words looked up, features in place. Id 0 is looked up at image tokens, which need no row of their own."""
        mask = self.get_placeholder_mask(input_ids, features)
        if features is None and bool(mask.any()):
            raise ValueError(f"{int(mask.sum())} image tokens and no pixel_values: give the pictures")
        embeds = self.get_input_embeddings()(input_ids.masked_fill(mask, 0))
        if features is None:
            return embeds
        return embeds.masked_scatter(mask.unsqueeze(-1), features.to(embeds.device, embeds.dtype))

    def _slots(self, pixel_values: Tensor, pixel_values_aux: Tensor | None) -> Tensor:
        """`pixel_values` as (pictures, slots, 3, side, side): crops, then the whole."""
        grid = self.config.image_grid
        vision: Any = self.config.vision_config
        aux: Any = self.config.aux_config
        side, large = vision.image_size, aux.image_size
        slots = pixel_values.unsqueeze(1) if grid == 1 else pixel_values
        wanted = (1 if grid == 1 else grid**2 + 1, 3, side, side)
        given = None if pixel_values_aux is None else tuple(pixel_values_aux.shape)
        if tuple(slots.shape[1:]) != wanted or given != (len(slots), 3, large, large):
            raise ValueError(
                f"pixel_values {tuple(pixel_values.shape)} and pixel_values_aux {given}: wanted, of each picture, "
                f"{wanted[1:] if grid == 1 else wanted} and {(3, large, large)}; use the model's own processor"
            )
        return slots

    def _small(self, slots: Tensor, **kwargs: Any) -> Tensor:
        """Patches (pictures, slots, patches, width) with the whole first; the CLIP tower is given the crops first."""
        pictures, crops = len(slots), slots.shape[1] - 1
        rows = torch.cat([slots[:, :-1].flatten(0, 1), slots[:, -1]])
        with _frozen(self.vision_tower):
            states = self.vision_tower(rows, output_hidden_states=True, return_dict=True, **kwargs).hidden_states
        patches = states[self.config.vision_feature_layer][:, 1:]
        count = pictures * crops
        return torch.cat([patches[count:].unsqueeze(1), patches[:count].unflatten(0, (pictures, crops))], dim=1)


class MiniGeminiForConditionalGeneration(MiniGeminiPreTrainedModel, GenerationMixin):
    """A Mini-Gemini with a vocabulary head: trains, and generates."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: MiniGeminiConfig) -> None:
        super().__init__(config)
        text: Any = config.text_config
        self.model = MiniGeminiModel(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_image_features(
        self, pixel_values: Tensor, pixel_values_aux: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """See `MiniGeminiModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, pixel_values_aux, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_aux: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        mm_encoder_outputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LlavaCausalLMOutputWithPast:
        """Logits, and the loss where there are labels.

        Args:
            input_ids: see `MiniGeminiModel.forward`, as for all that is not named here.
            pixel_values: of the small pictures.
            pixel_values_aux: of the large pictures.
            attention_mask: (batch, seq).
            position_ids: (batch, seq).
            past_key_values: keys and values of what came before.
            inputs_embeds: (batch, seq, hidden).
            labels: (batch, seq), −100 where nothing is learnt.
            logits_to_keep: number of last positions with logits, 0 for all, or their indices.
            mm_encoder_outputs: pictures already encoded.
            kwargs: for the language model and the loss.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            pixel_values_aux=pixel_values_aux,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], **kwargs)
        return LlavaCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )


def _frozen(tower: nn.Module) -> Any:
    """No graph is built for a tower that does not learn."""
    learns = any(parameter.requires_grad for parameter in tower.parameters())
    return nullcontext() if learns else torch.no_grad()
