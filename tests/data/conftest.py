from pathlib import Path

import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from contralign.data.records.messages import IMAGE, Sample, Span, Turn

GOLDEN = Path(__file__).parents[1] / "golden"

# Reads messages as typed parts and marks what the assistant says, its end token included.
MARKED = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE_TOKEN"
    "{% elif m['role'] == 'assistant' %}{% generation %}{{ c['text'] }}</s>{% endgeneration %}"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
UNMARKED = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def small_tokenizer(**extra: str) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["a red dog on the grass. what is this?"] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>", extra_special_tokens=extra
    )


def llava_processor(template: str = MARKED, **image_settings) -> LlavaProcessor:
    images = CLIPImageProcessorPil(
        **{"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}, **image_settings}
    )
    return LlavaProcessor(
        images,
        small_tokenizer(image_token="<image>"),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template.replace("IMAGE_TOKEN", "<image>"),
    )


def llava_next_processor(template: str = MARKED) -> LlavaNextProcessor:
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        image_grid_pinpoints=[[28, 56], [56, 28], [56, 56]],
    )
    return LlavaNextProcessor(
        images,
        small_tokenizer(image_token="<image>"),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template.replace("IMAGE_TOKEN", "<image>"),
    )


def idefics3_processor(template: str = MARKED) -> Idefics3Processor:
    images = Idefics3ImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    tokenizer = small_tokenizer(image_token="<image>")
    return Idefics3Processor(
        images, tokenizer, image_seq_len=4, chat_template=template.replace("IMAGE_TOKEN", "<image>")
    )


def gemma3_processor(template: str = MARKED) -> Gemma3Processor:
    tokenizer = small_tokenizer(
        image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>"
    )
    images = Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    return Gemma3Processor(
        images, tokenizer, image_seq_length=4, chat_template=template.replace("IMAGE_TOKEN", "<start_of_image>")
    )


PROCESSORS = {
    "llava": llava_processor,
    "llava_next": llava_next_processor,
    "idefics3": idefics3_processor,
    "gemma3": gemma3_processor,
}


@pytest.fixture(scope="session")
def text_template() -> str:
    """Reads messages as strings, as the templates of bare tokenizers do."""
    turns = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}"
    return turns + "{% if add_generation_prompt %}[assistant]{% endif %}"


@pytest.fixture(scope="session")
def llama_like() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "llama_like_tokenizer" / "tokenizer.json"))


@pytest.fixture(scope="session")
def gemma_like() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "gemma_like_tokenizer" / "tokenizer.json"))


@pytest.fixture(scope="session", params=sorted(PROCESSORS))
def any_processor(request: pytest.FixtureRequest):
    return PROCESSORS[request.param]()


@pytest.fixture(scope="session")
def llava():
    return llava_processor()


@pytest.fixture(scope="session")
def make_llava():
    return llava_processor


@pytest.fixture(scope="session")
def make_llava_next():
    return llava_next_processor


@pytest.fixture(scope="session")
def unmarked() -> str:
    return UNMARKED


@pytest.fixture
def red() -> Image.Image:
    return Image.new("RGB", (40, 20), (255, 0, 0))


@pytest.fixture
def blue() -> Image.Image:
    return Image.new("RGB", (20, 50), (0, 0, 255))


@pytest.fixture
def one_picture(red) -> Sample:
    turns = (Turn("user", f"{IMAGE}what is this?"), Turn("assistant", "a red dog"))
    return Sample("one", turns, (red,), (Span(1, 2, 5, "visual"), Span(1, 6, 9, "filler")))


@pytest.fixture
def two_pictures(red, blue) -> Sample:
    turns = (
        Turn("user", f"{IMAGE} or {IMAGE}"),
        Turn("assistant", "a dog"),
        Turn("user", "what?"),
        Turn("assistant", "the dog"),
    )
    return Sample("two", turns, (red, blue))


@pytest.fixture
def no_picture() -> Sample:
    return Sample("none", (Turn("user", "what is this?"), Turn("assistant", "a dog")))


@pytest.fixture
def image_root(tmp_path) -> Path:
    """A folder of pictures, good and bad, with a secret beside it."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    Image.new("RGB", (8, 6), (10, 20, 30)).save(root / "good.png")
    Image.new("RGB", (8, 6), (90, 20, 30)).save(root / "sub" / "other.png")
    Image.new("RGB", (8, 6)).save(tmp_path / "secret.png")
    (root / "text.png").write_text("no picture at all")
    (root / "empty.png").write_bytes(b"")
    (root / "outward.png").symlink_to(tmp_path / "secret.png")
    (root / "inward.png").symlink_to(root / "good.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    whole = (root / "good.png").read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) - 30])
    return root
