"""From records to batches: read samples, tokenise and label them, collate them, and keep their scores."""

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

__getattr__, __dir__ = lazy(__name__)
