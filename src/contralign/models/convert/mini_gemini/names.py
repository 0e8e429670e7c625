"""Names of a Mini-Gemini's tensors: as its authors save them, and as our model has them (spec, section 4.5)."""

from collections.abc import Iterable, Mapping
from functools import partial

from torch import Tensor

from contralign.models.convert.original_layout import PREFIXES as LLAVA_PREFIXES
from contralign.models.convert.original_layout import rename_keys

AUX_TOWER = "model.vision_tower_aux."

PREFIXES = {
    **LLAVA_PREFIXES,
    AUX_TOWER: AUX_TOWER,
    "model.vlm_uni_query_projector.": "model.patch_mining.query.",
    "model.vlm_uni_aux_projector.": "model.patch_mining.key.",
    "model.vlm_uni_val_projector.": "model.patch_mining.value.",
}

CONVNEXT_PARTS = (
    ("vision_stem.0.", "embeddings.patch_embeddings."),
    ("vision_stem.1.", "embeddings.layernorm."),
    ("vision_stages.", "encoder.stages."),
    (".downsample.", ".downsampling_layer."),
    (".blocks.", ".layers."),
    (".conv_dw.", ".dwconv."),
    (".norm.", ".layernorm."),
    (".mlp.fc1.", ".pwconv1."),
    (".mlp.fc2.", ".pwconv2."),
    (".gamma", ".layer_scale_parameter"),
)
"""Parts of a name inside the ConvNeXt, in the order in which they are replaced, either way."""


def rename_mini_gemini_keys(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Original names to our model's.

    Args:
        state: an original state dict.

    Returns:
        The tensors under their new names, and the names that have no place. Buffers that follow from the config
        (`DERIVED`) are in neither.
    """
    return rename_keys(state, partial(_swapped, back=False))


def original_names(names: Iterable[str]) -> dict[str, str]:
    """Our names to the original ones.

    Raises:
        ValueError: a name that the original has no place for.
    """
    found = {name: _swapped(name, back=True) for name in names}
    lost = sorted(name for name, original in found.items() if original is None)
    if lost:
        raise ValueError(f"the original layout has no place for {', '.join(lost)}")
    return {name: original for name, original in found.items() if original is not None}


def _swapped(name: str, *, back: bool) -> str | None:
    for original, ours in PREFIXES.items():
        begins, becomes = (ours, original) if back else (original, ours)
        if name.startswith(begins):
            rest = name.removeprefix(begins)
            for theirs, part in CONVNEXT_PARTS if original == AUX_TOWER else ():
                rest = rest.replace(part, theirs, 1) if back else rest.replace(theirs, part, 1)
            return becomes + rest
    return None
