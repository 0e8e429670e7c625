"""Run by test_llava_next.py under torchrun: a tiny LLaVA-NeXT sharded by FSDP2 on two ranks, and an unsharded twin.

In every step one rank has text alone and the other pictures, or both have text alone. Usage: next_ranks.py FOLDER
"""

import faulthandler
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from worlds.small_llava_next import build_llava_next, in_dtype, samples

from contralign import ContrastiveAlignment
from contralign.cli.ranks import hard_exit
from contralign.data.batches.collator import VLCollator
from contralign.run.learning.trainable_parts import freeze_unread_layers

WIDE, TEXT, TWO, STRIP = samples()
STEPS = [([WIDE, TWO], [TEXT, TEXT]), ([TEXT], [STRIP]), ([TEXT], [TEXT]), ([TWO, TEXT], [TEXT]), ([TEXT], [WIDE, TWO])]


def trained(sharded: bool) -> dict:
    """Losses of the steps, and the weights after them."""
    model, processor = build_llava_next(torch.float64)
    freeze_unread_layers(model)
    alignment = ContrastiveAlignment(model)
    if sharded:
        tower = model.model.vision_tower
        for unit in (*model.model.language_model.layers, *tower.encoder.layers, model.model.multi_modal_projector):
            fully_shard(unit)
        fully_shard(model)
    optimizer = torch.optim.SGD([weights for weights in model.parameters() if weights.requires_grad], lr=0.05)
    collate, losses = VLCollator(processor), []
    for rows in STEPS:
        mine = rows[dist.get_rank()] if sharded else rows[0] + rows[1]
        out = alignment(in_dtype(collate(mine), torch.float64))
        terms = torch.stack([out.numerator.detach(), out.denominator])
        if sharded:
            dist.all_reduce(terms)
        ((dist.get_world_size() if sharded else 1) * out.numerator / terms[1]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append((terms[0] / terms[1]).item())
    weights = {name: p.full_tensor() if isinstance(p, DTensor) else p for name, p in model.named_parameters()}
    return {
        "loss": losses,
        "newline": weights["model.image_newline"].tolist(),
        "weights": torch.cat([each.detach().flatten() for each in weights.values()])[::50].tolist(),
    }


def main(folder: str) -> None:
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(500, exit=True)
    dist.init_process_group("gloo")
    found = {"sharded": trained(sharded=True), "alone": trained(sharded=False)}
    if dist.get_rank() == 0:
        Path(folder, "result.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)


if __name__ == "__main__":
    with hard_exit():
        main(*sys.argv[1:])
