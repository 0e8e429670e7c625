"""Taking image tokens out: what stays, where it stood, and that nothing given is edited."""

from dataclasses import replace

import pytest
import torch

from contralign.batch import IGNORE_INDEX, VLBatch, column_indices
from contralign.contrast.drop import DropImage

IMAGE = 9


def a_batch(positions="2d"):
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


def test_text_keeps_its_positions_and_tokens_after_the_last_label_go():
    view = DropImage()(a_batch())
    assert view.row_index.tolist() == [[0] * 4, [2] * 4]
    assert view.input_ids.tolist() == [[1, 5, 6, 7], [1, 5, 6, 7]]
    assert view.position_ids.tolist() == [[0, 3, 4, 5], [2, 3, 6, 7]]
    assert view.token_index.tolist() == [[0, 3, 4, 5], [2, 3, 6, 7]]
    assert view.labels.tolist() == [[-100, -100, 6, 7], [-100, -100, 6, 7]]
    assert view.inputs_embeds[:, :, 0].tolist() == [[0, 3, 4, 5], [22, 23, 26, 27]]
    assert view.attention_mask.all()
    assert not view.image_mask.any()


def test_shorter_rows_are_padded_on_the_right():
    batch = a_batch()
    labels = batch.labels.clone()
    labels[0, 5] = IGNORE_INDEX
    view = DropImage()(replace(batch, labels=labels))
    assert view.attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert view.labels[0].tolist() == [-100, -100, 6, -100]


def test_position_ids_of_several_axes_are_gathered_on_each():
    view = DropImage()(a_batch(positions="3d"))
    assert view.position_ids[:, 0].tolist() == [[0, 3, 4, 5], [100, 103, 104, 105], [200, 203, 204, 205]]


def test_the_batch_it_was_given_is_untouched():
    batch = a_batch()
    before = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    DropImage()(batch)
    for name, value in before.items():
        assert torch.equal(getattr(batch, name), value), name


@pytest.mark.parametrize("row", [1, 3])
def test_rows_whose_labels_see_no_picture_are_left_out(row):
    assert not (DropImage()(a_batch()).row_index == row).any()
