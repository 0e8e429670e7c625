"""Which adapter serves a model, and where a model family is added.

A family is a model class of transformers that CAL trains in its own way: a file in this folder and a line in
`ADAPTERS`. A class without a line is served by `GenericAdapter`, or refused with the reason. Nothing else has to know
it. `verified.py` names the classes whose contrasts a test has compared with the model's own forward.

The families of the paper can do two things more, each with a table of its own: be put together from a language model
and towers (`assembly/architectures.py`, the recipe key `model.family`), and be converted from and to their authors'
checkpoints (`convert/original_formats.py`).
"""

from typing import Any

from accelerate.utils import extract_model_from_parallel
from transformers import PreTrainedModel

from contralign.models.adapters.adapter import Adapter, PictureEncoder, UnsupportedModel
from contralign.models.adapters.generic import GenericAdapter
from contralign.plugins import Registry

ADAPTERS = Registry(
    "contralign.families",
    "model family",
    {
        "Gemma3ForConditionalGeneration": "contralign.models.adapters.gemma:Gemma3Adapter",
        "Gemma4ForConditionalGeneration": "contralign.models.adapters.gemma:Gemma4Adapter",
        "LlavaForConditionalGeneration": "contralign.models.adapters.llava:LlavaAdapter",
        "LlavaNextForConditionalGeneration": "contralign.models.adapters.llava_next:LlavaNextAdapter",
        "MiniGeminiForConditionalGeneration": "contralign.models.adapters.mini_gemini:MiniGeminiAdapter",
        "MllamaForConditionalGeneration": "contralign.models.adapters.mllama:MllamaAdapter",
        "Ovis2ForConditionalGeneration": "contralign.models.adapters.ovis2:Ovis2Adapter",
        "PaliGemmaForConditionalGeneration": "contralign.models.adapters.gemma:PaliGemmaAdapter",
        "Qwen3VLForConditionalGeneration": "contralign.models.adapters.deepstack:DeepstackAdapter",
        "Qwen3VLMoeForConditionalGeneration": "contralign.models.adapters.deepstack:DeepstackAdapter",
    },
)
"""Name of the model's class -> `Adapter` subclass."""


def bare_model(model: Any) -> PreTrainedModel:
    """The Hugging Face model inside DDP, torch.compile and PEFT wrappers.

    Raises:
        UnsupportedModel: there is none inside, or PEFT puts virtual tokens in front of the sequence.
    """
    inner = extract_model_from_parallel(model)
    if not isinstance(inner, PreTrainedModel) and hasattr(inner, "get_base_model"):
        if inner.active_peft_config.is_prompt_learning:
            raise UnsupportedModel("PEFT prompt learning moves every token by its virtual ones; use LoRA")
        inner = inner.get_base_model()
    if not isinstance(inner, PreTrainedModel):
        raise UnsupportedModel(f"got {type(inner).__name__}; wanted a Hugging Face image-text-to-text model")
    return inner


def adapter_for(model: Any, encode_pictures: PictureEncoder | None = None) -> Adapter:
    """The adapter of a model, its wrappers taken off.

    Raises:
        UnsupportedModel: no adapter can serve it correctly; the message says why.
    """
    inner = bare_model(model)
    name = type(inner).__name__.removeprefix("FSDP")  # fully_shard renames the class
    if name in ADAPTERS:
        return ADAPTERS[name](inner, encode_pictures)
    return GenericAdapter(inner, encode_pictures)
