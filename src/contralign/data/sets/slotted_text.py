"""Sentences with slots: the text in a slot is visual, every other word is filler."""

import re
from collections.abc import Mapping

from contralign.data.records.messages import Span, SpanKind

_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"\w+|[^\w\s]")
_WHOLE = re.compile(r".+")


def fill(template: str, visual: Mapping[str, str], turn: int = 1) -> tuple[str, tuple[Span, ...]]:
    """A template with its slots filled, and the span of every word and punctuation mark.

    Args:
        template: text with ``{name}`` where a slot is.
        visual: what goes into each slot; a slot's text is one span, of the kind "visual".
        turn: index of the text's turn in the sample.

    Raises:
        KeyError: a slot that `visual` has nothing for.
    """
    text = ""
    spans: list[Span] = []

    def add(piece: str, words: re.Pattern[str], kind: SpanKind) -> None:
        nonlocal text
        spans.extend(
            Span(turn, len(text) + word.start(), len(text) + word.end(), kind) for word in words.finditer(piece)
        )
        text += piece

    end = 0
    for slot in _SLOT.finditer(template):
        add(template[end : slot.start()], _WORD, "filler")
        add(visual[slot[1]], _WHOLE, "visual")
        end = slot.end()
    add(template[end:], _WORD, "filler")
    return text, tuple(spans)
