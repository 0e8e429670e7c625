"""Templates: a sample as one text, with the characters that have labels.

`plain` is the pre-training template of LLaVA, `vicuna_v1` its instruction template, `gemma` that of MGM-2B (spec 2.2,
2.3). The model's own template is in `chat_template`.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import IMAGE, Sample, Turn

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A sample as text.

    Attributes:
        text: the whole text, with one `marker` for every picture.
        images: indices of the markers in `text`, ascending.
        answers: (start, end) of the characters with labels, end tokens included, ascending.
        complete: False if a turn cannot be told apart (an empty answer; a role or end token in a text); `answers` then
            holds only those before it.
        places: by index of an assistant turn, (at, first, last): its characters [first, last) are at `text[at:]`.
        marker: stands for a picture: `IMAGE`, or the model's image token.
        whole: tokenise the text in one piece (the model's own template), not in pieces around the pictures.
        open_with_bos: the tokenizer's first token goes in front.
    """

    text: str
    images: tuple[int, ...]
    answers: tuple[tuple[int, int], ...] = ()
    complete: bool = True
    places: dict[int, tuple[int, int, int]]
    marker: str = IMAGE
    whole: bool = False
    open_with_bos: bool = True


class Template(Protocol):
    """Lays a sample out as text."""

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Tokens that the tokenizer must have for this template."""
        ...

    def layout(self, sample: Sample, open_prompt: bool = False) -> Layout:
        """The sample as text; `open_prompt` ends it with an open assistant turn, without answers.

        Raises:
            BadRecord: the template has no place for something in the sample.
        """
        ...


@dataclass(frozen=True)
class PlainTemplate:
    """Picture, caption, newline; the user's text is discarded (LLaVA's pre-training)."""

    control_tokens: tuple[str, ...] = ()

    def layout(self, sample: Sample, open_prompt: bool = False) -> Layout:
        """See `Template`."""
        turns = prompt_turns(sample) if open_prompt else sample.turns
        if turns[0].role == "system":
            raise BadRecord("system_turn", "the plain template has no place for a system turn; remove it")
        if len(turns) != (1 if open_prompt else 2):
            raise BadRecord("not_one_answer", f"{len(turns)} turns; the plain template takes a question and a caption")
        pictures = turns[0].text.count(IMAGE)
        if pictures == 0:
            raise BadRecord("no_picture", "the plain template needs a picture in the user's turn")
        caption = "" if open_prompt else turns[1].text + "\n"
        text = IMAGE * pictures + caption
        answers = () if open_prompt else ((pictures, len(text)),)
        places = {} if open_prompt else {1: (pictures, 0, len(turns[1].text))}
        return Layout(text=text, images=find_all(text, IMAGE), answers=answers, places=places)


@dataclass(frozen=True, kw_only=True)
class RoundTemplate:
    """Rounds of question and answer, each closed by an end token.

    An empty text prints the name of its role alone (`user_empty`, `assistant_empty`), so an empty answer closes no
    round. A round without exactly one `mark` cannot be told apart, nor can the rounds after it.

    Attributes:
        system: start of the text; {} takes the system turn. "" refuses one.
        default_system: used if the sample has no system turn.
        user: form of a user turn.
        user_empty: form of a user turn without text.
        assistant: form of an assistant turn.
        assistant_empty: form of an assistant turn without text; also the open prompt.
        mark: text before every answer.
        mark_margin: number of characters at the end of `mark` that belong to the answer (Vicuna: the space).
        end: closes a round; the last characters with labels.
        control_tokens: tokens that the tokenizer must have.
    """

    system: str
    default_system: str
    user: str
    user_empty: str
    assistant: str
    assistant_empty: str
    mark: str
    mark_margin: int
    end: str
    control_tokens: tuple[str, ...]

    def layout(self, sample: Sample, open_prompt: bool = False) -> Layout:
        """See `Template`."""
        turns = prompt_turns(sample) if open_prompt else sample.turns
        text, places = self._system(turns), {}
        for index, turn in enumerate(turns):
            if turn.role == "user":
                text += self.user.format(turn.text) if turn.text else self.user_empty
            elif turn.role == "assistant":
                places[index] = (len(text) + self.assistant.index("{}"), 0, len(turn.text))
                text += self.assistant.format(turn.text) if turn.text else self.assistant_empty
        images = find_all(text, IMAGE)
        if open_prompt:
            return Layout(text=text + self.assistant_empty, images=images, places=places)
        answers, complete = self._answers(text)
        return Layout(text=text, images=images, answers=answers, complete=complete, places=places)

    def _system(self, turns: tuple[Turn, ...]) -> str:
        own = turns[0].text if turns[0].role == "system" else None
        if own is not None and not self.system:
            raise BadRecord("system_turn", "this template has no place for a system turn; remove it")
        return self.system.format(self.default_system if own is None else own)

    def _answers(self, text: str) -> tuple[tuple[tuple[int, int], ...], bool]:
        """(start, end) of the answers before the first round that cannot be told apart; True if that is all of them."""
        answers, start = [], 0
        while start < len(text):
            end = text.find(self.end, start)
            spoken = text[start : end if end >= 0 else len(text)]
            if end < 0 or spoken.count(self.mark) != 1:
                return tuple(answers), False
            answer = start + spoken.index(self.mark) + len(self.mark) - self.mark_margin
            start = end + len(self.end)
            answers.append((answer, start))
        return tuple(answers), True


TEMPLATES: dict[str, Template] = {
    "plain": PlainTemplate(),
    "vicuna_v1": RoundTemplate(
        system="{} ",
        default_system=VICUNA_SYSTEM,
        user="USER: {} ",
        user_empty="USER:",
        assistant="ASSISTANT: {}</s>",
        assistant_empty="ASSISTANT:",
        mark=" ASSISTANT: ",
        mark_margin=1,
        end="</s>",
        control_tokens=("</s>",),
    ),
    "gemma": RoundTemplate(
        system="",
        default_system="",
        user="<start_of_turn>user\n{}<end_of_turn>\n",
        user_empty="<start_of_turn>user\n",
        assistant="<start_of_turn>model\n{}<end_of_turn>\n<eos>",
        assistant_empty="<start_of_turn>model\n",
        mark="<start_of_turn>model\n",
        mark_margin=0,
        end="<eos>",
        control_tokens=("<start_of_turn>", "<end_of_turn>", "<eos>"),
    ),
}


def prompt_turns(sample: Sample) -> tuple[Turn, ...]:
    """The turns of a prompt: all up to the last question.

    Raises:
        BadRecord: the last answer, which is dropped, holds a picture.
    """
    if sample.turns[-1].role == "user":
        return sample.turns
    if IMAGE in sample.turns[-1].text:
        raise BadRecord("picture_in_answer", "the last answer holds a picture, so a prompt without it loses one")
    return sample.turns[:-1]


def find_all(text: str, part: str) -> tuple[int, ...]:
    """Starts of all occurrences of `part` that do not overlap."""
    return tuple(found.start() for found in re.finditer(re.escape(part), text))
