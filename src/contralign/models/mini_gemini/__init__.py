"""Mini-Gemini as transformers writes a model; importing the package registers it with the Auto classes."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageTextToText, AutoProcessor

from contralign.models.mini_gemini.configuration import MiniGeminiConfig
from contralign.models.mini_gemini.image_processing import MiniGeminiImageProcessor
from contralign.models.mini_gemini.modeling import MiniGeminiForConditionalGeneration, MiniGeminiModel
from contralign.models.mini_gemini.processing import MiniGeminiProcessor

AutoConfig.register("mini_gemini", MiniGeminiConfig, exist_ok=True)
AutoModel.register(MiniGeminiConfig, MiniGeminiModel, exist_ok=True)
AutoModelForImageTextToText.register(MiniGeminiConfig, MiniGeminiForConditionalGeneration, exist_ok=True)
AutoImageProcessor.register(MiniGeminiConfig, image_processor_classes={"pil": MiniGeminiImageProcessor}, exist_ok=True)
AutoProcessor.register(MiniGeminiConfig, MiniGeminiProcessor, exist_ok=True)

__all__ = [
    "MiniGeminiConfig",
    "MiniGeminiForConditionalGeneration",
    "MiniGeminiImageProcessor",
    "MiniGeminiModel",
    "MiniGeminiProcessor",
]
