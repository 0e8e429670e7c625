"""`scenes`: an endless, repeatable set of pictures and texts in which the kind of every word is known.

Δ is scored on it, and ablations run on it. A visual word of few choices can give only a small Δ (8 colours: ln 8 = 2.1
nats), so that the clamp to [1, 5] hardly varies; names of signs (ln 256 = 5.5), printed words (5.5) and numbers (4.5)
are there to let weights differ.

How much of a caption is to be seen, and how hard the rest is to guess, are set apart from each other (`Difficulty`).
With four lines of the demo's things a caption has 9 visual words of 25 nats in all; each of its words is one token, the
end another one:

    ==============================================  ============  ============  ===========
    fillers, filler_names, boilerplate, asides      label tokens  share visual  filler nats
    ==============================================  ============  ============  ===========
    0, 0, 0, 0                                                30          0.30            6
    0, 0, 0, 1.0                                              38          0.24           29
    2, 0, 0, 0 (the demo)                                     46          0.20           33
    2, 10, 0, 0                                               68          0.13          139
    6, 0, 0, 0 and filler_choices 1                           77          0.12           14
    0, 0, 8, 0                                               134          0.07           22
    6, 10, 0, 0                                              143          0.06          406
    4, 8, 4, 0                                               149          0.06          238
    ==============================================  ============  ============  ===========

Filler nats are the logarithms of the choices for words; where among the sentences a filler comes is not counted.
"""

import random
from collections.abc import Iterator

from contralign.data.records.messages import Sample
from contralign.data.sets.scenes.scene_difficulty import Difficulty
from contralign.data.sets.scenes.scene_image import paint
from contralign.data.sets.scenes.scene_items import Scene, draw_scene
from contralign.data.sets.scenes.scene_text import caption, questions, short_list
from contralign.data.sets.splits import Split, check_choice, split_of


def scenes(split: Split, count: int, seed: int = 0, **difficulty) -> list[Sample]:
    """The first `count` samples of an endless list that depends on nothing but the other arguments.

    No combination of an answer's words is in both splits, whatever the seeds: see `split_of_scene`.

    Args:
        split: "train" or "heldout".
        count: how many; a longer list begins with the shorter one.
        seed: another seed gives another list.
        difficulty: fields of `Difficulty`.

    Raises:
        ValueError: an unknown split, a negative count, or a difficulty out of range.
        TypeError: a difficulty that there is no name for.
    """
    return [sample for sample, _ in scenes_with_truth(split, count, seed, **difficulty)]


def scenes_with_truth(split: Split, count: int, seed: int = 0, **difficulty) -> Iterator[tuple[Sample, Scene]]:
    """The samples of `scenes`, each with all that its picture shows."""
    settings = Difficulty(**difficulty)
    check_choice("split", split, Split)
    if count < 0:
        raise ValueError(f"count={count}: wanted 0 or more")
    return (_make(split, number, seed, settings) for number in range(count))


def split_of_scene(scene: Scene) -> Split:
    """The split that a scene belongs to: a hash of the words of all its items decides."""
    return split_of(" ".join(word for item in scene.items for word in item.words))


def _make(split: Split, number: int, seed: int, difficulty: Difficulty) -> tuple[Sample, Scene]:
    rng = random.Random(f"scenes {seed} {split} {number}")
    scene = draw_scene(rng, difficulty)
    while split_of_scene(scene) != split:
        scene = draw_scene(rng, difficulty)
    task = rng.choice(("caption", "question")) if difficulty.task == "mixed" else difficulty.task
    match task:
        case "list":
            turns, spans = short_list(scene, difficulty, rng)
        case "caption":
            turns, spans = caption(scene, difficulty, rng)
        case _:
            turns, spans = questions(scene, difficulty, rng)
    name = f"scenes/{split}/{seed}/{number}"
    return Sample(name, turns, (paint(scene),), spans, source=f"scenes/{split}"), scene
