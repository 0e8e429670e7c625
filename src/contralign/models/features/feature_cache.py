"""Features of a frozen vision tower, encoded once for every picture and kept.

The cache stands in the tower's own forward, so no data path knows of it. Features are found by a digest of the pixels,
so the same picture in another order, batch, stage or arm is a hit, and a degraded one is just another picture. What is
kept is the hidden state that the projector reads, with the type it had. New pictures are encoded one at a time, so
that what is kept never depends on the neighbours a picture happened to have. Kernels choose their order of addition by
the size of the batch and the place of a tensor (GPUs, MKL on some processors), so an uncached forward may differ in the
last bits.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from contralign.core.sharding import sharding_of
from contralign.models.adapters.adapter import UnsupportedModel
from contralign.models.adapters.registry import bare_model
from contralign.models.features.feature_store import FeatureStore

_HARMLESS = ("return_dict", "output_hidden_states", "output_attentions", "use_cache")


class FeatureCache:
    """The vision tower of one model, with its outputs kept in a store; nothing that is saved changes.

    Args:
        model: a Hugging Face image-text-to-text model, wrapped or not, with a `vision_tower` that takes
            `pixel_values` (pictures, channels, height, width) and a projector that reads hidden states of it, as in
            LLaVA and InternVL.
        store: where features are kept; several models may share one.

    Raises:
        UnsupportedModel: the model has no such tower, or its outputs are kept already.
    """

    def __init__(self, model: Any, store: FeatureStore) -> None:
        self.store = store
        inner = bare_model(model)
        self.tower: PreTrainedModel = _tower_of(inner)
        self.layers = _layers_of(inner)
        self._encode = type(self.tower).forward
        self._signature: tuple[Any, ...] = ()
        self._digest = b""
        self._install()

    def features(self, pixels: Float[Tensor, "pictures channels height width"]) -> list[Tensor]:
        """What is kept of every picture: (layers, places, hidden) each, read from the store or made now.

        Raises:
            UnsupportedModel: the tower learns, has dropout on, or its parameters are sharded.
        """
        self._refuse_changing_tower()
        keys = [self._key(picture) for picture in pixels]
        kept = []
        for key, picture in zip(keys, pixels, strict=True):
            found = self.store.get(key)
            if found is None:
                found = self._encoded(picture)
                self.store.put(key, found)
            kept.append(found.to(pixels.device))
        return kept

    def forward(self, pixel_values: Tensor | None = None, **settings: Any) -> BaseModelOutputWithPooling:
        """In place of the tower's own forward: the hidden states that the projector reads, and no others."""
        if pixel_values is None or pixel_values.dim() != 4 or len(pixel_values) == 0:
            came = "none" if pixel_values is None else tuple(pixel_values.shape)
            raise UnsupportedModel(
                f"features are kept by picture: wanted pixel_values (pictures, channels, height, width), got {came}"
            )
        beside = [name for name, value in settings.items() if name not in _HARMLESS and value is not None]
        if beside:
            raise UnsupportedModel(f"features are kept by picture alone; the tower was also given {', '.join(beside)}")
        kept = torch.stack(self.features(pixel_values))
        states = {layer: kept[:, index] for index, layer in enumerate(self.layers)}
        last = kept[:, -1] if -1 in self.layers else None
        return BaseModelOutputWithPooling(last_hidden_state=last, hidden_states=_LayerStates(states))  # type: ignore[arg-type]

    def _install(self) -> None:
        if "forward" in self.tower.__dict__:
            raise UnsupportedModel("the forward of this vision tower is replaced already; cache its features once")
        cache = self

        def forward(tower: nn.Module, pixel_values: Tensor | None = None, **settings: Any) -> Any:
            if tower is not cache.tower:  # of a deep copy
                return type(tower).forward(tower, pixel_values, **settings)
            return cache.forward(pixel_values, **settings)

        self.tower.forward = types.MethodType(forward, self.tower)

    def _encoded(self, picture: Tensor) -> Tensor:
        """The tower's own forward on one picture, outside inference mode: training may come across it later."""
        with torch.inference_mode(False), torch.no_grad():
            out = self._encode(self.tower, picture.unsqueeze(0).clone(), output_hidden_states=self.layers)
            states = [out.hidden_states[layer] for layer in self.layers]
            if -1 in self.layers and not torch.equal(states[self.layers.index(-1)], out.last_hidden_state):
                states.append(out.last_hidden_state)  # a norm behind the last layer: families differ in what they read
            return torch.cat(states).cpu()

    def _key(self, picture: Tensor) -> str:
        kind = picture.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        digest = hashlib.blake2b(self._tower_digest(), digest_size=20)
        digest.update(f"{picture.dtype} {tuple(picture.shape)} {kind} {autocast}".encode())
        digest.update(_bytes(picture))
        return digest.hexdigest()

    def _tower_digest(self) -> bytes:
        """Digest of all that the features depend on beside the picture; made anew where weights were changed."""
        weights = [*self.tower.parameters(), *self.tower.buffers()]
        signature = tuple((weight.data_ptr(), weight._version, weight.dtype) for weight in weights)
        if signature != self._signature:
            digest = hashlib.blake2b(digest_size=20)
            attention = self.tower.config._attn_implementation
            digest.update(f"{type(self.tower).__name__} {attention} {self.layers}".encode())
            for name, weight in self.tower.state_dict().items():
                digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
                digest.update(_bytes(weight))
            self._signature, self._digest = signature, digest.digest()
        return self._digest

    def _refuse_changing_tower(self) -> None:
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in self.tower.parameters()):
            raise UnsupportedModel(
                "the vision tower learns, so its features change: freeze it, or do not cache them "
                "(model.cache_features: false)"
            )
        config = self.tower.config.to_dict()
        noisy = [name for name, value in config.items() if "drop" in name and isinstance(value, float) and value > 0]
        if self.tower.training and noisy:
            raise UnsupportedModel(
                f"the vision tower has dropout ({', '.join(noisy)}), so its features differ from call to call: set it "
                "to 0, or do not cache them (model.cache_features: false)"
            )
        if sharding_of(self.tower) != "none":
            raise UnsupportedModel(
                "the vision tower is sharded, so all ranks must run it together, and a kept picture would leave one "
                "out: train with DDP, or do not cache features (model.cache_features: false)"
            )


class _LayerStates(tuple[Tensor, ...]):
    """Hidden states by the number of their layer; only those that are kept."""

    states: dict[int, Tensor]

    def __new__(cls, states: dict[int, Tensor]) -> _LayerStates:
        made = super().__new__(cls, tuple(states.values()))
        made.states = states
        return made

    def __getitem__(self, layer: Any) -> Any:
        if layer not in self.states:
            raise ValueError(f"vision_feature_layer={layer}: the feature cache keeps {list(self.states)} alone")
        return self.states[layer]


def _tower_of(model: PreTrainedModel) -> PreTrainedModel:
    children = dict(model.base_model.named_children())
    tower = children.get("vision_tower")
    if not isinstance(tower, PreTrainedModel):
        raise UnsupportedModel(
            f"{type(model).__name__} has no vision_tower to keep features of; it has {', '.join(children)}. Do not "
            "cache features (model.cache_features: false)"
        )
    return tower


def _layers_of(model: PreTrainedModel) -> list[int]:
    layer = model.config.to_dict().get("vision_feature_layer")
    if isinstance(layer, Sequence) and layer:
        return list(layer)
    if isinstance(layer, int):
        return [layer]
    raise UnsupportedModel(
        f"{type(model).__name__} does not say which layer of its vision tower is read (vision_feature_layer)"
    )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
