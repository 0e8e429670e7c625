"""The language model in 4 or 8 bits (bitsandbytes) while adapters learn on it, and back to an ordinary model: QLoRA.

Only the linear layers inside the language model are quantised. Vision tower, projector, embeddings, norms and the
vocabulary head stay in `model.dtype`, so the scores that CAL compares come from an exact head.
"""

import importlib.util
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import BitsAndBytesConfig

from contralign.recipe.model_settings import ModelSettings
from contralign.recipe.schema import RecipeError
from contralign.run.learning.trainable_parts import PLACES


def quantization_arguments(settings: ModelSettings) -> dict[str, Any]:
    """What `from_pretrained` is given so that the language model's layers are quantised while they are loaded.

    Raises:
        RecipeError: bitsandbytes is not installed.
    """
    if settings.quantization == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise RecipeError(
            f"model.quantization={settings.quantization} needs bitsandbytes: pip install 'contralign[qlora]', or set "
            "model.quantization: none"
        )
    kept = [rf"(?:.*\.)?{place}" for place, part in PLACES.items() if part != "language_model" or place == "lm_head"]
    if settings.quantization == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, settings.dtype),
            llm_int8_skip_modules=kept,
        )
    return {"quantization_config": config}


def alike_in_both_passes(model: Any) -> Any:
    """The model, with layers on a CPU that compute in the second pass, which is in eval mode, as they do in the first.

    There bitsandbytes has other arithmetic for eval mode: it rounds the activations of 8-bit layers, and repacks 4-bit
    ones with rounded scales, for good and without a gradient. Δ would be the difference of the two.
    """
    if is_quantized(model) and model.device.type == "cpu":
        from bitsandbytes.nn import Linear4bit, Linear8bitLt  # type: ignore[import-not-found]

        class WeightsAlone(Linear8bitLt):
            """8-bit weights, and activations as they are."""

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.training = True
                return super().forward(x)

        for module in model.modules():
            if isinstance(module, Linear8bitLt):
                module.__class__ = WeightsAlone
            elif isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False
    return model


def is_quantized(model: Any) -> bool:
    """True for a model with quantised layers, adapters or not."""
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    return bool(getattr(whole, "is_quantized", False))


def merge_dequantized(model: PeftModel) -> Any:
    """An ordinary model: layers as the adapters saw them, in `model.dtype` again, with the adapters added.

    What 4 or 8 bits have rounded off stays off: the adapters learnt to work on the rounded weights, so those, and not
    the ones that training started from, are what the update belongs to.
    """
    whole: Any = model.get_base_model()
    whole.dequantize()
    with torch.no_grad():
        for layer in whole.modules():
            if isinstance(layer, LoraLayer):
                merging: Any = layer
                for name in merging.active_adapters:
                    merging.get_base_layer().weight += merging.get_delta_weight(name)
    return model.unload()
