"""Run by test_ranks.py under torchrun: `ContrastiveAlignment` in a bare loop, sharded by hand, and an unsharded twin.

Usage: bare_ranks.py FOLDER PLAN,PLAN… [skip], where plans say what is sharded, one after another, and "skip" lets ranks
leave the second pass out, as they must not. Every rank also trains the unsharded twin, on the batches of both.
"""

import faulthandler
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from rank_roles import rows_by_role
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from worlds.small_models import build_llava, collate

from contralign import CalConfig, ContrastiveAlignment
from contralign.cli.ranks import hard_exit
from contralign.contrast.drop import DropImage
from contralign.core import label_loss, label_readings, passes
from contralign.core.head import Head
from contralign.models.adapters.registry import ADAPTERS

PATIENCE = 500
STEPS = 50
RANK_BATCH = 4

PLAN = {
    "adapter": "llava",
    "late": False,  # ContrastiveAlignment is built when the model is already sharded
    "units": (),
    "lora": False,  # on the head, too
    "config": {},
    "words": (),  # ids of a prompt in the picture's place
    "text": {},
    "checkpointing": False,
    "roles": "changing",
    "first": 0,
    "steps": STEPS,
}
PLANS = {
    "layers": {},
    "units": {"units": ("tower", "head")},
    "pieces": {"units": ("pieces",), "steps": 16},
    "pieces_mle": {"units": ("pieces",), "config": {"contrast": "none"}, "steps": 8, "first": 2},
    "checkpointed": {"checkpointing": True, "units": ("head",)},
    "tied": {"text": {"tie_word_embeddings": True}, "steps": 16},
    "late": {"late": True, "steps": 16},
    "logprob": {"config": {"score": "logprob"}, "units": ("head",), "steps": 16},
    "centred": {"config": {"score": "centred"}, "units": ("head",), "steps": 16},
    "kl": {"config": {"weighting": "pgpo"}, "units": ("head",), "steps": 16},
    "kl_pieces": {"config": {"weighting": "pgpo"}, "units": ("pieces",), "steps": 8},
    "dft": {"config": {"weighting": "dft"}, "units": ("head",), "steps": 16},
    "generic": {"adapter": "generic", "roles": "pictured", "units": ("tower", "head"), "steps": 8},
    "generic_text": {"adapter": "generic", "units": ("tower",)},
    "prompt": {"units": ("pieces",), "words": (11, 12), "steps": 16},
    "adapters": {"lora": True, "units": ("head",), "steps": 16},
    "mask": {"config": {"contrast": "mask", "form": "paper"}, "units": ("tower", "head"), "steps": 16},
}


def main(folder: str, names: str, skip: str = "") -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    if skip:
        mock.patch.object(passes, "_run_one_token", lambda *_: None).start()
    # Four rows of logits a chunk: ranks with fewer labels would have fewer chunks.
    small = functools.partial(small_chunks, label_readings.chunks)
    for module in (label_loss, label_readings):
        mock.patch.object(module, "chunks", small).start()
    found = {}
    for name in names.split(","):
        faulthandler.dump_traceback_later(int(os.environ.get("PATIENCE", PATIENCE)), exit=True)
        plan = PLAN | PLANS[name]
        with mock.patch.dict(ADAPTERS.built_in, clear=plan["adapter"] == "generic"):
            found[name] = {"sharded": trained(plan, sharded=True), "alone": trained(plan, sharded=False)}
    if dist.get_rank() == 0:
        Path(folder, "result.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)


def small_chunks(chunks: Callable, rows: torch.Tensor, head: Head, _: int) -> list[slice]:
    return chunks(rows, head, chunk_bytes=4 * head.vocabulary * rows.element_size())


def trained(plan: dict, sharded: bool) -> dict:
    """Losses, gradient norms and last weights of some steps."""
    model = build_llava(torch.float64, **plan["text"])
    whole = model
    if plan["lora"]:
        whole = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False))
    alignment = None if plan["late"] else ContrastiveAlignment(whole, CalConfig(**plan["config"]))
    if plan["checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if sharded:
        for module in units_of(model, plan["units"]):
            fully_shard(module)
        fully_shard(whole)
    alignment = alignment or ContrastiveAlignment(whole, CalConfig(**plan["config"]))
    if plan["words"]:
        ids, adapter = torch.tensor(plan["words"]), alignment.adapter
        alignment.contrast = DropImage(prompt="two words", words=lambda: (ids, adapter.embed_text(ids)))
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses, norms = [], []
    heads = set()
    whole_head = alignment.adapter.head

    def remembered_head() -> Head:
        head = whole_head()
        heads.add(type(head).__name__)
        return head

    alignment.adapter.head = remembered_head
    for batch in batches(plan, both=not sharded):
        out = alignment(batch)
        terms = torch.stack([out.numerator.detach(), out.denominator])
        if sharded:
            dist.all_reduce(terms)
        step_denominator = terms[1].clamp(min=1e-12)
        ((dist.get_world_size() if sharded else 1) * out.numerator / step_denominator).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append((terms[0] / step_denominator).item())
        norms.append((norm.full_tensor() if isinstance(norm, DTensor) else norm).item())
    whole = [p.full_tensor() if isinstance(p, DTensor) else p for p in (q.detach() for q in model.parameters())]
    flat = torch.cat([weights.flatten() for weights in whole])
    return {
        "sharding": alignment.adapter.sharding,
        "heads": sorted(heads),
        "loss": losses,
        "grad_norm": norms,
        "weights": flat[:: flat.numel() // 500].tolist(),
    }


def units_of(model: torch.nn.Module, names: tuple[str, ...]) -> Iterator[torch.nn.Module]:
    """What becomes a unit of its own besides the model itself, inner before outer."""
    if "pieces" in names:
        leaves = [module for module in model.modules() if not list(module.children())]
        yield from (module for module in leaves if list(module.parameters()))
    yield from model.model.language_model.layers
    if "tower" in names:
        # Not the tower as a whole: transformers finds what it records of it by its class, which fully_shard changes.
        yield from model.model.vision_tower.encoder.layers
        yield from (model.model.vision_tower.embeddings, model.model.multi_modal_projector)
    if "head" in names:
        yield model.lm_head


def batches(plan: dict, both: bool) -> Iterator[dict]:
    """This rank's batches, or those of both ranks in one."""
    rows = rows_by_role(plan["roles"], batch=RANK_BATCH)
    size, first = (2 * RANK_BATCH, 0) if both else (RANK_BATCH, dist.get_rank() * RANK_BATCH)
    for step in range(plan["first"], plan["first"] + plan["steps"]):
        start = step * 2 * RANK_BATCH % len(rows) + first
        yield collate(rows[start : start + size])


if __name__ == "__main__":
    with hard_exit():
        main(*sys.argv[1:])
