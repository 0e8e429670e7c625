"""Low-rank adapters on some parts of a model, with the other parts of a stage trained in full beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.utils.constants import DUMMY_TARGET_MODULES
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from contralign.nearest import nearest
from contralign.recipe.model_settings import LoraSettings, ModelSettings, Part
from contralign.recipe.schema import RecipeError
from contralign.run.learning.quantization import is_quantized, merge_dequantized
from contralign.run.learning.trainable_parts import freeze_unread_layers, part_of

LOOSE_FILE = "parameters.safetensors"
"""Beside an adapter's own files in a checkpoint."""


class AdaptedModel(PeftModel):
    """PEFT's model, whose checkpoints also hold what learns in the base model itself.

    PEFT writes down adapters and copies of whole modules. A parameter that is no module's weight, as LLaVA-NeXT's
    image_newline, can be neither: it learns in place.
    """

    def save_pretrained(self, save_directory: str, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """PEFT's files, and those parameters in a file beside them."""
        super().save_pretrained(save_directory, *args, **kwargs)
        loose = self.loose_parameters()
        if loose and kwargs.get("is_main_process", True):
            given: Mapping[str, Tensor] = kwargs.get("state_dict") or {}
            values = {name: given.get(name, value).detach().cpu().contiguous() for name, value in loose.items()}
            save_file(values, Path(save_directory, LOOSE_FILE))

    def load_adapter(self, model_id: Any, *args: Any, **kwargs: Any) -> Any:
        """What `save_pretrained` wrote.

        Raises:
            ValueError: the folder lacks the parameters that learn in place.
        """
        loaded = super().load_adapter(model_id, *args, **kwargs)
        loose = self.loose_parameters()
        if not loose:
            return loaded
        file = Path(model_id, LOOSE_FILE)
        saved = load_file(file) if file.is_file() else {}
        if saved.keys() != loose.keys():
            raise ValueError(f"{file}: wanted {sorted(loose)}, found {sorted(saved)}: another model's checkpoint")
        with torch.no_grad():
            for name, parameter in loose.items():
                parameter.copy_(saved[name])
        return loaded

    def loose_parameters(self) -> dict[str, nn.Parameter]:
        """What learns and is neither an adapter nor in a copied module."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and ".modules_to_save." not in name and ".lora_" not in name
        }


def adapts(settings: ModelSettings, parts: Sequence[Part]) -> bool:
    """True where a stage that trains `parts` needs adapters: on one of them, or for the Trainer to take 4 or 8 bits."""
    lora = settings.lora
    return lora is not None and (settings.quantization != "none" or any(part in lora.parts for part in parts))


def add_lora(model: Any, settings: LoraSettings, parts: Sequence[Part]) -> AdaptedModel:
    """Wrap a model: adapters on the linear layers of `settings.parts`, the other `parts` copied and trained in full.

    PEFT keeps those copies in its checkpoints, which it would not do for parts that are merely turned on again. The
    vocabulary head, and layers of a vision tower that the projector does not read, get no adapters.

    Raises:
        RecipeError: no layer has the wanted name, or a part that PEFT cannot copy.
    """
    adapted = [part for part in settings.parts if part in parts]
    unread = [f"{name}." for name in freeze_unread_layers(model)]
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and part_of(name) in adapted and name != "lm_head"
        if not any(f"{name}.".startswith(outer) for outer in unread)
    ]
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_targets(linear, settings.target_modules) if adapted else DUMMY_TARGET_MODULES,
        modules_to_save=_whole_modules(model, [part for part in parts if part not in settings.parts]) or None,
    )
    wrapped = AdaptedModel(model, config)
    for name, parameter in wrapped.named_parameters():
        if part_of(name) == "image_newline" and "image_newline" in parts:
            parameter.requires_grad_(True)
    return wrapped


def finished_model(model: Any) -> Any:
    """What a stage leaves behind: an ordinary model, its adapters merged, all of it in the dtype it was loaded in."""
    if isinstance(model, PeftModel):
        model = merge_lora(model)
    return model.to(model.config.dtype) if isinstance(model.config.dtype, torch.dtype) else model


def merge_lora(model: PeftModel) -> Any:
    """The model with its adapters added to the weights: an ordinary model again."""
    return merge_dequantized(model) if is_quantized(model) else model.merge_and_unload()


def _targets(linear: list[str], wanted: str | tuple[str, ...]) -> list[str]:
    if wanted == "all-linear":
        return linear
    names = (wanted,) if isinstance(wanted, str) else wanted
    last_names = sorted({name.rpartition(".")[2] for name in linear})
    for name in names:
        if name not in last_names:
            raise RecipeError(f"model.lora.target_modules: no {name!r}; {nearest(name, ['all-linear', *last_names])}")
    return [name for name in linear if name.rpartition(".")[2] in names]


def _whole_modules(model: nn.Module, parts: Sequence[Part]) -> list[str]:
    """The outermost modules of these parts."""
    whole: list[str] = []
    for name, module in model.named_modules():
        inside_another = any(name.startswith(f"{outer}.") for outer in whole)
        if part_of(name) in parts and not inside_another:
            if any(part_of(f"{name}.{inner}") != part_of(name) for inner, _ in module.named_modules() if inner):
                raise RecipeError(f"train: {name} holds another part, so model.lora cannot keep it as a whole")
            whole.append(name)
    return whole
