import pytest
import torch
from PIL import Image

from contralign.models.small.tiny import build_tiny
from contralign.models.small.tiny_pretraining import pretrain_text, pretrain_tower

TEXTS = ["what do you see?", "a red lamp and a blue fish.", "a green fish.", "what is it? it is a lamp."]
SMALL = {"image_size": 16, "patch_size": 8, "tower_hidden": 16, "hidden": 32, "layers": 2, "heads": 2}
CHATS = [
    [{"role": "user", "content": "what do you see?"}, {"role": "assistant", "content": "a red lamp and a blue fish."}],
    [{"role": "user", "content": "what is it?"}, {"role": "assistant", "content": "a green fish."}],
]
COLOURS = ("red", "blue", "green")
PICTURES = [Image.new("RGB", (16, 16), colour) for colour in COLOURS]
CAPTIONS = [f"a {colour} fish." for colour in COLOURS]


@pytest.fixture
def tiny():
    return build_tiny(TEXTS, **SMALL)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_text_pretraining_lowers_the_text_loss_and_leaves_tower_and_projector_untouched(tiny):
    model, processor = tiny
    before = state(model)
    losses = pretrain_text(model, processor, CHATS, steps=30, batch_size=2, learning_rate=5e-3, progress=False)
    assert len(losses) == 30
    assert losses[-1] < 0.5 * losses[0]
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert {name.split(".")[0] for name in moved} == {"model", "lm_head"}
    assert all(name.startswith(("model.language_model.", "lm_head.")) for name in moved)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.bit_exact
def test_text_pretraining_repeats_under_its_seed():
    def run(seed):
        model, processor = build_tiny(TEXTS, **SMALL)
        return pretrain_text(model, processor, CHATS * 4, steps=6, batch_size=1, seed=seed, progress=False)

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_text_pretraining_keeps_the_mode_of_the_model(tiny):
    model, processor = tiny
    pretrain_text(model.eval(), processor, CHATS, steps=1, progress=False)
    assert not model.training


def test_text_pretraining_wants_text_alone(tiny):
    model, processor = tiny
    with pytest.raises(ValueError, match="holds <image>"):
        pretrain_text(model, processor, [[{"role": "user", "content": "<image> what?"}]], steps=1)
    with pytest.raises(ValueError, match="chats is empty"):
        pretrain_text(model, processor, [], steps=1)


def test_tower_pretraining_learns_to_tell_pictures_apart_and_leaves_the_language_model_untouched(tiny):
    model, processor = tiny
    before = state(model)
    losses = pretrain_tower(
        model, processor, PICTURES, CAPTIONS, steps=60, batch_size=3, learning_rate=5e-3, progress=False
    )
    assert len(losses) == 60
    assert losses[-1] < 0.2 * losses[0]
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert moved
    assert all(name.startswith("model.vision_tower.") for name in moved)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.bit_exact
def test_tower_pretraining_repeats_under_its_seed_and_leaves_the_global_random_state_alone():
    def run(seed):
        model, processor = build_tiny(TEXTS, **SMALL)
        return pretrain_tower(model, processor, PICTURES, CAPTIONS, steps=4, batch_size=2, seed=seed, progress=False)

    torch.manual_seed(11)
    before = torch.get_rng_state()
    assert run(3) == run(3) != run(4)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("pictures", "captions"), [([], []), (PICTURES, CAPTIONS[:2])])
def test_tower_pretraining_wants_a_caption_for_every_picture(tiny, pictures, captions):
    with pytest.raises(ValueError, match="pictures and"):
        pretrain_tower(*tiny, pictures, captions, steps=1)
