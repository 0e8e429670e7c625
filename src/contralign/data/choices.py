"""What templates and treatments of pictures are called: names that recipes know without loading what they stand for."""

from typing import Literal

ImageAspect = Literal["processor", "pad", "square"]
TemplateName = Literal["chat", "plain", "vicuna_v1", "gemma"]
