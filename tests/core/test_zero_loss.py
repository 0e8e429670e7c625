"""A micro-batch on which nothing that learns has an influence is a step like any other."""

import json

import torch
from torch import nn
from worlds.small_recipes import STAGE, small_plan, write_records

from contralign.core.zero_loss import connected_loss
from contralign.run.run import run_plan


def test_text_alone_goes_by_where_only_the_projector_learns(tmp_path):
    records = json.loads(write_records(tmp_path).read_text())
    for number in (2, 5):
        del records[number]["image"]
        records[number]["conversations"][0]["value"] = "what colour?"
    (tmp_path / "mixed.json").write_text(json.dumps(records))
    recipe = small_plan(
        tmp_path,
        data={"train": [str(tmp_path / "mixed.json")]},
        stages={"it": {**STAGE, "train": ["projector"], "steps": 8, "batch_size": 1, "cal": True}},
    )
    run = run_plan(recipe, {})
    norms = {
        arm: [e["grad_norm"] for e in run.metrics.read() if e["arm"] == arm and "loss" in e] for arm in ("mle", "cal")
    }
    assert [norm == 0 for norm in norms["mle"]] == [norm == 0 for norm in norms["cal"]]
    assert norms["mle"].count(0) == 2


def test_a_loss_without_a_graph_is_tied_to_what_learns_with_a_gradient_of_zero():
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    loss = connected_loss(torch.tensor(1.5), model)
    loss.backward()
    assert loss.item() == 1.5
    assert torch.equal(model.weight.grad, torch.zeros(2, 3))
    assert model.bias.grad is None


def test_other_losses_stay_as_they_are():
    model = nn.Linear(3, 2)
    learnt, plain = model(torch.ones(3)).sum(), torch.tensor(1.0)
    assert connected_loss(learnt, model) is learnt
    with torch.no_grad():
        assert connected_loss(plain, model) is plain
    assert connected_loss(plain, model.requires_grad_(False)) is plain
