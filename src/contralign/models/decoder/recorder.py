"""Record the arguments that a model's forward hands to one of its modules, without running that module."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPast


class EmptyOutput(BaseModelOutputWithPast):
    """Output of a module that did not run: None for every other field of the family's own output class."""

    def __getattr__(self, name: str) -> None:
        """See above; methods are found without it."""
        if name.startswith("_"):
            raise AttributeError(name)


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the context `module(...)` runs `forward`; hooks on the module still run."""
    before = module.__dict__.get("forward")
    module.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before  # type: ignore[method-assign]


def recorded_arguments(module: nn.Module, call: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """What `call` hands to a module of the model, by name, and what it returns; the module itself does not run."""
    arguments: dict[str, Any] = {}
    own_forward = module.forward

    def record(*args: Any, **kwargs: Any) -> EmptyOutput:
        arguments.update(named_arguments(own_forward, args, kwargs))
        return EmptyOutput(last_hidden_state=arguments.get("inputs_embeds"))

    with forward_replaced(module, record):
        returned = call()
    return arguments, returned


def named_arguments(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a call by name, those that are None left out, those of **kwargs laid flat."""
    signature = inspect.signature(forward)
    flat: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            flat.update(value)
        else:
            flat[name] = value
    return {name: value for name, value in flat.items() if value is not None}
