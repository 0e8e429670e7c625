"""Processors with the PIL image processors of the LLaVAs, whose pixels are those of the released code.

Where torchvision is installed transformers loads image processors that resize tensors: other pixels than the released
code's, and other classes than `use_original_tiling_if_released` and `pad_to_square` know. The LLaVAs get those of PIL.
"""

import logging
from typing import Any

from transformers import CLIPImageProcessorPil, LlavaNextProcessor, LlavaProcessor
from transformers.image_processing_backends import PilBackend
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from contralign.models.anyres.tiling import use_original_tiling_if_released
from contralign.models.pretrained import load_auto_processor

logger = logging.getLogger(__name__)


def load_processor(path: Any, **where: Any) -> Any:
    """The processor of a model directory; that of a LLaVA or LLaVA-NeXT cuts pictures as the released code.

    Args:
        path: directory, or name on the hub.
        where: for `from_pretrained`, such as `local_files_only=True`.

    Raises:
        OSError: there is none.
        UnusableModel: it needs code of its own, or cannot be read.
    """
    processor = load_auto_processor(path, **where)
    released = isinstance(processor, LlavaProcessor | LlavaNextProcessor)
    if released and not isinstance(processor.image_processor, PilBackend):
        processor = load_auto_processor(path, backend="pil", **where)
    use_original_tiling_if_released(processor)
    return processor


def pad_to_square(processor: Any) -> Any:
    """The processor, padding pictures to a square with the mean colour from now on; changed in place where it can.

    llava-hf's LLaVA-1.5 come with CLIP's image processor, which cannot pad: it makes room for LLaVA's own.
    """
    images = getattr(processor, "image_processor", None)
    if isinstance(images, CLIPImageProcessorPil):
        processor.image_processor = images = LlavaImageProcessorPil.from_dict(images.to_dict())
    if isinstance(images, LlavaImageProcessorPil):
        images.do_pad = True
    else:
        logger.warning(
            "%s cannot pad pictures to a square, and the model has seen them padded: pad them before you hand them to "
            "the processor that is saved beside it",
            type(images).__name__,
        )
    return processor
