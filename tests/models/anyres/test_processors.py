"""Processors of the LLaVAs: PIL's whatever is installed, and padding where a model was trained on padded pictures."""

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPImageProcessorPil, LlavaNextProcessor, LlavaProcessor
from transformers.image_processing_utils import BaseImageProcessor

from contralign.models.anyres import processors
from contralign.models.anyres.tiling import canvases
from contralign.models.assembly.assemble import assemble_tiny

PARTS = {"language_model": "lmsys/vicuna-7b-v1.5", "vision_tower": "openai/clip-vit-large-patch14-336"}


def processor_of(family):
    return assemble_tiny(family, ["a red cat sits on 7 mats"] * 9, **PARTS)[1]


class OfTorchvision(BaseImageProcessor):
    """Stands in for what transformers loads where torchvision is installed."""


@pytest.mark.parametrize(("family", "kind"), [("llava", LlavaProcessor), ("llava_next", LlavaNextProcessor)])
def test_a_llava_is_read_with_pil_where_torchvision_would_have_been_taken(family, kind, tmp_path, monkeypatch):
    processor_of(family).save_pretrained(tmp_path)
    plain = AutoProcessor.from_pretrained

    def as_where_torchvision_is(path, backend=None, **where):
        found = plain(path, **where)
        if backend != "pil":
            found.image_processor = OfTorchvision()
        return found

    monkeypatch.setattr(AutoProcessor, "from_pretrained", as_where_torchvision_is)
    found = processors.load_processor(tmp_path, local_files_only=True)
    assert type(found) is kind
    assert type(found.image_processor).__name__.endswith("Pil")
    if family == "llava_next":
        turned = [[height, width] for width, height in canvases(56)]
        assert found.image_processor.image_grid_pinpoints == turned
        assert "_get_unpadded_features" in vars(found)


@pytest.mark.parametrize("clip", [True, False])
def test_a_padding_processor_pads_after_it_was_saved_and_keeps_all_else(clip, tmp_path):
    """llava-hf's LLaVA-1.5 come with CLIP's image processor, which has no padding."""
    processor = processor_of("llava")
    if clip:
        settings = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
        processor.image_processor = CLIPImageProcessorPil(**settings)
    wide = Image.effect_noise((90, 40), 80).convert("RGB")
    square = Image.effect_noise((60, 60), 80).convert("RGB")
    before = [processor(text="<image>", images=picture, return_tensors="pt") for picture in (wide, square)]
    processors.pad_to_square(processor).save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    after = [loaded(text="<image>", images=picture, return_tensors="pt") for picture in (wide, square)]
    assert not torch.equal(before[0]["pixel_values"], after[0]["pixel_values"])
    assert torch.equal(before[1]["pixel_values"], after[1]["pixel_values"])
    assert torch.equal(before[0]["input_ids"], after[0]["input_ids"])
    padded = Image.new("RGB", (90, 90), (122, 116, 104))
    padded.paste(wide, (0, 25))
    by_hand = processor_of("llava")(text="<image>", images=padded, return_tensors="pt")
    torch.testing.assert_close(after[0]["pixel_values"], by_hand["pixel_values"])


def test_a_processor_that_cannot_pad_says_so(caplog):
    processor = processor_of("llava_next")
    assert processors.pad_to_square(processor) is processor
    assert "LlavaNextImageProcessorPil cannot pad pictures" in caplog.text
