"""Rows laid into one: the plan, the shared beginning, and where every token says that it comes from."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from contralign.batch import IGNORE_INDEX, SHARED, VLBatch, column_indices
from contralign.contrast.drop import DropImage
from contralign.contrast.packing import plan

IMAGE = 9


def a_batch(width=3):
    """Two rows that begin with the same three words, one of text alone, one that begins otherwise."""
    ids = torch.tensor(
        [
            [1, 2, 3, IMAGE, IMAGE, 5, 6, 7],
            [1, 2, 3, IMAGE, IMAGE, 5, 8, 0],
            [1, 2, 3, 4, 5, 6, 7, 8],
            [1, 2, 4, IMAGE, IMAGE, 6, 0, 0],
        ]
    )
    labels = torch.full_like(ids, IGNORE_INDEX)
    labels[0, 6:] = ids[0, 6:]
    labels[1, 6:7] = ids[1, 6:7]
    labels[2, 4:] = ids[2, 4:]
    labels[3, 5:6] = ids[3, 5:6]
    rows, columns = column_indices(ids)
    return VLBatch(
        input_ids=ids,
        attention_mask=(ids != 0).long(),
        labels=labels,
        image_mask=ids == IMAGE,
        position_ids=columns,
        inputs_embeds=(ids + 10 * rows).unsqueeze(-1).expand(4, 8, width).float(),
        row_index=rows,
        token_index=columns,
    )


def rows_of(batch, keep):
    return replace(
        batch, **{name: value[keep] for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    )


def test_a_shared_beginning_is_laid_down_once():
    view = DropImage(pack=True)(rows_of(a_batch(width=512), [0, 1, 2]))
    assert view.packed
    assert view.input_ids.tolist() == [[1, 2, 3, 5, 6, 7, 5, 8]]
    assert view.row_index.tolist() == [[SHARED] * 3 + [0] * 3 + [1] * 2]
    assert view.token_index.tolist() == [[0, 1, 2, 5, 6, 7, 5, 6]]
    assert view.position_ids.tolist() == [[0, 1, 2, 5, 6, 7, 5, 6]]
    assert view.labels.tolist() == [[-100] * 4 + [6, 7, -100, 8]]
    assert view.inputs_embeds[0, :, 0].tolist() == [1, 2, 3, 5, 6, 7, 15, 18]


def test_only_what_all_rows_begin_with_is_shared():
    view = DropImage(pack=True)(a_batch(width=512))
    assert (view.row_index == SHARED).sum() == 2
    assert sorted(view.row_index.unique().tolist()) == [SHARED, 0, 1, 3]
    assert view.attention_mask.sum() == 2 + 4 + 3 + 2


def test_nothing_is_shared_at_other_positions():
    batch = rows_of(a_batch(width=512), [0, 1])
    positions = batch.position_ids.clone()
    positions[1] += 1
    view = DropImage(pack=True)(replace(batch, position_ids=positions))
    assert not (view.row_index == SHARED).any()


def test_left_padded_rows_share_nothing_and_keep_their_tokens():
    batch = rows_of(a_batch(width=512), [0, 1])
    ids = batch.input_ids.clone()
    ids[1] = torch.tensor([0, 1, 2, 3, IMAGE, IMAGE, 5, 8])
    labels = torch.full_like(ids, IGNORE_INDEX)
    labels[0, 6:], labels[1, 7] = ids[0, 6:], 8
    view = DropImage(pack=True)(
        replace(batch, input_ids=ids, labels=labels, attention_mask=(ids != 0).long(), image_mask=ids == IMAGE)
    )
    assert not (view.row_index == SHARED).any()
    assert view.token_index[view.row_index == 1][view.attention_mask[view.row_index == 1].bool()].tolist() == [
        1,
        2,
        3,
        6,
        7,
    ]


def test_one_row_is_left_as_it_is():
    view = DropImage(pack=True)(rows_of(a_batch(), [0, 2]))
    assert not view.packed
    assert view.input_ids.tolist() == [[1, 2, 3, 5, 6, 7]]


def test_a_batch_of_text_alone_gives_a_view_without_rows():
    view = DropImage(pack=True)(rows_of(a_batch(), [2]))
    assert view.row_index.numel() == 0


def test_short_rows_fill_the_room_beside_long_ones_where_attention_is_cheap():
    assert sorted(map(sorted, plan({0: 100, 1: 60, 2: 40}, shared=0, hidden=4096))) in ([[0], [1, 2]], [[0, 1, 2]])
    assert plan({0: 100, 1: 100}, shared=0, hidden=64) == [[0], [1]]
    assert plan({0: 90, 1: 90}, shared=40, hidden=512) == [[0, 1]]


@given(
    st.dictionaries(st.integers(0, 30), st.integers(1, 300), min_size=1, max_size=12),
    st.integers(0, 50),
    st.sampled_from([64, 512, 4096]),
)
def test_every_row_is_planned_once_and_never_dearer_than_alone(lengths, shared, hidden):
    bins = plan(lengths, shared, hidden)
    assert sorted(row for rows in bins for row in rows) == sorted(lengths)

    def cost(rows):
        width = shared + max(sum(lengths[row] for row in line) for line in rows)
        return len(rows) * width * (6 * hidden + width)

    assert cost(bins) <= cost([[row] for row in lengths])
