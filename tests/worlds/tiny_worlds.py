"""A world of plain coloured pictures, and tiny LLaVAs that see it or are blind to it."""

from __future__ import annotations

import torch
from PIL import Image

from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import IMAGE, Sample, Span, Turn
from contralign.models.small.tiny import build_tiny

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 160, 40),
    "blue": (30, 50, 220),
    "white": (250, 250, 250),
    "black": (5, 5, 5),
    "orange": (250, 140, 10),
}
REMARKS = ("i like it", "who knows", "not bad")


def coloured(name, colour, remark=0, told=None):
    """A picture of one colour, and a caption with one visual word and a remark."""
    told = told or colour
    text = f"{REMARKS[remark % 3]} . {told} ."
    start = text.index(told)
    spans = (
        Span(1, 0, start - 3, "filler"),
        Span(1, start, start + len(told), "visual" if told == colour else "contradictory"),
    )
    picture = Image.new("RGB", (32, 32), COLOURS[colour])
    return Sample(name, (Turn("user", f"{IMAGE}\nsay it"), Turn("assistant", text)), (picture,), spans)


def coloured_samples(count=12):
    """Every colour in turn; remarks do not depend on it."""
    return [coloured(f"c{number}", list(COLOURS)[number % 6], number // 6) for number in range(count)]


def tiny_pair(samples):
    """An untrained tiny LLaVA of 4 image tokens and its collator."""
    texts = [turn.text for sample in samples for turn in sample.turns]
    model, processor = build_tiny(
        texts,
        image_size=32,
        patch_size=16,
        tower_hidden=32,
        tower_layers=1,
        hidden=32,
        layers=2,
        heads=2,
        vocab_size=320,
    )
    return model.eval(), VLCollator(processor)


def seeing_pair(samples, steps=300):
    """The same, trained until it says what it sees: with half the steps a caption may yet go wrong."""
    model, collator = tiny_pair(samples)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = collator(samples)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval(), collator


def blind_pair(samples):
    """No token hears of another: without attention the picture reaches no word at all.

    Its Δ is 0 and no rounding, whatever the kernels: states pass a norm in float32, and times a head of few digits they
    add up exactly in float64.
    """
    model, collator = tiny_pair(samples)
    model.double()
    with torch.no_grad():
        model.lm_head.weight.copy_((model.lm_head.weight * 2**12).round() / 2**12)
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
    return model, collator
