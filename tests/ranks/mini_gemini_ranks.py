"""Run by test_mini_gemini_ranks.py, alone or under torchrun: steps of CAL on Mini-Gemini, losses written by rank 0.

Usage: mini_gemini_ranks.py FOLDER CASE, where CASE is JSON: engine, grid, text, batch_size, checkpointing.
"""

import faulthandler
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from accelerate import PartialState
from rank_engines import ENGINES
from worlds.small_arguments import arguments
from worlds.small_mini_gemini import build_mini_gemini, picture_batch

from contralign import CalConfig, CALTrainer
from contralign.cli.ranks import hard_exit

PATIENCE = 500
PIXELS = ("pixel_values", "pixel_values_aux")


def padded_vocab_size(model, steps=4):
    """Two rows a rank and step, of one width; in turns one rank has pictures and the other has text alone."""
    rows = []
    for number in range(2 * steps):
        has_pictures = number % 2 == (number // 2) % 2
        images = (1, 2) if has_pictures else (0, 0)
        batch = picture_batch(model, images=(*images, 2), seed=number)
        for row, first in enumerate((0, images[0])):
            own = {name: batch[name][row] for name in ("input_ids", "labels", "attention_mask")}
            rows.append(own | {name: batch[name][first : first + images[row]] for name in PIXELS})
    return rows


def collate(rows):
    fillings = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    batch = {
        name: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True, padding_value=filling)
        for name, filling in fillings.items()
    }
    pixels = {name: torch.cat([row[name] for row in rows]) for name in PIXELS}
    return batch | (pixels if len(pixels["pixel_values"]) else {})


def main(folder, given):
    faulthandler.dump_traceback_later(PATIENCE, exit=True)  # a rank that waits for ever says where
    torch.set_num_threads(1)
    case = json.loads(given)
    engine = ENGINES[case["engine"]]()
    if case["engine"] == "fsdp":
        engine["fsdp_config"] = {}  # wraps what the model itself names
    model = build_mini_gemini(case["grid"], case["text"], torch.float64, aux_drop_path=0.0)
    for tower in (model.model.vision_tower, model.model.vision_tower_aux):
        tower.requires_grad_(False)
    args = arguments(
        folder,
        per_device_train_batch_size=case["batch_size"],
        max_steps=8,
        learning_rate=0.02,
        gradient_checkpointing=case["checkpointing"],
        **engine,
    )
    trainer = CALTrainer(
        model=model, args=args, train_dataset=padded_vocab_size(model), data_collator=collate, cal=CalConfig()
    )
    trainer.train()
    if trainer.is_world_process_zero():
        history = trainer.state.log_history
        result = {name: [entry[name] for entry in history if name in entry] for name in ("loss", "grad_norm")}
        result |= {"sharding": trainer.alignment.adapter.sharding, "ranks": trainer.accelerator.num_processes}
        Path(folder, "result.json").write_text(json.dumps(result))
    PartialState().wait_for_everyone()
    os._exit(0)  # gloo's own teardown now and then hangs (docs/log.md)


if __name__ == "__main__":
    with hard_exit():
        main(*sys.argv[1:])
