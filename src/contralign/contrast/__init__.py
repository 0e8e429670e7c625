"""The second look: one condition a file, each a function from batch to batch."""

from typing import TYPE_CHECKING

from contralign.public import lazy

if TYPE_CHECKING:
    from contralign.contrast.base import Contrast
    from contralign.contrast.blur import BlurPicture
    from contralign.contrast.drop import DropImage
    from contralign.contrast.mask import MaskImage
    from contralign.contrast.mean import MeanPicture
    from contralign.contrast.patches import MaskPatches
    from contralign.contrast.shuffle import ShufflePictures

__all__ = ["BlurPicture", "Contrast", "DropImage", "MaskImage", "MaskPatches", "MeanPicture", "ShufflePictures"]

__getattr__, __dir__ = lazy(__name__)
