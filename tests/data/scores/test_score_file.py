import pickle
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from worlds.small_scores import mixed_samples, scored, spread_pair, text_sample
from worlds.tiny_worlds import coloured_samples

from contralign.batch import CACHED_DELTA, IGNORE_INDEX
from contralign.contrast.drop import DropImage
from contralign.core.passes import compare_passes
from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import Turn
from contralign.data.records.mixture import load_samples
from contralign.data.records.swap_noise import swap_images
from contralign.data.scores.score_file import ScoreFile, ScoreMismatch, read_settings
from contralign.data.scores.score_table import settings_of, with_settings
from contralign.models.adapters.registry import adapter_for

SAMPLES = mixed_samples(10)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    model, collator = spread_pair(SAMPLES)
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    return model, collator, scored(path, model, collator, SAMPLES)


def row_of(collator, sample):
    return collator.encode_batch([sample]).rows[0]


def live_delta(model, batch, score="logit"):
    """(batch, seq) Δ at label tokens from the two passes, and where they are."""
    adapter = adapter_for(model)
    with torch.no_grad():
        looks = compare_passes(adapter, DropImage(), adapter.prepare(batch), (score,))
    labelled = torch.nn.functional.pad(looks.valid, (1, 0))
    return torch.nn.functional.pad(looks.delta[score], (1, 0)), labelled


@pytest.mark.parametrize("score", ["logit", "logprob"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_brings_the_delta_that_the_two_passes_take(score, side, world):
    model, collator, file = world
    file = ScoreFile.open(file.path, f"delta_{score}")
    shuffled = [SAMPLES[index] for index in (7, 10, 0, 3, 3)]
    cached = VLCollator(collator.processor, padding_side=side, scores=file)(shuffled)
    brought = cached.pop(CACHED_DELTA)
    plain = VLCollator(collator.processor, padding_side=side)(shuffled)
    assert all(torch.equal(plain[name], cached[name]) for name in plain)
    delta, labelled = live_delta(model, plain, score)
    assert delta[labelled].std() > 0.5
    torch.testing.assert_close(brought[labelled], delta[labelled], atol=1e-4, rtol=1e-5)
    assert torch.equal(brought[plain["labels"] == IGNORE_INDEX].unique(), torch.zeros(1))
    assert brought[1].abs().max() == 0


def test_a_row_that_was_cut_has_the_delta_of_what_is_left(world, tmp_path):
    model, collator, whole = world
    short = VLCollator(collator.processor, max_length=len(row_of(collator, SAMPLES[0]).input_ids) - 4)
    file = scored(tmp_path / "cut.parquet", model, short, SAMPLES)
    row = row_of(short, SAMPLES[0])
    assert len(row.label_positions) < len(row_of(collator, SAMPLES[0]).label_positions)
    full = whole.values_of(SAMPLES[0], row_of(collator, SAMPLES[0]))
    assert file.values_of(SAMPLES[0], row) == pytest.approx(full[: len(row.label_positions)], abs=1e-4)


def test_a_bad_record_that_is_skipped_moves_no_delta(world, tmp_path):
    model, collator, _ = world
    limit = len(row_of(collator, SAMPLES[0]).input_ids) + 1
    long = replace(
        SAMPLES[1], id="long", turns=(Turn("user", "say it " * 60 + SAMPLES[1].turns[0].text), SAMPLES[1].turns[1])
    )
    skipping = VLCollator(collator.processor, max_length=limit, on_bad="skip")
    file = scored(tmp_path / "skip.parquet", model, skipping, [SAMPLES[0], long, SAMPLES[6]])
    assert len(file) == 2
    assert file.settings["bad_records"][0]["reason"] == "no_label_left"
    batch = skipping.with_scores(file)([SAMPLES[0], long, SAMPLES[6]])
    assert batch[CACHED_DELTA].shape == batch["input_ids"].shape == (2, batch["input_ids"].shape[1])
    delta, labelled = live_delta(model, {name: batch[name] for name in batch if name != CACHED_DELTA})
    torch.testing.assert_close(batch[CACHED_DELTA][labelled], delta[labelled], atol=1e-4, rtol=1e-5)
    only_bad = skipping.with_scores(file)([long])
    assert torch.equal(only_bad[CACHED_DELTA], torch.zeros(1, 2))


def test_mixtures_in_another_order_find_samples_whose_ids_come_again(world, tmp_path):
    model, collator, _ = world
    first, second = (
        coloured_samples(3),
        [replace(sample, id=f"c{5 - number}") for number, sample in enumerate(coloured_samples(6))],
    )
    file = scored(tmp_path / "mixture.parquet", model, collator, [*first, *second])
    other_order = load_samples([second, first])
    assert "c0#2" in [sample.id for sample in other_order]
    file.check_ids(sample.id for sample in other_order)
    delta, labelled = live_delta(model, collator(list(other_order)))
    cached = collator.with_scores(file)(list(other_order))[CACHED_DELTA]
    torch.testing.assert_close(cached[labelled], delta[labelled], atol=1e-4, rtol=1e-5)


def test_another_text_is_refused(world):
    _, collator, file = world
    changed = replace(SAMPLES[0], turns=(SAMPLES[0].turns[0], Turn("assistant", "i like it . blue .")), spans=())
    with pytest.raises(ScoreMismatch, match=r"sample c0: another text \(token ids differ\).*Score again"):
        file.values_of(changed, row_of(collator, changed))


def test_another_picture_is_refused(world):
    _, collator, file = world
    changed = replace(SAMPLES[0], pictures=SAMPLES[1].pictures)
    with pytest.raises(ScoreMismatch, match=r"sample c0: another picture than was scored.*swap_noise"):
        file.values_of(changed, row_of(collator, changed))


def test_another_text_and_picture_are_both_named(world):
    _, collator, file = world
    changed = replace(SAMPLES[1], id="c0")
    with pytest.raises(ScoreMismatch, match="another text and another picture"):
        file.values_of(changed, row_of(collator, changed))


def test_other_labels_are_refused(world):
    _, collator, file = world
    row = row_of(collator, SAMPLES[0])
    fewer = replace(
        row,
        labels=tuple(
            IGNORE_INDEX if place == row.label_positions[0] else label for place, label in enumerate(row.labels)
        ),
    )
    with pytest.raises(ScoreMismatch, match="other labels than were scored"):
        file.values_of(SAMPLES[0], fewer)


def test_an_unknown_id_is_refused(world):
    _, collator, file = world
    with pytest.raises(ScoreMismatch, match="sample stranger: unknown id; the file holds 11 samples of list"):
        file.values_of(text_sample("stranger"), row_of(collator, text_sample("stranger")))


def test_a_sample_that_was_left_out_says_why(world, tmp_path):
    model, collator, _ = world
    long = replace(
        SAMPLES[1], id="long", turns=(Turn("user", "say it " * 60 + SAMPLES[1].turns[0].text), SAMPLES[1].turns[1])
    )
    skipping = VLCollator(collator.processor, max_length=60, on_bad="skip")
    file = scored(tmp_path / "skip.parquet", model, skipping, [SAMPLES[0], replace(long, source="s")])
    with pytest.raises(ScoreMismatch, match=r"left out when the data were scored.*no_label_left"):
        file.values_of(replace(long, source="s"), row_of(collator, long))


def test_scores_of_unswapped_pictures_are_refused_for_swapped_ones(world):
    _, collator, file = world
    noisy, swapped = swap_images(SAMPLES, 0.5, seed=0)
    assert swapped
    with pytest.raises(ScoreMismatch, match="another picture"):
        collator.with_scores(file)(noisy)


def test_a_mismatch_is_no_bad_record_to_skip(world):
    _, collator, file = world
    skipping = VLCollator(collator.processor, on_bad="skip", scores=file)
    with pytest.raises(ScoreMismatch):
        skipping([text_sample("stranger")])


def test_a_collator_of_other_settings_is_refused_with_all_of_them_named(world):
    _, collator, file = world
    with pytest.raises(ScoreMismatch) as refused:
        VLCollator(collator.processor, template="vicuna_v1", max_length=99, image_aspect="pad", scores=file)
    assert "template was 'chat', is 'vicuna_v1'" in str(refused.value)
    assert "max_length was None, is 99" in str(refused.value)
    assert "image_aspect was 'processor', is 'pad'" in str(refused.value)
    assert "tokenizer was" not in str(refused.value)


def test_ids_that_are_missing_are_counted_before_training(world):
    _, _, file = world
    file.check_ids(sample.id for sample in SAMPLES)
    with pytest.raises(ScoreMismatch, match="lacks 2 of 13 samples, such as 'x', 'y'"):
        file.check_ids([*(sample.id for sample in SAMPLES), "x", "y"])


def test_the_flat_table_is_what_two_lines_of_pandas_give(world):
    _, collator, file = world
    flat = file.tokens().to_pandas()
    exploded = pd.read_parquet(file.path).explode([*file.token_columns]).reset_index(drop=True)
    assert len(flat) == file.settings["num_tokens"]
    for name in flat.columns:
        assert flat[name].tolist() == exploded[name].tolist(), name
    own = flat[flat["id"] == "c3"]
    row = row_of(collator, SAMPLES[3])
    assert own["position"].tolist() == list(row.label_positions)
    assert own["label"].tolist() == [row.labels[place] for place in row.label_positions]
    assert own["nll_without"].to_numpy() == pytest.approx((own["nll"] + own["delta_logprob"]).to_numpy(), abs=1e-5)


def test_a_worker_that_is_spawned_opens_the_file_itself(world):
    _, collator, file = world
    sent = pickle.dumps(file)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    row = row_of(collator, SAMPLES[2])
    assert np.array_equal(again.values_of(SAMPLES[2], row), file.values_of(SAMPLES[2], row))


def test_memory_is_4_bytes_a_token_and_28_a_sample(world):
    _, _, file = world
    arrays = (file.index.keys, file.index.digests, file.index.rows, file.index.offsets, file.index.values)
    assert sum(array.nbytes for array in arrays) == 4 * file.settings["num_tokens"] + 28 * len(file) + 8


def test_a_score_that_the_file_has_not_is_refused(world, tmp_path):
    model, collator, _ = world
    scored(tmp_path / "one.parquet", model, collator, SAMPLES[:2], scores=("logit",))
    assert pq.read_schema(tmp_path / "one.parquet").names[-2:] == ["delta_logit", "nll"]
    with pytest.raises(ValueError, match=r"holds delta_logit, nll, not 'delta_logprob'.*--score logprob"):
        ScoreFile.open(tmp_path / "one.parquet", "delta_logprob")
    with pytest.raises(ValueError, match=r"not 'nll_without'.*--score logprob"):
        ScoreFile.open(tmp_path / "one.parquet", "nll_without")
    with pytest.raises(ValueError, match=r"not 'kl': no score file does"):
        ScoreFile.open(tmp_path / "one.parquet", "kl")


def test_any_column_can_be_read(world):
    _, collator, file = world
    row = row_of(collator, SAMPLES[2])
    by_column = {
        name: ScoreFile.open(file.path, name).values_of(SAMPLES[2], row)
        for name in ("delta_logprob", "nll", "nll_without")
    }
    assert by_column["nll"].std() > 0.1
    assert by_column["nll_without"] == pytest.approx(by_column["nll"] + by_column["delta_logprob"], abs=1e-4)


def test_files_that_are_no_score_files_are_refused(world, tmp_path):
    _, _, file = world
    path = tmp_path / "x.parquet"
    with pytest.raises(ValueError, match="is not there"):
        ScoreFile.open(path)
    path.write_text("no parquet")
    with pytest.raises(ValueError, match="is no score file"):
        ScoreFile.open(path)
    pq.write_table(pa.table({"id": ["a"]}), path)
    with pytest.raises(ValueError, match="not of `contralign score`"):
        ScoreFile.open(path)
    table = pq.read_table(file.path)
    newer = with_settings(table.schema, settings_of(table.schema) | {"format": 99})
    pq.write_table(table.cast(newer), path)
    with pytest.raises(ValueError, match="format 99; this version reads 2"):
        read_settings(path)


def changed_table(table, column, place, value):
    """One value of a list column, or of a plain one, is another."""
    values = table[column].to_pylist()
    if isinstance(values[place], list):
        values[place][0] = value
    else:
        values[place] = value
    field = table.schema.get_field_index(column)
    return table.set_column(field, table.schema.field(field), pa.array(values, table.schema.field(field).type))


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("delta_logit", 1.25, "delta_logit does not hold what was written"),
        ("delta_logit", float("nan"), "delta_logit holds nan, which no model gives"),
        ("delta_logit", float("-inf"), "delta_logit holds -inf"),
        ("delta_logit", 1e12, "delta_logit holds 1e+12|delta_logit holds 999999995904.0"),
        ("delta_logit", None, "delta_logit has no value at 1 of"),
        ("digest", 12, "digest does not hold what was written"),
        ("digest", None, "digest has no value in 1 of"),
        ("id", "another", "id does not hold what was written"),
    ],
)
def test_a_file_whose_values_were_changed_is_refused(column, value, named, world, tmp_path):
    _, _, file = world
    pq.write_table(changed_table(pq.read_table(file.path), column, 2, value), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=f"is damaged or was changed: ({named})"):
        ScoreFile.open(tmp_path / "x.parquet")


def test_rows_and_tokens_that_were_taken_out_or_put_in_are_seen(world, tmp_path):
    _, _, file = world
    table = pq.read_table(file.path)
    lists = table["delta_logit"].to_pylist()
    lists[0], lists[1] = lists[0][:-1], [*lists[1], lists[0][-1]]
    moved = table.set_column(
        table.schema.get_field_index("delta_logit"), "delta_logit", pa.array(lists, pa.list_(pa.float32()))
    )
    doubled = pa.concat_tables([table, table.slice(0, 1)])
    for other in (table.slice(1), doubled, moved.cast(table.schema), table.take([1, 0, *range(2, len(table))])):
        pq.write_table(other, tmp_path / "x.parquet")
        with pytest.raises(ValueError, match=r"does not hold what was written|samples were written"):
            ScoreFile.open(tmp_path / "x.parquet")


def test_other_columns_or_types_than_the_settings_say_are_refused(world, tmp_path):
    _, _, file = world
    table = pq.read_table(file.path)
    for other in (
        table.drop_columns(["nll"]),
        table.append_column("more", table["index"]),
        table.select(["id", "digest"]),
    ):
        pq.write_table(other, tmp_path / "x.parquet")
        with pytest.raises(ValueError, match="other columns than its settings say"):
            ScoreFile.open(tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["scores", "num_tokens", "num_scored", "sources", "bad_records", "digests"])
@pytest.mark.parametrize("value", [None, -1, "x", ["x"], {"x": 1}, 10**30])
def test_settings_of_another_kind_are_refused(name, value, world, tmp_path):
    _, _, file = world
    table = pq.read_table(file.path)
    schema = with_settings(table.schema, settings_of(table.schema) | {name: value})
    pq.write_table(table.cast(schema), tmp_path / "x.parquet")
    if name == "sources" and value == ["x"]:
        return
    with pytest.raises(ValueError, match=r"score file .*x\.parquet"):
        ScoreFile.open(tmp_path / "x.parquet")


def test_settings_that_were_changed_in_the_file_are_refused(world, tmp_path):
    _, _, file = world
    table = pq.read_table(file.path)
    metadata = {**table.schema.metadata, b"contralign.model_digest": b'"another"'}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="its settings do not hold what was written"):
        ScoreFile.open(tmp_path / "x.parquet")


def test_every_flipped_bit_of_a_file_is_refused_or_changes_nothing_that_is_read(world, tmp_path):
    _, _, file = world
    content, draw = file.path.read_bytes(), random.Random(0)
    whole, refused = ScoreFile.open(file.path), 0
    for _ in range(300):
        place = draw.randrange(len(content))
        (tmp_path / "x.parquet").write_bytes(
            content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
        )
        try:
            read = ScoreFile.open(tmp_path / "x.parquet")
        except ValueError as error:
            assert "x.parquet" in str(error)
            refused += 1
        else:
            assert np.array_equal(read.index.values, whole.index.values)
            assert np.array_equal(read.index.digests, whole.index.digests)
            assert np.array_equal(read.index.keys, whole.index.keys)
    assert refused > 30
