"""What the section `trainer` may hold: the arguments of the installed transformers' TrainingArguments.

They are read from its source file: importing transformers takes seconds, and a misspelt name is to be said at once.
"""

import functools
import operator
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from contralign.nearest import nearest
from contralign.recipe.schema import RecipeError, convert

OWNED = {
    "output_dir": "output_dir",
    "run_name": "name",
    "seed": "seed",
    "data_seed": "seed",
    "learning_rate": "stages.NAME.learning_rate",
    "max_steps": "stages.NAME.steps",
    "num_train_epochs": "stages.NAME.epochs",
    "per_device_train_batch_size": "stages.NAME.batch_size",
    "gradient_accumulation_steps": "stages.NAME.grad_accumulation",
    "warmup_steps": "stages.NAME.warmup",
    "lr_scheduler_type": "stages.NAME.schedule",
    "weight_decay": "stages.NAME.weight_decay",
    "max_grad_norm": "stages.NAME.max_grad_norm",
    "resume_from_checkpoint": "--resume on the command line",
    "gradient_checkpointing": "trainer.activation_checkpointing",
    "gradient_checkpointing_kwargs": "trainer.activation_checkpointing_kwargs",
    "remove_unused_columns": "nothing; the collator needs every column, so leave it out and do not set it",
}
"""Arguments that other sections of a recipe say, and which."""
_PLAIN = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict, "list": list, "None": type(None)}


@functools.cache
def trainer_arguments() -> dict[str, Any]:
    """Name -> type of every argument that a recipe may set; Any where the type is not made of plain ones."""
    package = find_spec("transformers")
    assert package is not None and package.origin is not None  # a dependency of contralign
    source = Path(package.origin).with_name("training_args.py").read_text(encoding="utf-8")
    fields = re.findall(r"(?m)^    (\w+): ([^=\n]+?)(?: = .*)?$", source.partition("\nclass TrainingArguments")[2])
    known = {name: _kind(annotation) for name, annotation in fields if name not in OWNED}
    known["fsdp"] = known["fsdp"] | bool  # annotated as text, documented as true or false
    return known


def _kind(annotation: str) -> Any:
    plain = [_PLAIN[word] for word in re.findall(r"\w+", annotation) if word in _PLAIN]
    return functools.reduce(operator.or_, plain) if set(plain) - {type(None)} else Any


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Refuse arguments that the Trainer does not have, that have another type, or that another section says.

    Args:
        settings: the section `trainer`.

    Raises:
        RecipeError: with the argument's name.
    """
    for name, value in settings.items():
        if name in OWNED:
            raise RecipeError(f"trainer.{name}: set {OWNED[name]} instead")
        if name not in trainer_arguments():
            raise RecipeError(f"trainer.{name}: unknown setting; {nearest(name, trainer_arguments())}")
        convert(value, trainer_arguments()[name], f"trainer.{name}")
