"""A sample as transformers' own chat templates read it."""

from contralign.data.records.messages import IMAGE, Sample


def hf_messages(sample: Sample) -> list[dict]:
    pictures, messages = iter(sample.pictures), []
    for turn in sample.turns:
        parts = []
        for index, piece in enumerate(turn.text.split(IMAGE)):
            if index:
                parts.append({"type": "image", "image": next(pictures)})
            if piece:
                parts.append({"type": "text", "text": piece})
        messages.append({"role": turn.role, "content": parts})
    return messages
