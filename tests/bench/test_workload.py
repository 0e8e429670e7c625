"""Named shapes as real models."""

import pytest
import torch
from worlds.same_numbers import assert_near, in_float64

from contralign.bench import memory
from contralign.bench.memory import OutOfMemory
from contralign.bench.workload import make_workload
from contralign.models.adapters.llava import LlavaAdapter
from contralign.models.adapters.llava_next import LlavaNextAdapter
from contralign.models.adapters.registry import adapter_for


@pytest.mark.parametrize(
    ("model", "image_tokens", "name", "adapter"),
    [
        ("llava15", 4, "LlavaForConditionalGeneration", LlavaAdapter),
        ("tiny", 9, "LlavaForConditionalGeneration", LlavaAdapter),
        ("llava_next", 24, "LlavaNextForConditionalGeneration", LlavaNextAdapter),
        ("llava_next", 14, "LlavaNextForConditionalGeneration", LlavaNextAdapter),
    ],
)
def test_a_shape_is_a_real_model_whose_pictures_give_the_image_tokens(model, image_tokens, name, adapter, small):
    made = make_workload(model, **{**small, "image_tokens": image_tokens, "text_only_rows": 1})
    assert type(made.model).__name__ == name
    assert isinstance(adapter_for(made.model), adapter)
    ids = made.batch["input_ids"]
    assert (ids == made.model.config.image_token_id).sum(dim=1).tolist() == [image_tokens, image_tokens, 0]
    assert bool(torch.isfinite(made.model(**made.batch).loss))


def test_the_language_model_has_the_sizes_asked_for(small):
    made = make_workload("llava15", **small)
    text = made.model.config.get_text_config()
    assert (text.hidden_size, text.num_hidden_layers, text.vocab_size) == (32, 2, 64)
    assert text.intermediate_size == 86
    assert made.model.get_output_embeddings().weight.shape == (64, 32)


def test_only_the_vision_tower_is_frozen(small):
    made = make_workload("llava15", **small)
    frozen = {name.split(".")[1] for name, weight in made.model.named_parameters() if not weight.requires_grad}
    learning = {name.split(".")[1] for name, weight in made.model.named_parameters() if weight.requires_grad}
    assert frozen == {"vision_tower"}
    assert {"multi_modal_projector", "language_model"} <= learning


def test_it_trains_without_a_cache_and_checkpoints_where_asked(small):
    plain, checkpointing = (make_workload("llava15", **small, checkpointing=on) for on in (False, True))
    assert plain.model.training
    assert plain.model(**plain.batch).past_key_values is None
    assert not plain.model.is_gradient_checkpointing
    assert checkpointing.model.is_gradient_checkpointing
    losses = [made.model.double()(**in_float64(made.batch)).loss for made in (plain, checkpointing)]
    assert_near(*losses, 1e-6)  # transformers sums it in float32


def test_dtype_is_that_of_weights_and_pictures(small):
    made = make_workload("llava15", **small, dtype="bfloat16")
    assert {weight.dtype for weight in made.model.parameters()} == {torch.bfloat16}
    assert made.batch["pixel_values"].dtype == torch.bfloat16


def test_the_seed_decides_the_weights_and_the_global_random_state_stays(small):
    before = torch.get_rng_state()
    one, two, other = (make_workload("tiny", **small, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    heads = [made.model.get_output_embeddings().weight for made in (one, two, other)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert torch.equal(one.batch["pixel_values"], two.batch["pixel_values"])


def test_neither_a_name_nor_a_directory_is_refused():
    with pytest.raises(ValueError, match="'llava-7b': wanted one of llava15, llava_next, tiny, or a model directory"):
        make_workload("llava-7b")


def test_what_cannot_fit_is_refused_before_it_is_built(small, monkeypatch):
    monkeypatch.setattr(memory, "installed_bytes", lambda device: 1000)
    with pytest.raises(OutOfMemory, match=r"plain MLE alone needs more than .* GB"):
        make_workload("llava15", **small)
