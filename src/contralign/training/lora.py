"""Low-rank adapters on the language model, with the other parts of a stage trained in full beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from contralign.training.parts import part_of
from contralign.training.schema import RecipeError, nearest
from contralign.training.settings import LoraSettings, Part


def add_lora(model: Any, settings: LoraSettings, parts: Sequence[Part]) -> PeftModel:
    """Wrap a model: adapters on the linear layers of its language model, the other `parts` copied and trained in full.

    PEFT keeps those copies in its checkpoints, which it would not do for parts that are merely turned on again.

    Raises:
        RecipeError: no layer has the wanted name, or a part that PEFT cannot copy.
    """
    if "image_newline" in parts:
        raise RecipeError("train: image_newline cannot learn beside model.lora, which keeps whole modules only")
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and part_of(name) == "language_model" and name != "lm_head"
    ]
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_targets(linear, settings.target_modules),
        modules_to_save=_whole_modules(model, parts),
    )
    wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def merge_lora(model: PeftModel) -> Any:
    """The model with its adapters added to the weights: an ordinary model again."""
    return model.merge_and_unload()


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
    """The outermost modules of every part but the language model."""
    whole: list[str] = []
    for name, module in model.named_modules():
        inside_another = any(name.startswith(f"{outer}.") for outer in whole)
        if part_of(name) in parts and part_of(name) != "language_model" and not inside_another:
            if any(part_of(f"{name}.{inner}") != part_of(name) for inner, _ in module.named_modules() if inner):
                raise RecipeError(f"train: {name} holds another part, so model.lora cannot keep it as a whole")
            whole.append(name)
    return whole
