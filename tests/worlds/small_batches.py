"""A batch as an adapter prepares it, small enough to be read: embeddings say their row and column."""

from __future__ import annotations

import torch

from contralign.batch import IGNORE_INDEX, VLBatch, column_indices

IMAGE = 9


def a_batch(positions="2d"):
    """Rows with pictures at several places, one without, padded on either side."""
    ids = torch.tensor(
        [
            [1, IMAGE, IMAGE, 5, 6, 7, 8, 0],  # picture, labels 6 7, then a word without a label, then padding
            [1, 2, 3, 4, 5, 6, 7, 8],  # no picture
            [0, 0, 1, 5, IMAGE, IMAGE, 6, 7],  # left padding
            [1, 5, 6, 7, IMAGE, IMAGE, 8, 0],  # labels only before the picture
        ]
    )
    labels = torch.full_like(ids, IGNORE_INDEX)
    labels[0, 4:6] = ids[0, 4:6]
    labels[1, 4:] = ids[1, 4:]
    labels[2, 6:] = ids[2, 6:]
    labels[3, 2:4] = ids[3, 2:4]
    rows, columns = column_indices(ids)
    places = columns.clone() if positions == "2d" else torch.stack([columns, columns + 100, columns + 200])
    return VLBatch(
        input_ids=ids,
        attention_mask=(ids != 0).long(),
        labels=labels,
        image_mask=ids == IMAGE,
        position_ids=places,
        inputs_embeds=torch.arange(8.0).expand(4, 8).unsqueeze(-1).repeat(1, 1, 3) + 10 * rows.unsqueeze(-1),
        row_index=rows,
        token_index=columns,
    )
