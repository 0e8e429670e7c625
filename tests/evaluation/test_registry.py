import inspect

from contralign.evaluation.registry import EVALUATIONS


def test_every_evaluation_takes_a_model_a_collator_a_set_and_settings_with_defaults():
    for evaluate in map(EVALUATIONS.load, EVALUATIONS):
        parameters = list(inspect.signature(evaluate).parameters.values())
        assert [parameter.name for parameter in parameters[:3]] == ["model", "collator", "data"]
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters[3:])
        assert all(parameter.default is not parameter.empty for parameter in parameters[3:])
