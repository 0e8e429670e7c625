"""What the two passes measure of label tokens: what is asked for, where there is something to compare, and no more."""

import pytest
import torch
from worlds.small_models import IMAGE_TOKEN, PICTURE_TOKENS, build_llava, mixed_batch

from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.core import passes as passes_module
from contralign.core.label_readings import COMPARED, Reading
from contralign.core.passes import compare_passes, run_passes
from contralign.models.adapters.registry import adapter_for

EVERY: tuple[Reading, ...] = ("delta_logit", "delta_centred", "delta_logprob", "nll", "nll_without", "kl")


def prepared(inputs):
    adapter = adapter_for(build_llava(torch.float64))
    return adapter, adapter.prepare(inputs)


def test_readings_agree_with_each_other():
    adapter, batch = prepared(mixed_batch(dtype=torch.float64))
    found = run_passes(adapter, DropImage(), batch, EVERY)
    read, valid = found.readings, found.valid
    pictured = valid & found.has_image.unsqueeze(1)
    assert set(read) == set(EVERY)
    torch.testing.assert_close(read["nll_without"], read["nll"] + read["delta_logprob"])
    torch.testing.assert_close(read["nll"], compare_passes(adapter, DropImage(), batch).nll)
    assert (read["kl"][pictured] > 0).all() and read["kl"][pictured].std() > 0.1
    assert all(not values[~valid].any() for values in read.values())


def test_dropping_and_masking_the_picture_give_the_same_readings():
    adapter, batch = prepared(mixed_batch(dtype=torch.float64))
    dropped, masked = (run_passes(adapter, contrast, batch, EVERY).readings for contrast in (DropImage(), MaskImage()))
    for name in EVERY:
        torch.testing.assert_close(dropped[name], masked[name], rtol=1e-8, atol=1e-8, msg=name)


def test_rows_of_text_have_nothing_to_compare():
    adapter, batch = prepared(mixed_batch(dtype=torch.float64))
    found = run_passes(adapter, MaskImage(), batch, EVERY)
    read, text = found.readings, found.valid[1]
    assert not found.has_image[1] and text.any()
    assert not any(read[name][1].any() for name in COMPARED if name != "nll_without")
    torch.testing.assert_close(read["nll_without"][1], read["nll"][1])
    assert read["nll"][1][text].min() > 0


def test_a_label_that_no_text_comes_before_has_nothing_to_compare_either():
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(3, 80, (1, 5), generator=generator)
    ids = torch.cat([torch.full((1, PICTURE_TOKENS), IMAGE_TOKEN), words], dim=1)
    labels = ids.masked_fill(ids == IMAGE_TOKEN, -100)
    pixels = torch.randn(1, 3, 28, 28, generator=generator).double()
    inputs = {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    adapter, batch = prepared(inputs)
    read = run_passes(adapter, DropImage(), batch, EVERY).readings
    first = PICTURE_TOKENS - 1
    assert not any(read[name][0, first] for name in COMPARED if name != "nll_without")
    torch.testing.assert_close(read["nll_without"][0, first], read["nll"][0, first])
    assert (read["kl"][0, first + 1 :] > 0).all()


@pytest.mark.parametrize("readings", [(), ("nll",)])
def test_the_second_pass_is_run_only_where_something_is_compared(readings):
    adapter, batch = prepared(mixed_batch(dtype=torch.float64))
    calls = []
    handle = adapter.model.get_decoder().register_forward_pre_hook(lambda *_: calls.append(1))
    run_passes(adapter, DropImage(), batch, readings)
    assert len(calls) == 1
    run_passes(adapter, DropImage(), batch, (*readings, "kl"))
    assert len(calls) == 3
    handle.remove()


@pytest.mark.parametrize(
    ("readings", "with_picture", "without"),
    [
        (("delta_logit",), ["logit"], ["logit"]),
        (("delta_centred", "delta_logprob"), ["centred", "logprob"], ["centred", "logprob"]),
        (("nll",), ["logprob"], None),
        (("nll_without",), ["logprob"], ["logprob"]),
        (("nll", "delta_logit"), ["logit", "logprob"], ["logit"]),
        (("kl",), [], []),
    ],
)
def test_nothing_else_is_measured(readings, with_picture, without, monkeypatch):
    adapter, batch = prepared(mixed_batch(dtype=torch.float64))
    asked, kl = [], []
    read_labels, label_kl = passes_module.read_labels, passes_module.label_kl
    monkeypatch.setattr(passes_module, "read_labels", lambda *args: asked.append(list(args[3])) or read_labels(*args))
    monkeypatch.setattr(passes_module, "label_kl", lambda *args: kl.append(1) or label_kl(*args))
    run_passes(adapter, DropImage(), batch, readings)
    assert asked == ([with_picture] if without is None else [without, with_picture])
    assert len(kl) == ("kl" in readings)


def test_no_contrast_leaves_all_comparisons_at_nothing():
    adapter, batch = prepared(mixed_batch(dtype=torch.float64))
    read = run_passes(adapter, None, batch, EVERY).readings
    assert not any(read[name].any() for name in COMPARED if name != "nll_without")
    torch.testing.assert_close(read["nll_without"], read["nll"])
