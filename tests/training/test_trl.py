"""`with_cal(SFTTrainer)`: CAL on chat messages, full and with LoRA."""

import datasets
import pytest
import torch
from peft import LoraConfig
from PIL import Image

from contralign import CalConfig, with_cal
from contralign.models.small.tiny import build_tiny

trl = pytest.importorskip("trl")

TEXTS = ["USER: what is it? ASSISTANT: a red box on a table", "a blue ball in the grass", "a green cup"]


def messages_data(count=24):
    colours = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}
    names = list(colours)
    rows = []
    for row in range(count):
        name = names[row % 3]
        rows.append(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "text": None}, {"type": "text", "text": "what is it?"}],
                    },
                    {"role": "assistant", "content": [{"type": "text", "text": f"a {name} box on a table"}]},
                ],
                "images": [Image.new("RGB", (32, 32), colours[name])],
            }
        )
    return datasets.Dataset.from_list(rows).cast_column("images", datasets.List(datasets.Image()))


@pytest.mark.parametrize("lora", [False, True])
def test_sft_on_messages_with_pictures_trains_with_cal(lora, tmp_path):
    model, processor = build_tiny(
        TEXTS, image_size=32, patch_size=16, hidden=32, tower_hidden=32, layers=2, vocab_size=300
    )
    with torch.no_grad():
        model.lm_head.weight.mul_(30)
    args = trl.SFTConfig(
        output_dir=str(tmp_path),
        max_steps=20,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=3e-3,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        max_length=None,
        dataloader_pin_memory=False,
        activation_checkpointing=lora,
    )
    trainer = with_cal(trl.SFTTrainer)(
        model=model,
        args=args,
        train_dataset=messages_data(),
        processing_class=processor,
        peft_config=LoraConfig(r=8, target_modules="all-linear") if lora else None,
        cal=CalConfig(alpha=0.5, beta=5, window=3),
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 20
    assert logged[-1]["nll"] < logged[0]["nll"]
    assert all(entry["weight_mean"] > 0.5 for entry in logged)
    assert 0 < logged[0]["share_at_alpha"] < 1
    assert type(trainer).__name__ == "CALSFTTrainer"


def test_another_loss_of_trl_is_refused(tmp_path):
    model, processor = build_tiny(
        TEXTS, image_size=32, patch_size=16, hidden=32, tower_hidden=32, layers=1, vocab_size=300
    )
    args = trl.SFTConfig(
        output_dir=str(tmp_path), loss_type="dft", use_cpu=True, bf16=False, report_to=[], max_length=None
    )
    with pytest.raises(ValueError, match="loss_type='dft' has no effect"):
        with_cal(trl.SFTTrainer)(
            model=model, args=args, train_dataset=messages_data(2), processing_class=processor, cal=CalConfig()
        )
