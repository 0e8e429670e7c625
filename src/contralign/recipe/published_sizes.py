"""How many records the published files have, so that a run can be planned before they are downloaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PublishedCount:
    """Records of a published file, or of several together.

    Attributes:
        records: how many.
        is_exact: False where only a rounded number was published.
    """

    records: int
    is_exact: bool = True


PUBLISHED: dict[str, PublishedCount] = {
    "blip_laion_cc_sbu_558k.json": PublishedCount(records=558_128),
    "llava_v1_5_mix665k.json": PublishedCount(records=665_298),
    "sharegpt4v_instruct_gpt4-vision_cap100k.json": PublishedCount(records=102_025),
    "docvqa_train.json": PublishedCount(records=39_463),
    "chartqa_train.json": PublishedCount(records=28_299),
    "mgm_pretrain.json": PublishedCount(records=1_200_000, is_exact=False),
    "mgm_instruction.json": PublishedCount(records=1_500_000, is_exact=False),
}
"""File name -> records (training_spec, section 3). DocVQA and ChartQA count questions, one record each;
of Mini-Gemini's files the paper gives rounded numbers."""


def published_count(sources: Sequence[str]) -> PublishedCount | None:
    """Records of all sources together, known by their file names; None where one of them is not published."""
    found = [PUBLISHED.get(Path(source).name) for source in sources]
    known = [count for count in found if count is not None]
    if len(known) < len(found):
        return None
    return PublishedCount(
        records=sum(count.records for count in known), is_exact=all(count.is_exact for count in known)
    )
