"""What a contrast is: a function from the batch to what the second pass reads instead (paper, section 2.2 and A.3)."""

from typing import Any, ClassVar, Protocol, runtime_checkable

from contralign.batch import VLBatch


@runtime_checkable
class Contrast(Protocol):
    """One way to take the picture, or a part of it, away from a batch.

    Attributes:
        name: the word that stands for this contrast in recipes and logs.
        reencodes: True where the pictures of the returned batch are to be encoded again, without gradient, and
            attended.
    """

    name: ClassVar[str]
    reencodes: ClassVar[bool]

    def __call__(self, batch: VLBatch) -> VLBatch:
        """The batch of the second pass; the one that was given stays as it is."""
        ...


def check_contrast(contrast: Any) -> Contrast:
    """The same contrast, once it is known to follow the Protocol.

    Raises:
        ValueError: a class, or an object that lacks something; the message says what.
    """
    if isinstance(contrast, type):
        raise ValueError(f"contrast={contrast.__name__} is a class: give an instance of it, {contrast.__name__}(...)")
    wanted = {
        "name, a text": isinstance(getattr(contrast, "name", None), str),
        "reencodes, True or False": isinstance(getattr(contrast, "reencodes", None), bool),
        "__call__(batch: VLBatch) -> VLBatch": callable(contrast),
    }
    lacking = [part for part, there in wanted.items() if not there]
    if lacking:
        raise ValueError(f"contrast={contrast!r} lacks {' and '.join(lacking)}: see contralign.contrast.Contrast")
    return contrast


def require_pictures(batch: VLBatch, name: str) -> tuple[tuple, ...]:
    """The pictures of every row, for a contrast that degrades them.

    Args:
        batch: what the contrast was given.
        name: of the contrast, for the message.

    Returns:
        One tuple of pictures a row, empty for a row of text.

    Raises:
        ValueError: the batch carries no pictures, or not one tuple a row.
    """
    if batch.pictures is None:
        raise ValueError(
            f"contrast {name!r} degrades the original pictures, and this batch carries none: "
            "collate with keep_pictures=True"
        )
    rows = batch.input_ids.shape[0]
    if len(batch.pictures) != rows:
        raise ValueError(
            f"contrast {name!r}: pictures of {len(batch.pictures)} rows came with a batch of {rows} rows; "
            "wanted one tuple a row, empty for a row of text"
        )
    return batch.pictures
