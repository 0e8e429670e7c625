"""Δ of a tiny LLaVA in straight lines: one row at a time, no batch, no view, no packing."""

from __future__ import annotations

import torch
from worlds.small_models import IMAGE_TOKEN


def embedded(model, inputs):
    """What the language model reads, row by row: looked-up words, and image features in the order of the pictures."""
    ids = inputs["input_ids"]
    embeds = model.get_input_embeddings()(ids.masked_fill(ids == IMAGE_TOKEN, 0)).clone()
    features = iter(torch.cat(list(model.get_image_features(pixel_values=inputs["pixel_values"]).pooler_output)))
    for row, column in (ids == IMAGE_TOKEN).nonzero().tolist():
        embeds[row, column] = next(features)
    return embeds


def image_columns(inputs, row):
    """Columns of the image tokens of a row."""
    return (inputs["input_ids"][row] == IMAGE_TOKEN).nonzero().squeeze(1).tolist()


@torch.no_grad()
def delta_by_hand(model, inputs, second):
    """Raw Δ of every label that sees a picture, as {(row, column of the label): Δ}.

    Args:
        model: a LLaVA.
        inputs: a collated batch.
        second: row -> what the second pass reads instead of its image tokens, as {column: vector}.
    """
    full = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    embeds, found = embedded(model, inputs), {}
    for row, labels in enumerate(inputs["labels"].tolist()):
        pictured = image_columns(inputs, row)
        if not pictured:
            continue
        attended = inputs["attention_mask"][row].nonzero().squeeze(1).tolist()
        stands = {column: embeds[row, column] for column in attended if column not in pictured} | second(row)
        columns = sorted(stands)
        logits = model.lm_head(
            model.model.language_model(
                inputs_embeds=torch.stack([stands[column] for column in columns]).unsqueeze(0),
                position_ids=torch.tensor(columns).unsqueeze(0),
            ).last_hidden_state[0]
        )
        for column, label in enumerate(labels):
            if label != -100 and column > pictured[0]:
                place = max(index for index, other in enumerate(columns) if other < column)
                found[row, column] = float(full[row, column - 1, label] - logits[place, label])
    return found


def assert_delta(looks, wanted, tolerance=1e-10, score="logit"):
    """Every label has the Δ it should, and all others have none."""
    delta = looks.delta[score]
    expected = torch.zeros_like(delta)
    for (row, column), value in wanted.items():
        expected[row, column - 1] = value
    assert len(wanted) > 3
    assert expected[expected != 0].std() > 0.5
    torch.testing.assert_close(delta, expected, rtol=0, atol=tolerance)
