"""From records to batches: read samples, tokenise and label them, collate them, and keep their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contralign.public import lazy

if TYPE_CHECKING:
    from contralign.data.batches.collator import VLCollator
    from contralign.data.records.bad_record import BadRecord
    from contralign.data.records.messages import IMAGE, Sample, Span, Turn
    from contralign.data.records.mixture import LoadReport, SampleSet, load_samples
    from contralign.data.scores.score_file import ScoreFile, ScoreMismatch
    from contralign.data.streams.streaming import StreamedSamples

__all__ = [
    "IMAGE",
    "BadRecord",
    "LoadReport",
    "Sample",
    "SampleSet",
    "ScoreFile",
    "ScoreMismatch",
    "Span",
    "StreamedSamples",
    "Turn",
    "VLCollator",
    "load_samples",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "BadRecord": "contralign.data.records.bad_record",
        "IMAGE": "contralign.data.records.messages",
        "LoadReport": "contralign.data.records.mixture",
        "Sample": "contralign.data.records.messages",
        "SampleSet": "contralign.data.records.mixture",
        "ScoreFile": "contralign.data.scores.score_file",
        "ScoreMismatch": "contralign.data.scores.score_file",
        "Span": "contralign.data.records.messages",
        "StreamedSamples": "contralign.data.streams.streaming",
        "Turn": "contralign.data.records.messages",
        "VLCollator": "contralign.data.batches.collator",
        "load_samples": "contralign.data.records.mixture",
    },
)
