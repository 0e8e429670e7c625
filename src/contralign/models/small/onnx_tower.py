"""A DINOv2-shaped vision transformer out of an ONNX file, as an `InternVLVisionModel`.

An exporter keeps most names of the layers; the matrices it transposes and renames, but the node that multiplies by one
still has its layer's name. Pictures at another size than in training read the position embeddings by bicubic
interpolation: that is done once, here, for the size the tower is built for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import InternVLVisionConfig, InternVLVisionModel

if TYPE_CHECKING:
    import onnx

HEAD_WIDTH = 64
"""Dimensions of an attention head: the same in every size of DINOv2."""

_WITH_BIAS = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.projection_layer": "attention.output.dense",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_AS_IT_IS = {
    "layernorm_before.weight": "norm1.weight",
    "layernorm_before.bias": "norm1.bias",
    "layernorm_after.weight": "norm2.weight",
    "layernorm_after.bias": "norm2.bias",
    "lambda_1": "layer_scale1.lambda1",
    "lambda_2": "layer_scale2.lambda1",
}


def read_onnx_tower(path: Path, image_size: int, layers: int) -> InternVLVisionModel:
    """The first layers of a tower; what it gives is the raw hidden state after the last of them, no norm behind it.

    Args:
        path: an ONNX file whose layers are called `backbone.encoder.layer.N` as in transformers' DINOv2.
        image_size: pixels of a side of the pictures it will read.
        layers: how many to keep, from the first.

    Raises:
        ValueError: the `onnx` package is missing, the file is no such tower, it has fewer layers, or its patches do
            not tile the picture.
    """
    weights = _Weights(path)
    patches = weights["backbone.embeddings.patch_embeddings.projection.weight"]
    hidden, _, patch_size, _ = patches.shape
    there = len({name.split(".")[3] for name in weights.names if name.startswith("backbone.encoder.layer.")})
    if not 1 <= layers <= there:
        raise ValueError(f"layers={layers}: {path.name} has {there}")
    if image_size % patch_size:
        raise ValueError(f"image_size={image_size}: wanted a multiple of the patch size, {patch_size}")
    config = InternVLVisionConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD_WIDTH,
        intermediate_size=len(weights["backbone.encoder.layer.0.mlp.fc1.bias"]),
        attention_bias=True,
        image_size=image_size,
        patch_size=patch_size,
        layer_scale_init_value=1.0,
        use_mean_pooling=True,  # the one way to have no norm behind the last layer
    )
    with torch.device("meta"):
        tower = InternVLVisionModel(config)
    tower.load_state_dict(_tower_state(weights, layers, image_size // patch_size), assign=True)
    return tower.eval()


def resized_positions(positions: Float[Tensor, "1 places hidden"], side: int) -> Float[Tensor, "1 new_places hidden"]:
    """Position embeddings of a square of patches, for a square with `side` patches a side."""
    old_side = round(positions.shape[1] ** 0.5)
    square = positions.reshape(1, old_side, old_side, -1).permute(0, 3, 1, 2)
    resized = nn.functional.interpolate(square, size=(side, side), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).flatten(1, 2)


def _tower_state(weights: _Weights, layers: int, side: int) -> dict[str, Tensor]:
    embeddings = "backbone.embeddings."
    class_position, positions = weights.positions()
    state = {
        "embeddings.cls_token": weights[f"{embeddings}cls_token"],
        "embeddings.position_embeddings": torch.cat([class_position, resized_positions(positions, side)], dim=1),
    }
    for name in ("patch_embeddings.projection.weight", "patch_embeddings.projection.bias"):
        state[f"embeddings.{name}"] = weights[f"{embeddings}{name}"]
    for layer in range(layers):
        ours, theirs = f"encoder.layer.{layer}", f"backbone.encoder.layer.{layer}"
        for new, old in _AS_IT_IS.items():
            state[f"{ours}.{new}"] = weights[f"{theirs}.{old}"]
        for new, old in _WITH_BIAS.items():
            state[f"{ours}.{new}.weight"] = weights.matrix(f"{theirs}.{old}")
            state[f"{ours}.{new}.bias"] = weights[f"{theirs}.{old}.bias"]
    return state


class _Weights:
    """The constants of an ONNX graph by the names of the layers that use them."""

    def __init__(self, path: Path) -> None:
        try:
            import onnx
            from onnx.numpy_helper import to_array
        except ImportError as error:
            raise ValueError("reading an ONNX tower needs onnx: pip install 'contralign[smol]'") from error
        graph = onnx.load(str(path), load_external_data=False).graph
        self._to_array: Any = to_array
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes = {node.name: node for node in graph.node}
        self._file = path.name
        self.names = list(self._tensors)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise ValueError(f"{self._file} has no {name!r}: wanted a DINOv2-shaped tower exported with its names")
        return self._read(self._tensors[name])

    def matrix(self, layer: str) -> Tensor:
        """The weight of a linear layer, as torch keeps it; its name in the graph is a number."""
        path = "/" + layer.replace(".layer.", "/layer#").replace(".", "/").replace("#", ".") + "/MatMul"
        node = self._nodes.get(path)
        name = node.input[1] if node is not None else path
        return self[name].T.contiguous()

    def positions(self) -> tuple[Tensor, Tensor]:
        """Position embeddings of the class token, (1, 1, hidden), and of the patches, (1, places, hidden)."""
        nameless = [tensor for name, tensor in self._tensors.items() if not name.startswith(("backbone.", "decoder."))]
        found = [tensor for tensor in nameless if len(tensor.dims) == 3 and tensor.dims[0] == 1]
        if len(found) != 2 or found[0].dims[1] != 1:
            shapes = [list(tensor.dims) for tensor in found]
            raise ValueError(f"{self._file}: no position embeddings; tensors without a layer's name: {shapes}")
        return self._read(found[0]), self._read(found[1])

    def _read(self, tensor: onnx.TensorProto) -> Tensor:
        return torch.from_numpy(self._to_array(tensor).copy())
