"""The section `trainer` is checked against the installed transformers, which is not imported for it."""

import dataclasses
from typing import Any

import pytest
from transformers import TrainingArguments

from contralign.recipe.schema import RecipeError
from contralign.recipe.trainer_arguments import OWNED, check_trainer, trainer_arguments


def test_the_arguments_are_those_of_the_class():
    assert {*trainer_arguments(), *OWNED} == {item.name for item in dataclasses.fields(TrainingArguments)}


def test_types_are_read_where_they_are_plain():
    known = trainer_arguments()
    assert known["bf16"] is bool
    assert known["logging_steps"] is float
    assert known["parallelism_config"] is Any


@pytest.mark.parametrize(
    "settings", [{"bf16": True}, {"save_steps": None, "report_to": ["wandb"]}, {"fsdp": True}, {"logging_steps": 5}]
)
def test_sound_arguments_pass(settings):
    check_trainer({name: value for name, value in settings.items() if value is not None})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loging_steps": 5}, "trainer.loging_steps: unknown setting; did you mean 'logging_steps'"),
        ({"bf16": 1.5}, "trainer.bf16: wanted true or false, got 1.5"),
        ({"max_steps": 5}, "trainer.max_steps: set stages.NAME.steps instead"),
    ],
)
def test_others_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        check_trainer(settings)
