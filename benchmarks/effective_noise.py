"""How much noise is left once CAL has weighed it? Mean weights of visual words under right and wrong pictures.

    python benchmarks/effective_noise.py STORE     # where `contralign ablate tiny/noise --store STORE` left its models

Reads held-out scenes with the models from which the arms of the tiny ablations part. If a share ρ of the captions has a
wrong picture, wrong visual words make up ρ·w₋ / (ρ·w₋ + (1 − ρ)·w₊) of the weighted loss on visual words, where w₊ and
w₋ are the mean weights with the right and with a wrong picture; under MLE that is ρ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from contralign.evaluation.label_tokens import LabelTokens, read_right_and_wrong
from contralign.evaluation.metrics.paired import mean_of
from contralign.evaluation.wrong_images import with_wrong_images
from contralign.recipe.recipe_file import find_recipe, load_recipe
from contralign.run.build import load_model, load_processor
from contralign.run.records import RecordReader, make_collator

SAMPLES, NOISE = 300, 0.3
SCORES = ("logit", "centred", "logprob")


def starts(store: Path) -> dict[int, Path]:
    """Model directories of the last shared stage by seed."""
    found = {}
    for path in sorted((store / "steps").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["stage"] == "talk" and path.with_suffix("").is_dir():
            found.setdefault(record["seed"], path.with_suffix(""))
    return dict(sorted(found.items()))


def weights(model: Path) -> dict[str, float]:
    """Mean weights of visual and filler words, by score and picture."""
    recipe = load_recipe(find_recipe("tiny/world"))
    collate = make_collator(load_processor(str(model)), recipe.data)
    samples = RecordReader().read(recipe.data, recipe.data.eval, "data", collate.check).samples[:SAMPLES]
    read = load_model(str(model), recipe.model).eval()
    right, wrong = read_right_and_wrong(read, collate, samples, with_wrong_images(samples, 0))
    return {
        f"{score} {kind} {picture}": _mean_weight(tokens, score, kind)
        for score in SCORES
        for kind in ("visual", "filler")
        for picture, tokens in (("right", right), ("wrong", wrong))
    }


def _mean_weight(tokens: LabelTokens, score: str, kind: str) -> float:
    return float(tokens.weight[score][tokens.kind == kind].mean())  # type: ignore[index]


def main() -> None:
    found = {seed: weights(model) for seed, model in starts(Path(sys.argv[1])).items()}
    if not found:
        sys.exit(
            f"{sys.argv[1]}: no models there; run `contralign ablate tiny/noise --keep-models --store {sys.argv[1]}`"
        )
    print("| Δ | visual, right picture | visual, wrong picture | filler | noise left of 30 % | seeds |")
    print("|---|---|---|---|---|---|")
    for score in SCORES:
        right, wrong, filler = (
            [line[f"{score} {place}"] for line in found.values()]
            for place in ("visual right", "visual wrong", "filler right")
        )
        left = [NOISE * w / (NOISE * w + (1 - NOISE) * r) for r, w in zip(right, wrong, strict=True)]
        print(
            f"| {score} | {_words(right)} | {_words(wrong)} | {_words(filler)} | {_words(left, 100)} | {len(found)} |"
        )


def _words(values: list[float], scale: float = 1.0) -> str:
    over_seeds = mean_of([scale * value for value in values])
    digits = 1 if scale > 1 else 2
    interval = "" if over_seeds.low is None else f" ({over_seeds.low:.{digits}f} to {over_seeds.high:.{digits}f})"
    return f"{over_seeds.mean:.{digits}f}{interval}"


if __name__ == "__main__":
    main()
