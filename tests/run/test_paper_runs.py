"""The paper's recipes in tiny shape: they train, with CAL, on pictures and on text alone; what they save is read."""

import json

import pytest
import torch
from accelerate.utils import extract_model_from_parallel
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer.testing import CliRunner
from worlds.kernels import needs_bfloat16_attention
from worlds.same_numbers import assert_says_the_same
from worlds.small_parts import write_clip, write_convnext, write_llama

from contralign.cli.main import app
from contralign.recipe.recipe_file import find_recipe, load_plan
from contralign.run import steps
from contralign.run.learning.trainable_parts import part_of
from contralign.run.records import make_collator
from contralign.run.run import run_plan

pytestmark = needs_bfloat16_attention
SHAPES = [(64, 64), (120, 40), (40, 110), (90, 60)]
COLOURS = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (30, 50, 220)}


def write_data(folder):
    """Captions of pictures of several shapes for PT; chats, every third of them without a picture, for IT."""
    captions, chats = [], []
    for number in range(24):
        name, colour = list(COLOURS.items())[number % 3]
        Image.new("RGB", SHAPES[number % 4], colour).save(folder / f"{number}.png")
        turns = [
            {"from": "human", "value": "<image>\nwhat is it?"},
            {"from": "gpt", "value": f"a {name} thing, number {number}"},
        ]
        captions.append({"id": f"c{number}", "image": f"{number}.png", "conversations": turns})
        more = [{"from": "human", "value": "sure?"}, {"from": "gpt", "value": f"yes, {name}"}]
        text = [{"from": "human", "value": f"say {name}"}, {"from": "gpt", "value": f"{name} {number}"}]
        chats.append({**captions[-1], "conversations": turns + more} if number % 3 else {"conversations": text})
    for name, records in (("captions", captions), ("chats", chats)):
        (folder / f"{name}.json").write_text(json.dumps(records))


def rehearse(folder, name, *changes):
    write_data(folder)
    recipe = find_recipe(name)
    data = [
        f"data.train={folder / 'chats.json'}",
        f"data.image_root={folder}",
        f"stages.pt.data.train={folder / 'captions.json'}",
    ]
    if "pt" not in load_plan(recipe).stages:
        data = data[:2]
    return load_plan(recipe, ["model=tiny-shape", *data, f"output_dir={folder / 'run'}", *changes])


@pytest.fixture
def trained(monkeypatch):
    """Models as they were when they were saved, by folder, without the Trainer's bfloat16 around their forward."""
    models = {}
    save = steps.save_folder

    def keep(folder, model, processor):
        save(folder, model, processor)
        models[folder.name] = extract_model_from_parallel(model, keep_fp32_wrapper=False)

    monkeypatch.setattr(steps, "save_folder", keep)
    return models


def batch_of(processor):
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it?"}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    return processor(text=text, images=Image.new("RGB", (120, 40), COLOURS["red"]), return_tensors="pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava15_7b", "llava_next_13b", "mgm_2b", "mgm_7b", "mgm_hd_13b"])
def test_a_recipe_in_tiny_shape_trains_saves_speaks_and_is_read_again(name, tmp_path, trained):
    recipe = rehearse(tmp_path, f"{name}/cal")
    run = run_plan(recipe, {})
    folder = run / "cal"
    events = [event for event in run.metrics.read() if "loss" in event]
    assert [(event["stage"], event["step"]) for event in events] == [
        (stage, step) for stage in recipe.stages for step in (1, 2, 3, 4)
    ]
    assert all(0 < event["loss"] < 20 for event in events)
    assert not (run / "bad_records.json").exists()
    model, reader = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    batch = batch_of(reader)
    assert_says_the_same(trained["cal"].eval(), model, batch)
    with torch.inference_mode():
        spoken = model.generate(**batch, max_new_tokens=3, do_sample=False)
    assert spoken.shape[1] > batch["input_ids"].shape[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava_next_7b", "mgm_2b"])
def test_every_part_that_a_stage_trains_moves_and_no_other(name, tmp_path, monkeypatch):
    starts = {}
    train = steps.StepRunner.train

    def note(self, step):
        starts[step.stage.name] = weights(step.start)
        return train(self, step)

    monkeypatch.setattr(steps.StepRunner, "train", note)
    recipe = rehearse(tmp_path, f"{name}/baseline")
    run = run_plan(recipe, {})
    ends = {"pt": starts["it"], "it": weights(run / "mle")}
    for stage, settings in recipe.stages.items():
        start, end = starts[stage], ends[stage]
        moved = {part_of(key) for key in start if not torch.equal(start[key], end[key])}
        assert moved == set(settings.settings.train)


def weights(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava15_7b", "mgm_7b"])
def test_what_was_trained_on_padded_pictures_pads_them_wherever_it_is_loaded(name, tmp_path):
    recipe = rehearse(tmp_path, f"{name}/baseline", "stages.pt=null", "stages.it.steps=1")
    run = run_plan(recipe, {})
    reader = AutoProcessor.from_pretrained(run / "mle")
    picture = Image.effect_noise((90, 40), 80).convert("RGB")
    seen = make_collator(reader, recipe.stages["it"].data).image_inputs([picture])
    alone = reader(text="<image>", images=picture, return_tensors="pt")
    square = reader(text="<image>", images=picture, do_pad=False, return_tensors="pt")
    for key in seen:
        assert torch.equal(seen[key], alone[key])
        assert not torch.equal(seen[key], square[key])


@pytest.mark.slow
def test_a_recipe_is_rehearsed_by_its_name_from_the_command_line(tmp_path):
    words = ["train", "llava15_13b/cal", "model=tiny-shape", "stages.it.steps=1", f"output_dir={tmp_path / 'run'}"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "Rehearsal: llava in tiny shape" in done.output
    assert len(load_file(tmp_path / "run" / "cal" / "model.safetensors")) > 10


@pytest.mark.slow
def test_a_model_is_put_together_once_and_hd_starts_from_the_projector_of_another_run(tmp_path):
    """Full shape: parts from directories, PT by itself, then an HD model with its projector."""
    write_llama(tmp_path / "words")
    write_clip(tmp_path / "clip")
    write_convnext(tmp_path / "convnext")
    write_data(tmp_path)
    parts = {"language_model": "words", "vision_tower": "clip", "aux_tower": "convnext"}
    shared = [f"model.{part}={tmp_path / folder}" for part, folder in parts.items()]
    shared += [
        f"data.train={tmp_path / 'chats.json'}",
        f"data.image_root={tmp_path}",
        "trainer.dataloader_num_workers=0",
    ]

    def steps_of(stage):
        return [f"stages.{stage}.{key}" for key in ("epochs=null", "steps=2", "batch_size=2", "global_batch=4")]

    pt_data = [f"stages.pt.data.train={tmp_path / 'captions.json'}", f"stages.pt.data.image_root={tmp_path}"]
    changes = [*shared, *pt_data, *steps_of("pt"), "stages.it=null", f"output_dir={tmp_path / 'pt'}"]
    first = run_plan(load_plan(find_recipe("mgm_7b/cal"), changes), {})
    changes = [*shared, *steps_of("it"), f"output_dir={tmp_path / 'hd'}", f"model.projector={first / 'cal'}"]
    changes += ["stages.it.learning_rate=1e-9"]
    second = run_plan(load_plan(find_recipe("mgm_hd_7b/cal"), changes), {})
    before, after = weights(first / "cal"), weights(second / "cal")
    mining = [name for name in before if "patch_mining" in name]
    assert len(mining) == 12
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in mining)
    assert AutoModelForImageTextToText.from_pretrained(second / "cal").config.image_grid == 2
