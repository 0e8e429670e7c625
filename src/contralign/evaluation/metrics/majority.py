"""What one gets right without looking: always giving the most frequent answer."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from contralign.evaluation.metrics.accuracy import normalise


def majority_answers(answered: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The most frequent answer to every type of question, normalised; among equals the one seen first.

    Args:
        answered: (type of question, answer) pairs of the training set.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for kind, answer in answered:
        counts[kind][normalise(answer)] += 1
    return {kind: seen.most_common(1)[0][0] for kind, seen in counts.items()}


def majority_hits(guesses: dict[str, str], asked: Iterable[tuple[str, str]]) -> list[bool]:
    """Whether the guess for a question's type is its answer; a type without a guess is wrong.

    Args:
        guesses: from `majority_answers`.
        asked: (type of question, reference answer) pairs of the test set.
    """
    return [guesses.get(kind) == normalise(answer) for kind, answer in asked]
