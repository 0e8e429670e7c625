"""Greedy generation of the last answer of samples, in batches."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from tqdm.auto import tqdm

from contralign.batch import IGNORE_INDEX
from contralign.core.passes import eval_no_grad
from contralign.data.batches.collator import VLCollator
from contralign.data.batches.image_inputs import image_inputs
from contralign.data.records.messages import Sample, open_image
from contralign.data.text.image_token_expansion import expand_images
from contralign.data.text.loss_mask import EncodedSample, prompt_ids
from contralign.models.adapters.registry import bare_model


def generate(
    model: Any, collator: VLCollator, samples: Sequence[Sample], *, max_new_tokens: int = 64, batch_size: int = 64
) -> list[str]:
    """Generate the last answer of every sample greedily, up to the end token.

    The prompt is the sample without its last answer. Prompts are sorted by length, padded on the left and never
    truncated, whatever the collator's `max_length`.

    Args:
        model: a Hugging Face image-text-to-text model.
        collator: its processor, template and treatment of pictures are used.
        samples: any samples, with pictures or without.
        max_new_tokens: longest answer.
        batch_size: prompts at a time.

    Returns:
        One text a sample, in their order, stripped of white space and without special tokens.

    Raises:
        BadRecord: the template refuses a sample, or a picture cannot be decoded.
        ValueError: a token limit below 1.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens}: wanted 1 or more")
    inner = bare_model(model)
    ids = [prompt_ids(sample, collator.template, collator.processor) for sample in samples]
    order = sorted(range(len(samples)), key=lambda index: len(ids[index]))
    said = [""] * len(samples)
    for start in tqdm(range(0, len(order), batch_size), desc="generating", disable=None, dynamic_ncols=True):
        chosen = order[start : start + batch_size]
        inputs = _prompts(collator, [samples[index] for index in chosen], [ids[index] for index in chosen])
        texts = _continue(inner, collator.tokenizer, inputs, max_new_tokens)
        for index, text in zip(chosen, texts, strict=True):
            said[index] = text
    return said


def _prompts(collator: VLCollator, samples: Sequence[Sample], prompts: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    """Left-padded inputs of the model, pictures in place."""
    pictures = [open_image(picture) for sample in samples for picture in sample.pictures]
    made = image_inputs(collator.processor, pictures, collator.image_aspect)
    rows: list[tuple[int, ...]] = []
    fields: dict[str, list[list[int]]] = {name: [] for name in made.token_fields}
    first = 0
    for sample, ids in zip(samples, prompts, strict=True):
        own = slice(first, first + len(sample.pictures))
        first = own.stop
        row = expand_images(EncodedSample(ids, (IGNORE_INDEX,) * len(ids), (None,) * len(ids)), made.blocks[own])
        rows.append(row.input_ids)
        for name, values in made.token_fields.items():
            line = [0] * len(row.input_ids)
            for start, block in zip(row.image_starts, values[own], strict=True):
                line[start : start + len(block)] = block
            fields[name].append(line)
    return {
        "input_ids": _left_padded(rows, collator.tokenizer.pad_token_id),
        "attention_mask": _left_padded([(1,) * len(row) for row in rows], 0),
        **{name: _left_padded(lines, 0) for name, lines in fields.items()},
        **made.vision,
    }


def _left_padded(rows: Sequence[Sequence[int]], filling: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[filling] * (width - len(row)) + list(row) for row in rows])


def _continue(model: Any, tokenizer: Any, inputs: dict[str, Any], max_new_tokens: int) -> list[str]:
    with torch.inference_mode(), eval_no_grad(model):
        sequences = model.generate(
            **send_to_device(inputs, model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=_end_tokens(model, tokenizer),
            pad_token_id=tokenizer.pad_token_id,
        )
    answers = sequences[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """End tokens of the model's generation settings, and the tokenizer's."""
    given = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id} | (set(given) if isinstance(given, list) else {given})
    return sorted(ends - {None})
