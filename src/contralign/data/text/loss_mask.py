"""Tokens and labels of a sample: answers with their end tokens have labels, all other tokens are ignored (spec 2.3).

Text is tokenised in pieces around the pictures; each picture is one `IMAGE_SENTINEL`, which `expand_images` replaces.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from contralign.batch import IGNORE_INDEX
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import Sample
from contralign.data.text.chat_template import chat_template, image_marker
from contralign.data.text.templates import TEMPLATES, Layout, Template

IMAGE_SENTINEL = -200

TokenSpan = tuple[int, int, int]
Token = tuple[int, int, int]  # id, start and end of its characters in the layout's text


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """A sample as token ids; all three have one entry a token.

    Attributes:
        input_ids: one `IMAGE_SENTINEL` for each picture.
        labels: the token's id in an answer, else `IGNORE_INDEX`; all ignored if the template found no answer.
        token_spans: (turn, start, end), the characters of an assistant turn that a label token covers; None for other
            tokens and for end tokens.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    token_spans: tuple[TokenSpan | None, ...]

    @property
    def num_labels(self) -> int:
        """Number of label tokens; a picture in an answer has none."""
        return sum(label not in (IGNORE_INDEX, IMAGE_SENTINEL) for label in self.labels)


def resolve_template(template: str | Template, tokenizer: Any) -> Template:
    """The template of a name; "chat" is that of the processor or tokenizer.

    Raises:
        ValueError: unknown name, or no chat template.
    """
    if not isinstance(template, str):
        return template
    if template == "chat":
        return chat_template(tokenizer)
    if template not in TEMPLATES:
        raise ValueError(f"template={template!r}: wanted one of chat, {', '.join(TEMPLATES)}")
    words = getattr(tokenizer, "tokenizer", tokenizer)
    for token in TEMPLATES[template].control_tokens:
        if not _knows(words, token):
            raise ValueError(f"template={template!r} needs the token {token!r}, which this tokenizer has not; use chat")
    return TEMPLATES[template]


def _knows(tokenizer: Any, token: str) -> bool:
    index = tokenizer.convert_tokens_to_ids(token)
    return index is not None and tokenizer.convert_ids_to_tokens(index) == token


def encode(sample: Sample, template: str | Template, tokenizer: Any, max_length: int | None = None) -> EncodedSample:
    """Token ids and labels of a sample that ends with an answer. Nothing is truncated here.

    A record with turns that cannot be told apart (`Layout.complete`) loses all labels, as in the original code, except
    if the turns before them fill `max_length` (spec 10.4).

    Args:
        sample: the record.
        template: plain, vicuna_v1, gemma, chat, or a template.
        tokenizer: a fast tokenizer, or a processor that holds one.
        max_length: longest row, in tokens with a picture as one.

    Raises:
        BadRecord: no answer at the end, or the template has no place for something in the sample.
    """
    if sample.turns[-1].role != "assistant":
        raise BadRecord("no_answer", "the last turn is not the assistant's; nothing to learn from")
    layout = resolve_template(template, tokenizer).layout(sample)
    tokens = tokenise(layout, tokenizer)
    answers = layout.answers if layout.complete or _fills(tokens, layout, max_length) else ()
    unlearnt = [place[0] for turn, place in layout.places.items() if not sample.turns[turn].learnt]
    answers = tuple(span for span in answers if not any(span[0] <= at <= span[1] for at in unlearnt))
    learned = [_inside(token, layout.text, answers) for token in tokens]
    return EncodedSample(
        tuple(token[0] for token in tokens),
        tuple(token[0] if learn else IGNORE_INDEX for token, learn in zip(tokens, learned, strict=True)),
        tuple(_span(token, layout) if learn else None for token, learn in zip(tokens, learned, strict=True)),
    )


def prompt_ids(sample: Sample, template: str | Template, tokenizer: Any) -> tuple[int, ...]:
    """Token ids of the prompt for generation, up to the open assistant turn; the last answer is not in it."""
    layout = resolve_template(template, tokenizer).layout(sample, open_prompt=True)
    return tuple(token[0] for token in tokenise(layout, tokenizer))


def kinds(sample: Sample, encoded: EncodedSample) -> list[str | None]:
    """Kind of every token: that of the span over its first character that is no space; None without one."""
    return [_kind(sample, span) for span in encoded.token_spans]


def _kind(sample: Sample, token: TokenSpan | None) -> str | None:
    if token is None:
        return None
    turn, start, end = token
    text = sample.turns[turn].text[start:end]
    first = start + len(text) - len(text.lstrip())
    return next((span.kind for span in sample.spans if span.turn == turn and span.start <= first < span.end), None)


def tokenise(layout: Layout, tokenizer: Any) -> list[Token]:
    """Token ids of a layout, each with its characters in the text; pictures are `IMAGE_SENTINEL`.

    Raises:
        ValueError: the tokenizer does not read the template's image token as one token.
    """
    words = getattr(tokenizer, "tokenizer", tokenizer)
    tokens = _opening(words) if layout.open_with_bos else []
    if layout.whole and layout.text.count(layout.marker) == len(layout.images):
        return tokens + _whole(layout, words)
    image_token, begin = image_marker(tokenizer), 0
    for image in layout.images:
        tokens += _tokens(layout.text[begin:image], begin, words, image_token)
        begin = image + len(layout.marker)
        tokens.append((IMAGE_SENTINEL, image, begin))
    tokens += _tokens(layout.text[begin:], begin, words, image_token)
    return tokens


def _opening(tokenizer: Any) -> list[Token]:
    """The token that the tokenizer puts in front of a text, if any; an end token that it adds is dropped."""
    ids = tokenizer("")["input_ids"]
    return [(token, 0, 0) for token in ids if token != tokenizer.eos_token_id or token == tokenizer.bos_token_id][:1]


def _whole(layout: Layout, tokenizer: Any) -> list[Token]:
    """Tokenise the text in one piece, as the model's processor does; every image token is a picture."""
    tokens = list(_tokens(layout.text, 0, tokenizer, None))
    if not layout.images:
        return tokens
    marker = tokenizer.convert_tokens_to_ids(layout.marker)
    if not _knows(tokenizer, layout.marker) or sum(token == marker for token, _, _ in tokens) != len(layout.images):
        raise ValueError(f"the tokenizer does not read {layout.marker!r} as one token; add it as a special token")
    return [(IMAGE_SENTINEL if token == marker else token, start, end) for token, start, end in tokens]


def _tokens(text: str, begin: int, tokenizer: Any, image_token: str | None) -> Iterable[Token]:
    """Tokens of a piece of text that starts at `begin`; an image token's name in it is read as text."""
    if image_token and image_token in text:
        yield from _literal_tokens(text, begin, tokenizer, image_token)
    elif text:
        yield from _with_offsets(text, begin, tokenizer)


def _literal_tokens(text: str, begin: int, tokenizer: Any, image_token: str) -> Iterable[Token]:
    """Tokens of a text that holds the image token's name: other control tokens are read as such, that one is not."""
    added = [str(token.content) for token in tokenizer.added_tokens_decoder.values()]
    control = sorted((token for token in added if token != image_token), key=len, reverse=True)
    pieces = re.split("(" + "|".join(map(re.escape, control)) + ")", text) if control else [text]
    for piece in pieces:
        if piece in control:
            yield tokenizer.convert_tokens_to_ids(piece), begin, begin + len(piece)
        else:
            yield from _plain_tokens(piece, begin, tokenizer, image_token)
        begin += len(piece)


def _plain_tokens(piece: str, begin: int, tokenizer: Any, image_token: str) -> Iterable[Token]:
    """Tokens of a text in which control tokens are read as text."""
    tokens = _with_offsets(piece, begin, tokenizer, split_special_tokens=True)
    if tokenizer.convert_tokens_to_ids(image_token) in (token for token, _, _ in tokens):
        raise BadRecord(
            "image_token_in_text", f"a text holds {image_token!r}, which this tokenizer cannot read as text; rewrite it"
        )
    return tokens


def _with_offsets(text: str, begin: int, tokenizer: Any, **options: bool) -> list[Token]:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False, **options)
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [(token, begin + start, begin + end) for token, (start, end) in pairs]


def _fills(tokens: list[Token], layout: Layout, max_length: int | None) -> bool:
    """Whether the turns before the one that cannot be told apart fill `max_length`."""
    if max_length is None or not layout.answers:
        return False
    return sum(end <= layout.answers[-1][1] for _, _, end in tokens) >= max_length


def _inside(token: Token, text: str, answers: tuple[tuple[int, int], ...]) -> bool:
    """Whether the token's first character that is no space (its first, if all are spaces) lies in an answer."""
    _, start, end = token
    if start == end:
        return False
    spoken = text[start:end]
    first = start + len(spoken) - len(spoken.lstrip()) if spoken.strip() else start
    return any(begin <= first < stop for begin, stop in answers)


def _span(token: Token, layout: Layout) -> TokenSpan | None:
    if token[0] == IMAGE_SENTINEL:
        return None
    for turn, (at, first, last) in layout.places.items():
        start, end = max(token[1] - at + first, first), min(token[2] - at + first, last)
        if start < end:
            return turn, start, end
    return None
