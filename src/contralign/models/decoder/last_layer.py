"""The last decoder layer, computed only at the tokens whose output is read.

Behind the last layer's attention no token reads another, and the loss reads label tokens alone. So the output
projection of attention, the feed-forward and the norms behind it run on those tokens. The layer's own modules run; only
their order is written here, and it is compared with the layer's own forward before it is trusted.
"""

import inspect
import logging
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from contralign.core.passes import eval_no_grad

logger = logging.getLogger(__name__)

READ_AT = "contralign_read_at"
_PARTS = ("self_attn", "mlp", "input_layernorm")
_NORMS: tuple[tuple[str | None, str, str | None], ...] = (
    (None, "post_attention_layernorm", None),  # LLaMA
    ("post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),  # Gemma 2 and 3
    ("post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"),  # GLM-4V
)
"""Norms behind attention, before the feed-forward, and behind it, by how a layer is built."""
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF_TOLERANCE = 0.05


class LastLayer:
    """Lets a decoder compute its last layer at some tokens only, where that layer is built like LLaMA's or Gemma's.

    Which tokens travels as a keyword argument through the decoder to its layers: under activation checkpointing the
    layer runs again in the backward pass, and must then read the tokens of its own first run.

    Args:
        decoder: the text model; where its last layer is built otherwise, nothing is changed.

    Attributes:
        works: None until the first tokens were read both ways and compared, then whether they were equal.
    """

    def __init__(self, decoder: nn.Module) -> None:
        layers = getattr(decoder, "layers", None)
        layer = layers[-1] if isinstance(layers, nn.ModuleList) and len(layers) else None
        fits = layer is not None and _norms_of(layer) is not None and _passes_keywords(decoder) and _install(layer)
        self.works: bool | None = None if fits else False

    def arguments(self, read_at: Int[Tensor, " tokens"]) -> dict[str, Any]:
        """Keyword arguments for the decoder; with them its output holds the tokens read at alone, (1, tokens, hidden).

        Args:
            read_at: flat indices over (batch, seq), ascending.
        """
        return {} if self.works is False else {READ_AT: _ReadPositions(read_at, self)}

    def decide(self, layer: Any, hidden_states: Tensor, read_at: Tensor, **kwargs: Any) -> None:
        """Read the tokens both ways, without dropout, and see whether they are equal."""
        with eval_no_grad(layer):
            theirs = type(layer).forward(layer, hidden_states, **kwargs).flatten(0, 1)[read_at]
            try:
                ours = _read(layer, hidden_states, read_at, **kwargs).squeeze(0)
            except TypeError:  # its attention takes other arguments
                self.works = False
                return
        tolerance = _TOLERANCE.get(theirs.dtype, _HALF_TOLERANCE) * float(theirs.abs().max())
        self.works = float((ours - theirs).abs().max()) <= tolerance
        if not self.works:
            logger.info(
                "the last layer is computed at every token: %s is not like LLaMA's or Gemma's", type(layer).__name__
            )


class _ReadPositions:
    """Where to read, and whose comparison says whether that may be done."""

    def __init__(self, read_at: Tensor, owner: LastLayer) -> None:
        self.read_at, self.owner = read_at, owner


def _norms_of(layer: nn.Module) -> tuple[str | None, str, str | None] | None:
    """The line of `_NORMS` that names a layer's parts, beside attention, feed-forward and the norm before all."""
    parts = {name for name, _ in layer.named_children()}
    return next((norms for norms in _NORMS if parts == {*_PARTS, *norms} - {None}), None)


def _passes_keywords(decoder: nn.Module) -> bool:
    kinds = [parameter.kind for parameter in inspect.signature(decoder.forward).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds


def _install(layer: Any) -> bool:
    """Give a layer a forward that reads at some tokens when a call says so, and its own otherwise.

    It is a bound method, so that a deep copy of the model runs its own. A forward that somebody else replaced is left.
    """
    if "forward" in layer.__dict__:
        return getattr(layer.forward, READ_AT, False)
    layer.forward = types.MethodType(_forward, layer)
    return True


def _forward(self: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    places: _ReadPositions | None = kwargs.pop(READ_AT, None)
    if places is None:
        return type(self).forward(self, hidden_states, *args, **kwargs)
    read_at, owner = places.read_at, places.owner
    if owner.works is None and not args and read_at.numel():
        owner.decide(self, hidden_states, read_at, **kwargs)
    if owner.works and not args:
        return _read(self, hidden_states, read_at, **kwargs)
    return type(self).forward(self, hidden_states, *args, **kwargs).flatten(0, 1)[read_at].unsqueeze(0)


setattr(_forward, READ_AT, True)


def _read(
    layer: Any, hidden_states: Float[Tensor, "batch seq hidden"], read_at: Int[Tensor, " tokens"], **kwargs: Any
) -> Float[Tensor, "1 tokens hidden"]:
    """A layer at some tokens: keys, values and queries of all, everything behind them where it is read."""
    norms = _norms_of(layer)
    assert norms is not None
    behind_attention, before_mlp, behind_mlp = (getattr(layer, name) if name else nn.Identity() for name in norms)
    with _projected_at(layer.self_attn, read_at):
        attended = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **kwargs)[0]
    rows = _picked(hidden_states, read_at)
    rows = rows + behind_attention(attended if attended.shape == rows.shape else _picked(attended, read_at))
    return rows + behind_mlp(layer.mlp(before_mlp(rows)))


def _picked(states: Float[Tensor, "batch seq hidden"], read_at: Int[Tensor, " tokens"]) -> Tensor:
    return states.flatten(0, 1)[read_at].unsqueeze(0)


@contextmanager
def _projected_at(attention: Any, read_at: Int[Tensor, " tokens"]) -> Iterator[None]:
    """Within the context the attention's output projection is given the tokens read at alone."""
    projection = getattr(attention, "o_proj", None)
    if projection is None:
        yield
        return
    hook = projection.register_forward_pre_hook(lambda _, inputs: (_picked(inputs[0], read_at),))
    try:
        yield
    finally:
        hook.remove()
