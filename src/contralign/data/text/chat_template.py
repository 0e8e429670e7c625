"""The model's own chat template, and which characters of its text are answers.

A template may mark answers with ``{% generation %}``. Without marks, the turns before an answer are rendered with
`add_generation_prompt`, then together with the answer: the answer is the difference, without white space at its end.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.data.text.templates import Layout, find_all, prompt_turns

logger = logging.getLogger(__name__)

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
# A code point that Unicode keeps out of texts: holds the place of a literal image token while a template is rendered.
_LITERAL = "\ufdd0"


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A chat template with the tokenizer's special tokens.

    Attributes:
        source: the Jinja text.
        marker: the token that the template prints for a picture; None for a text-only model.
        special_tokens: variables of the template, such as `bos_token`.
        parts: content is a list of typed parts (processors), not a string (tokenizers).
        bos_token: not added to a text that starts with it.
        adds_bos: the tokenizer adds its first token (processors; `apply_chat_template` of a bare tokenizer never does).
    """

    source: str
    marker: str | None
    special_tokens: dict[str, str]
    parts: bool
    bos_token: str | None
    adds_bos: bool
    control_tokens: tuple[str, ...] = ()

    def layout(self, sample: Sample, open_prompt: bool = False) -> Layout:
        """See `contralign.data.text.templates.Template`."""
        turns = prompt_turns(sample) if open_prompt else sample.turns
        if sample.pictures and self.marker is None:
            raise BadRecord("no_picture_place", "the sample has pictures, but this tokenizer has no image token")
        text, marked = self._render(turns, open_prompt)
        answers = () if open_prompt else marked if marked is not None else self._differences(turns, text)
        marker = self.marker or IMAGE
        images = find_all(text, marker)
        if len(images) != len(sample.pictures):
            raise BadRecord(
                "picture_count",
                f"the chat template prints {len(images)} of {marker!r} for {len(sample.pictures)} pictures; "
                "it cannot show pictures in these turns",
            )

        def restored(position: int) -> int:
            return position + text.count(_LITERAL, 0, position) * (len(marker) - 1)

        whole = text.replace(_LITERAL, marker)
        shifted = tuple((restored(start), restored(end)) for start, end in answers)
        return Layout(
            text=whole,
            images=tuple(restored(start) for start in images),
            answers=shifted,
            places=_places(turns, whole, shifted),
            marker=marker,
            whole=True,
            open_with_bos=self.adds_bos and not (self.bos_token and whole.startswith(self.bos_token)),
        )

    def _render(self, turns: tuple[Turn, ...], open_prompt: bool) -> tuple[str, list[tuple[int, int]] | None]:
        """The text, and its answers as (start, end) if the template marks them."""
        marks = not open_prompt and _GENERATION.search(self.source) is not None
        arguments: dict[str, Any] = {
            "conversations": [[self._message(turn) for turn in turns]],
            "chat_template": self.source,
            "add_generation_prompt": open_prompt,
            "return_assistant_tokens_mask": marks,
            **self.special_tokens,
        }
        try:
            texts, spoken = render_jinja_template(**arguments)
        except (TemplateError, TypeError) as error:
            raise BadRecord("template_refused", f"the chat template refuses these turns: {error}") from error
        return texts[0], [(int(start), int(end)) for start, end in spoken[0]] if marks else None

    def _message(self, turn: Turn) -> dict[str, Any]:
        text = turn.text.replace(self.marker, _LITERAL) if self.marker else turn.text
        if not self.parts:
            return {"role": turn.role, "content": text.replace(IMAGE, self.marker or "")}
        return {"role": turn.role, "content": list(_parts(text))}

    def _differences(self, turns: tuple[Turn, ...], text: str) -> list[tuple[int, int]]:
        spoken = []
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before, _ = self._render(turns[:index], True)
            upto, _ = self._render(turns[: index + 1], False)
            if not (upto.startswith(before) and text.startswith(upto.rstrip())):
                raise BadRecord(
                    "template_rewrites",
                    f"turn {index}: the chat template rewrites earlier text when a turn is added, so the answer cannot "
                    "be told from it; give the template {% generation %} marks",
                )
            spoken.append((len(before), max(len(before), len(upto.rstrip()))))
        return spoken


def chat_template(source: Any) -> ChatTemplate:
    """The chat template of a processor or of a bare tokenizer.

    Raises:
        ValueError: it has none, or several.
    """
    tokenizer = getattr(source, "tokenizer", source)
    text = source.chat_template or tokenizer.chat_template
    if not isinstance(text, str):
        raise ValueError(f"{type(source).__name__} has no single chat template; set one, or name another template")
    special = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    plain = ChatTemplate(
        source=text,
        marker=image_marker(source),
        special_tokens=special,
        parts=True,
        bos_token=tokenizer.bos_token,
        adds_bos=tokenizer is not source,
    )
    template = plain if _takes_parts(plain) else replace(plain, parts=False)
    _warn_if_endless(template)
    return template


def image_marker(source: Any) -> str | None:
    """The token that stands for one picture in a prompt (Gemma 3: `boi_token`, others: `image_token`); None without.

    The processor expands it to the picture's image tokens.
    """
    tokenizer = getattr(source, "tokenizer", source)
    names = ((source, "boi_token"), (source, "image_token"), (tokenizer, "image_token"))
    found = (getattr(owner, name, None) for owner, name in names)
    return next((str(token) for token in found if token), None)


def _takes_parts(template: ChatTemplate) -> bool:
    """Whether the template reads content as a list of parts: a message is rendered to see."""
    probe = "probe of the content form"
    try:
        text, _ = template._render((Turn("user", probe),), False)
    except BadRecord:
        return False
    return probe in text and "'type'" not in text and '"type"' not in text


def _warn_if_endless(template: ChatTemplate) -> None:
    """Warn if answers have no end token in their labels: the model would not learn to stop."""
    answer = "probe of the end token"
    try:
        layout = template.layout(Sample("probe", (Turn("user", "probe"), Turn("assistant", answer))))
    except BadRecord:
        return
    if any(layout.text[start:end].strip() == answer for start, end in layout.answers):
        logger.warning(
            "the chat template learns answers without an end token, so the model will not learn to stop; put the token "
            "inside of its {% generation %} marks, or name another template (vicuna_v1, gemma)"
        )


def _parts(text: str) -> Iterable[dict[str, str]]:
    for index, piece in enumerate(text.split(IMAGE)):
        if index:
            yield {"type": "image"}
        if piece:
            yield {"type": "text", "text": piece}


def _places(
    turns: tuple[Turn, ...], text: str, answers: tuple[tuple[int, int], ...]
) -> dict[int, tuple[int, int, int]]:
    """`Layout.places` of the assistant turns; a turn whose text the template changed has none."""
    places, speakers = {}, [index for index, turn in enumerate(turns) if turn.role == "assistant"]
    if len(speakers) != len(answers):
        return places
    for index, (start, end) in zip(speakers, answers, strict=True):
        spoken = turns[index].text
        core = spoken.strip()
        found = text.find(core, start, end) if core and IMAGE not in core else -1
        if found >= 0:
            first = len(spoken) - len(spoken.lstrip())
            places[index] = (found, first, first + len(core))
    return places
