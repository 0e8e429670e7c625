"""Score files of the tiny worlds, from models whose Δ spreads far enough for weights to differ."""

from __future__ import annotations

from worlds.small_models import spread
from worlds.tiny_worlds import coloured_samples, tiny_pair

from contralign.contrast.drop import DropImage
from contralign.data.records.messages import Sample, Turn
from contralign.data.records.mixture import load_samples
from contralign.data.scores.score_file import ScoreFile
from contralign.scoring import score_samples


def text_sample(name="text"):
    """A sample without a picture."""
    return Sample(name, (Turn("user", "say it"), Turn("assistant", "who knows . not bad .")))


def spread_pair(samples):
    """A tiny LLaVA of large random weights, and its collator."""
    model, collator = tiny_pair(samples)
    return spread(model), collator


def mixed_samples(count=10):
    """Pictures with captions, and one text."""
    return [*coloured_samples(count), text_sample()]


def scored(path, model, collator, samples, score="logit", about=None, **settings):
    """A score file of `samples`, opened."""
    summary = score_samples(
        lambda: model,
        collator,
        load_samples(samples, on_bad=collator.on_bad),
        path,
        {"version": "test", "model": "tiny", "data": {}, **(about or {})},
        **{"contrast": DropImage(), "batch_size": 4, "part_size": 4, **settings},
    )
    return ScoreFile.open(summary.path, f"delta_{score}")
