"""Accuracy on questions with short answers, beside baselines that do not see the picture."""

from collections.abc import Callable, Sequence
from typing import Any

from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import IMAGE, Sample
from contralign.data.sets.easy_vqa import wording
from contralign.evaluation.evaluation_set import EvaluationSet, Numbers, draw
from contralign.evaluation.generation import generate
from contralign.evaluation.metrics.accuracy import accuracy, exact_match
from contralign.evaluation.metrics.majority import majority_answers, majority_hits

QUESTION_TYPES: dict[str, Callable[[str], str]] = {"easy_vqa": wording}
"""By the source of a sample: question -> its type."""


def answer_accuracy(
    model: Any,
    collator: VLCollator,
    data: EvaluationSet,
    *,
    max_new_tokens: int = 8,
    batch_size: int = 256,
    limit: int | None = None,
) -> Numbers:
    """Greedy answers to the last question of every sample, compared with the reference by `exact_match`.

    Args:
        model: a Hugging Face image-text-to-text model.
        collator: of its processor.
        data: held-out samples; the baselines are the most frequent answers of `train`.
        max_new_tokens: longest answer.
        batch_size: questions at a time.
        limit: most questions, drawn by the seed; None is all.

    Returns:
        - `samples`: questions asked.
        - `accuracy`: value, Wilson's 95 % interval (every question as an independent trial) and n.
        - `majority`: the same for always giving the training set's most frequent answer, and `answer` itself.
        - `type_majority`: the same for its most frequent answer to this type of question; what a model can learn
          without pictures. None without `train` or where no sample's type is known.
        - `types[type]`: `accuracy` and `majority` of every known type.
        - `misses`: up to 20 wrong answers with their id, type, reference and answer.

    Raises:
        ValueError: no samples, or one that ends without an answer.
    """
    samples = draw(data.samples, limit, data.seed, "answers")
    if not samples:
        raise ValueError("no samples to ask about: wanted at least one")
    references = [_reference(sample) for sample in samples]
    answers = generate(model, collator, samples, max_new_tokens=max_new_tokens, batch_size=batch_size)
    right = [exact_match(answer, reference) for answer, reference in zip(answers, references, strict=True)]
    types = [question_type(sample) for sample in samples]
    train = [(question_type(sample), _reference(sample)) for sample in data.train]
    type_hits = majority_hits(majority_answers(train), zip(types, references, strict=True))
    return {
        "samples": len(samples),
        "accuracy": accuracy(right).as_dict(),
        "majority": _majority([answer for _, answer in train], references),
        "type_majority": accuracy(type_hits).as_dict() if train and any(types) else None,
        "types": {
            kind: _of_type(kind, types, right, type_hits if train else None) for kind in sorted(set(types)) if kind
        },
        "misses": [
            {"id": sample.id, "type": kind, "reference": reference, "answer": answer}
            for sample, kind, reference, answer, hit in zip(samples, types, references, answers, right, strict=True)
            if not hit
        ][:20],
    }


def question_type(sample: Sample) -> str:
    """Type of a sample's last question; "" where its source has no types."""
    find = QUESTION_TYPES.get(sample.source)
    if find is None:
        return ""
    question = [turn.text for turn in sample.turns if turn.role == "user"][-1]
    return find(question.replace(IMAGE, "").strip())


def _reference(sample: Sample) -> str:
    if sample.turns[-1].role != "assistant":
        raise ValueError(f"sample {sample.id!r} ends without an answer to compare with")
    return sample.turns[-1].text


def _majority(trained: Sequence[str], references: Sequence[str]) -> Numbers | None:
    """The most frequent answer of all, and how often it is right."""
    if not trained:
        return None
    guesses = majority_answers(("", answer) for answer in trained)
    hits = majority_hits(guesses, (("", reference) for reference in references))
    return {"answer": guesses[""], **accuracy(hits).as_dict()}


def _of_type(kind: str, types: Sequence[str], right: Sequence[bool], guessed: Sequence[bool] | None) -> Numbers:
    here = [index for index, found in enumerate(types) if found == kind]
    return {
        "accuracy": accuracy([right[index] for index in here]).as_dict(),
        "majority": accuracy([guessed[index] for index in here]).as_dict() if guessed is not None else None,
    }
