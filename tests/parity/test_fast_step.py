"""The whole fast step against the slow reference: every row by itself, all logits, loops over tokens.

What is fast in it: text tokens alone in the second pass, rows packed into one behind a shared beginning, the last layer
at label tokens, a dot product for Δ, the fused loss.
"""

import pytest
import torch
from worlds.small_models import IMAGE_TOKEN, PICTURE_TOKENS, build_llava

from contralign import CalConfig, ContrastiveAlignment
from contralign.batch import SHARED
from contralign.core.head import LinearHead, OpaqueHead
from contralign.core.reference import reference_delta, reference_loss, reference_weights


def prompted_batch(dtype, padding="right", texts=(6, 9, 5, 7), images=(1, 1, 0, 2)):
    """Rows behind one system prompt: a picture, its question, two answers with words between; one of text alone."""
    generator = torch.Generator().manual_seed(5)

    def words(count):
        return torch.randint(3, 80, (count,), generator=generator).tolist()

    prompt, rows = [1, *words(4)], []
    for count, text in zip(images, texts, strict=True):
        ids = prompt + [IMAGE_TOKEN] * PICTURE_TOKENS * count
        labels = [-100] * len(ids)
        for length in (text, text - 2):
            question, answer = words(2), words(length)
            ids, labels = ids + question + answer, labels + [-100] * 2 + answer
        rows.append((ids + words(1), [*labels, -100]))
    width = max(len(ids) for ids, _ in rows)

    def padded(values, fill):
        pad = [fill] * (width - len(values))
        return pad + values if padding == "left" else values + pad

    return {
        "input_ids": torch.tensor([padded(ids, 0) for ids, _ in rows]),
        "labels": torch.tensor([padded(labels, -100) for _, labels in rows]),
        "attention_mask": torch.tensor([padded([1] * len(ids), 0) for ids, _ in rows]),
        "pixel_values": torch.randn(sum(images), 3, 28, 28, generator=generator).to(dtype),
    }


def slow_step(model, inputs, config):
    """The loss, Δ and weights of the equations; the model is called through its plain forward, a row at a time."""
    full, without, first = [], [], 0
    valid = inputs["labels"][:, 1:] != -100
    picked = inputs["labels"][:, 1:].masked_fill(~valid, 0)
    width = inputs["input_ids"].shape[1]
    vocabulary = model.get_output_embeddings().weight.shape[0]
    for row in range(len(valid)):
        kept = inputs["attention_mask"][row].bool()
        ids = inputs["input_ids"][row][kept].unsqueeze(0)
        count = int((ids == IMAGE_TOKEN).sum()) // PICTURE_TOKENS
        pixels = inputs["pixel_values"][first : first + count] if count else None
        first += count
        places = kept.nonzero().squeeze(1).unsqueeze(0)
        ones = torch.ones_like(ids)
        logits = model(input_ids=ids, pixel_values=pixels, attention_mask=ones, position_ids=places).logits[0]
        text = ids[0] != IMAGE_TOKEN
        with torch.no_grad():
            blind = model(input_ids=ids[:, text], attention_mask=ones[:, text], position_ids=places[:, text]).logits[0]
        full.append(logits.new_zeros(width, vocabulary).index_put((kept.nonzero().squeeze(1),), logits))
        # A label is read at the last text token before it, and that is where its score must stand.
        read = text.cumsum(0) - 1
        without.append(logits.new_zeros(width, vocabulary).index_put((kept.nonzero().squeeze(1),), blind[read]))
    logits = torch.stack(full)[:, :-1]
    delta = reference_delta(logits, torch.stack(without)[:, :-1], picked, config.score)
    seen = (inputs["input_ids"] == IMAGE_TOKEN).any(dim=1).tolist()
    flags = valid.tolist()
    clamped = [values if has else [1.0] * len(values) for values, has in zip(delta, seen, strict=True)]
    weights = reference_weights(clamped, flags, config.alpha, config.beta, config.window, config.form)
    nll = -logits.log_softmax(-1).gather(-1, picked.unsqueeze(-1)).squeeze(-1)
    return reference_loss(nll, weights, flags, config.form), delta, weights


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("form", ["exact", "paper"])
@pytest.mark.parametrize("score", ["logit", "logprob"])
def test_loss_delta_weights_and_gradient_equal_the_reference_in_float64(score, form, padding):
    model, inputs = build_llava(torch.float64), prompted_batch(torch.float64, padding)
    config = CalConfig(score=score, form=form)
    loss, delta, weights = slow_step(model, inputs, config)
    expected = gradients_of(model, loss)
    cal = ContrastiveAlignment(model, config)
    out = cal(inputs)
    assert out.weights[out.valid].std() > 0.1, "weights that do not vary would hide a wrong one"
    found = gradients_of(model, out.loss)
    valid = out.valid
    seen = valid & out.has_image.unsqueeze(1)
    torch.testing.assert_close(out.loss, loss, rtol=1e-10, atol=0)
    torch.testing.assert_close(out.delta[seen], torch.tensor(delta, dtype=torch.float64)[seen], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(
        out.weights[valid], torch.tensor(weights, dtype=torch.float64)[valid], rtol=1e-9, atol=1e-10
    )
    assert (found - expected).norm() / expected.norm() < 1e-10
    assert cal.adapter._last_layer.works, "the short last layer was not the one that was tested"


@pytest.mark.parametrize("head", ["opaque", "tied"])
@pytest.mark.parametrize("score", ["logit", "logprob"])
def test_a_head_with_a_hook_on_it_and_a_tied_one_give_the_reference_too(head, score):
    model, inputs = build_llava(torch.float64), prompted_batch(torch.float64)
    if head == "opaque":
        model.lm_head.register_forward_hook(lambda _, __, logits: 3 * torch.tanh(logits / 3))
    else:
        model.get_input_embeddings().weight = model.lm_head.weight
    config = CalConfig(score=score)
    loss, _, _ = slow_step(model, inputs, config)
    expected = gradients_of(model, loss)
    cal = ContrastiveAlignment(model, config)
    assert isinstance(cal.adapter.head(), OpaqueHead if head == "opaque" else LinearHead)
    out = cal(inputs)
    assert out.weights[out.valid].std() > 0.1
    found = gradients_of(model, out.loss)
    torch.testing.assert_close(out.loss, loss, rtol=1e-10, atol=0)
    assert (found - expected).norm() / expected.norm() < 1e-10


def test_float32_is_within_1e_5_of_the_reference():
    wide, inputs = build_llava(torch.float64), prompted_batch(torch.float64)
    loss, _, _ = slow_step(wide, inputs, CalConfig())
    expected = gradients_of(wide, loss)
    model = build_llava(torch.float32)
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), wide.parameters(), strict=True):
            mine.copy_(theirs)
    out = ContrastiveAlignment(model)({**inputs, "pixel_values": inputs["pixel_values"].float()})
    found = gradients_of(model, out.loss)
    assert abs(out.loss.item() / loss.item() - 1) < 1e-5
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_bfloat16_is_no_worse_than_the_plain_forward():
    """Both against float64 on the weights rounded to bfloat16; weights of 1, which the plain forward has."""
    low, inputs = build_llava(torch.bfloat16), prompted_batch(torch.bfloat16)
    wide = build_llava(torch.float64)
    with torch.no_grad():
        for mine, theirs in zip(wide.parameters(), low.parameters(), strict=True):
            mine.copy_(theirs)
    exact = gradients_of(wide, wide(**{**inputs, "pixel_values": inputs["pixel_values"].double()}).loss)
    plain = gradients_of(low, low(**inputs).loss)
    fused = gradients_of(low, ContrastiveAlignment(low, CalConfig(contrast="none"))(inputs).loss)
    assert (fused - exact).norm() <= 1.05 * (plain - exact).norm()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_read_what_rows_of_their_own_read(attention):
    model, inputs = build_llava(torch.float64, attn=attention), prompted_batch(torch.float64)
    packed = ContrastiveAlignment(model)
    alone = ContrastiveAlignment(model)
    alone.contrast = type(packed.contrast)(pack=False)
    view = packed.contrast(packed.adapter.prepare(inputs))
    assert view.packed and (view.row_index == SHARED).any()
    room = 1e-10 if attention == "sdpa" else 1e-5  # eager attention takes its softmax in float32
    torch.testing.assert_close(packed(inputs).delta, alone(inputs).delta, rtol=room, atol=room)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_runs_the_short_last_layer_again_with_its_own_tokens(use_reentrant):
    """Two forwards before one backward: each must read its own label tokens when it is run again."""
    model = build_llava(torch.float64).train()
    batches = [prompted_batch(torch.float64), prompted_batch(torch.float64, texts=(4, 5, 8, 3))]
    cal = ContrastiveAlignment(model)
    expected = gradients_of(model, cal(batches[0]).loss + cal(batches[1]).loss)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    model.enable_input_require_grads()
    found = gradients_of(model, cal(batches[0]).loss + cal(batches[1]).loss)
    assert (found - expected).norm() / expected.norm() < 1e-12


def test_rows_of_text_and_tokens_after_the_last_label_cost_the_second_pass_nothing():
    model, inputs = build_llava(), prompted_batch(torch.float32)
    cal = ContrastiveAlignment(model)
    lengths = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda _, __, kwargs: lengths.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    cal(inputs)
    handle.remove()
    contrast_tokens = lengths[0][0] * lengths[0][1]
    # Three rows with a picture: 2 + 2 question words and two answers each, behind one prompt of 5.
    assert contrast_tokens == 5 + sum(4 + text + text - 2 for text in (6, 9, 7))
    assert lengths[1] == tuple(inputs["input_ids"].shape)
