"""A Hugging Face configuration as the sizes that the cost model reads."""

from typing import Any

from contralign.bench.plan.shapes import AuxTower, Decoder, Tower


def decoder_of(config: Any) -> Decoder:
    """The language model of a configuration.

    Args:
        config: of a whole model, or of its language model; LLaMA-shaped.

    Raises:
        ValueError: a size is not in it.
    """
    text = config.get_text_config()
    sizes = {
        "hidden": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "intermediate": "intermediate_size",
        "vocab": "vocab_size",
    }
    absent = [name for name in sizes.values() if not isinstance(getattr(text, name, None), int)]
    if absent:
        raise ValueError(f"{type(text).__name__} has no {', '.join(absent)}: wanted a LLaMA-shaped language model")
    return Decoder(
        **{size: getattr(text, name) for size, name in sizes.items()},
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        head_dim=getattr(text, "head_dim", None),
        tied=bool(getattr(config, "tie_word_embeddings", False)),
    )


def tower_of(config: Any) -> Tower | None:
    """The vision tower of a configuration, if it is a CLIP that is read at one layer."""
    vision: Any = getattr(config, "vision_config", None)
    layer = getattr(config, "vision_feature_layer", None)
    if getattr(vision, "model_type", None) != "clip_vision_model" or not isinstance(layer, int):
        return None
    layers = vision.num_hidden_layers
    return Tower(
        hidden=vision.hidden_size,
        layers=layers,
        read_layers=layers + layer + 1 if layer < 0 else layer,
        intermediate=vision.intermediate_size,
        side=vision.image_size,
        patch=vision.patch_size,
    )


def aux_tower_of(config: Any, side: int) -> AuxTower | None:
    """The second tower of a Mini-Gemini, None for other models.

    Args:
        config: of the whole model.
        side: pixels of the picture that it sees.
    """
    aux = getattr(config, "aux_config", None)
    if aux is None:
        return None
    return AuxTower(
        side=side, widths=tuple(aux.hidden_sizes), depths=tuple(aux.depths), mined=config.vision_config.hidden_size
    )
