"""Operations of the towers, the mining and the projector, which run once a step whatever the mode."""

from contralign.bench.plan.operations.counting import Counting
from contralign.bench.plan.operations.decoder import Pass
from contralign.bench.plan.operations.work import Work
from contralign.bench.plan.shapes import Tower, VLModel


def vision_forward(model: VLModel) -> Work:
    """All of vision, forward."""
    if not model.tiles:
        return Work()
    tower = _tower_pass(model.tower, model.tower.layers).forward() + _patch_embedding(model.tower)
    flops = model.tiles * tower + _projector(model)
    if model.aux:
        flops += 2 * (model.aux.tower_products + model.tiles * model.aux.mining_products)
    return Work(flops)


def vision_backward(model: VLModel, counting: Counting) -> Work:
    """Gradients of what is trained, with what checkpointing computes again.

    The projector needs the gradient of its input only where something before it is trained; the mined keys and values
    come from a frozen tower and need gradients of weights alone.
    """
    if not model.tiles:
        return Work()
    flops = 2 * _projector(model)
    if not model.train_tower and model.aux is None:
        flops -= 2 * model.tiles * model.tower.patches * model.tower.hidden * model.decoder.hidden
    if model.aux:
        flops += 2 * model.tiles * model.aux.mining_products
    if model.train_tower:
        read = _tower_pass(model.tower, model.tower.read_layers)
        flops += model.tiles * (read.recomputed(counting) + read.backward(counting) + _patch_embedding(model.tower))
    return Work(flops)


def _tower_pass(tower: Tower, layers: int) -> Pass:
    """One tile through the first `layers` layers; every token sees every other, one class token included."""
    tokens = tower.patches + 1
    return Pass(
        linear=2 * layers * tower.layer_weights * tokens,
        attention=4 * tower.hidden * layers * tokens**2,
        last_products=2 * layers * tower.hidden * tower.intermediate * tokens,
    )


def _patch_embedding(tower: Tower) -> float:
    """Forward, and as much again for the gradient of its weights; pixels have none."""
    return 2 * tower.patches * tower.patch_weights


def _projector(model: VLModel) -> float:
    return 2 * model.tiles * model.tower.patches * model.projector_weights
