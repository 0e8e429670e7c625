"""The parts of a vision-language model that a recipe names, and which of them learn.

A parameter belongs to the part whose place in the model is the longest beginning of its name, so the merger inside a
Qwen tower is projector and not tower.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import nn

from contralign.recipe.model_settings import Part
from contralign.recipe.schema import RecipeError

PLACES: dict[str, Part] = {
    "vision_tower": "vision_tower",
    "vision_tower_aux": "vision_tower",
    "vision_model": "vision_tower",
    "visual": "vision_tower",
    "multi_modal_projector": "projector",
    "patch_mining": "projector",
    "connector": "projector",
    "projector": "projector",
    "embed_vision": "projector",
    "visual_embeddings_table": "projector",
    "visual.merger": "projector",
    "visual.deepstack_merger_list": "projector",
    "language_model": "language_model",
    "text_model": "language_model",
    "lm_head": "language_model",
    "image_newline": "image_newline",
}
WHOLLY_READ = "vision_tower_aux"
"""A tower of which `vision_feature_layer` does not speak."""
_WRAPPERS = ("base_model.model.", "model.")


def part_of(name: str) -> Part | None:
    """The part that the parameter or module `name` belongs to, PEFT's wrapping seen through; None for none known."""
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    places = [place for place in PLACES if name == place or name.startswith(f"{place}.")]
    return PLACES[max(places, key=len)] if places else None


def train_only(model: nn.Module, parts: Sequence[Part]) -> dict[str, int]:
    """Let the named parts learn and freeze everything else.

    Returns:
        Number of weights that learn, by part.

    Raises:
        RecipeError: the model has no such part; the message says which it has.
    """
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part = part_of(name)
        parameter.requires_grad_(part in parts and parameter.is_floating_point())  # quantised weights never learn
        if part is not None:
            counts[part] += parameter.numel()
    for part in parts:
        if not counts[part]:
            there = [name for name in get_args(Part) if counts[name]]
            children = ", ".join(name for name, _ in model.named_children())
            raise RecipeError(
                f"train: {type(model).__name__} has no {part}; it has {', '.join(there) or f'modules {children}'}"
            )
    return {part: counts[part] for part in parts}


def freeze_unread_layers(model: Any) -> list[str]:
    """Freeze what of a vision tower comes after the layer that the projector reads: it gets no gradient, and DDP waits.

    LLaVA reads hidden state -2 of CLIP, so the last block and the final norm learn nothing (spec 3). Of Mini-Gemini's
    second tower every stage is read.

    Returns:
        Names of the modules.
    """
    layer = getattr(model.config, "vision_feature_layer", None)
    if not isinstance(layer, int) or layer >= 0:
        return []
    frozen = []
    for name, module in model.named_modules():
        if part_of(name) != "vision_tower" or WHOLLY_READ in name:
            continue
        last_name = name.rpartition(".")[2]
        if isinstance(module, nn.ModuleList) and last_name == "layers" and layer < -1:
            frozen += [f"{name}.{index}" for index in range(len(module) + layer + 1, len(module))]
        if last_name == "post_layernorm":
            frozen.append(name)
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    return frozen


def parameter_groups(
    model: nn.Module, learning_rate: float, part_rates: Mapping[Part, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for the optimizer: some parts at a learning rate of their own, decay on matrices only."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = part_of(name)
            rate = learning_rate if part is None else part_rates.get(part, learning_rate)
            decay = weight_decay if parameter.ndim >= 2 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]
