"""tiny: a LLaVA small enough for two CPU cores.

It is a real `LlavaForConditionalGeneration` (CLIP vision tower, two-layer projector, LLaMA language model) with its own
BPE tokenizer, so that every code path is that of a 7B model. What its parts learn before they meet is in
`tiny_pretraining`.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from contralign.models.chat_templates import TINY_TEMPLATE
from contralign.models.decoder.image_token import IMAGE_TOKEN

PAPER_LEVEL, INK_RANGE = 0.94, 0.3
"""Mean and deviation that pixels are normalised by. The small worlds are ink on pale paper: with paper near 0 the empty
patches are quiet, and a tower that starts from nothing learns sooner than with CLIP's statistics."""

UNK, BOS, EOS = "<unk>", "<s>", "</s>"


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """What a tokenizer has beside words: the first ids, in the order of `names`, and the part each of them plays."""

    names: tuple[str, ...]
    unk: str
    bos: str
    eos: str
    pad: str


TINY_TOKENS = SpecialTokens(names=(UNK, BOS, EOS, IMAGE_TOKEN), unk=UNK, bos=BOS, eos=EOS, pad=UNK)


def build_tiny(
    texts: Iterable[str],
    out_dir: str | Path | None = None,
    *,
    image_size: int = 64,
    patch_size: int = 16,
    tower_hidden: int = 128,
    tower_layers: int = 2,
    vision_feature_layer: int = -1,
    hidden: int = 128,
    layers: int = 3,
    heads: int = 4,
    vocab_size: int = 4096,
    max_length: int = 1024,
    seed: int = 0,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A tiny LLaVA with random weights, and its processor; the global random state stays as it is.

    Args:
        texts: what the tokenizer learns from; frequent words become one token.
        out_dir: also save both there, as an ordinary model directory.
        image_size: pixels of a side that pictures are scaled to; (image_size / patch_size)² image tokens.
        patch_size: pixels of a side of a patch; what must be told apart is learnt fastest when it fills one.
        tower_hidden: width of the vision tower.
        tower_layers: its depth.
        vision_feature_layer: which of its hidden states the projector reads. LLaVA reads -2; a shallow tower that
            learns from nothing has no layer to spare: -1.
        hidden: width of the language model.
        layers: its depth.
        heads: attention heads, of the language model and of the tower.
        vocab_size: most tokens that the tokenizer may have.
        max_length: longest sequence.
        seed: of the weights.

    Raises:
        ValueError: a size below 1, patches that do not tile the picture, heads that do not divide a width, or the tower
            has no such layer.
    """
    sizes = {"image_size": image_size, "patch_size": patch_size, "tower_hidden": tower_hidden, "hidden": hidden}
    sizes |= {"tower_layers": tower_layers, "layers": layers, "heads": heads, "max_length": max_length}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size}: wanted at least 1")
    if image_size % patch_size:
        raise ValueError(f"image_size={image_size}: wanted a multiple of patch_size ({patch_size})")
    if tower_hidden % heads or hidden % (2 * heads):
        raise ValueError(
            f"tower_hidden={tower_hidden}, hidden={hidden}: wanted multiples of heads ({heads}) and of twice as many"
        )
    if not -tower_layers - 1 <= vision_feature_layer <= tower_layers:
        raise ValueError(f"vision_feature_layer={vision_feature_layer}: the tower has {tower_layers} layers")
    processor = build_processor(texts, image_size, patch_size, vocab_size, max_length)
    tokenizer = processor.tokenizer
    tower = CLIPVisionConfig(
        hidden_size=tower_hidden,
        intermediate_size=4 * tower_hidden,
        num_hidden_layers=tower_layers,
        num_attention_heads=heads,
        image_size=image_size,
        patch_size=patch_size,
    )
    language_model = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_length,
        initializer_range=hidden**-0.5,  # 0.02 suits thousands of dimensions; here it would let hardly anything through
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=tower,
        text_config=language_model,
        image_token_index=processor.image_token_id,
        image_seq_length=(image_size // patch_size) ** 2,
        vision_feature_layer=vision_feature_layer,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    if out_dir is not None:
        model.save_pretrained(out_dir)
        processor.save_pretrained(out_dir)
    return model, processor


def build_processor(
    texts: Iterable[str], image_size: int, patch_size: int, vocab_size: int, max_length: int
) -> LlavaProcessor:
    """Tokenizer, PIL image processor and chat template of `build_tiny`."""
    tokenizer = train_tokenizer(texts, vocab_size, max_length)
    return pil_processor(tokenizer, image_size, patch_size, [PAPER_LEVEL] * 3, [INK_RANGE] * 3, TINY_TEMPLATE)


def pil_processor(
    tokenizer: PreTrainedTokenizerFast, side: int, patch_size: int, mean: list[float], std: list[float], template: str
) -> LlavaProcessor:
    """A tokenizer and a chat template, and PIL pictures of `side` pixels; one image token for every patch."""
    return LlavaProcessor(
        image_processor=LlavaImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}, image_mean=mean, image_std=std
        ),
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the class token, which the select strategy "default" takes away again
        chat_template=template,
    )


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, max_length: int, special: SpecialTokens = TINY_TOKENS
) -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt from the texts: no character is unknown, and given room each of their words is one token.

    Raises:
        ValueError: `vocab_size` has no room for the 256 bytes and the special tokens.
    """
    if vocab_size < 256 + len(special.names):
        raise ValueError(f"vocab_size={vocab_size}: wanted {256 + len(special.names)} or more: bytes, special tokens")
    bpe = Tokenizer(BPE(unk_token=special.unk))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    bpe.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special.names),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(itertools.chain(texts, ["USER: ", " ASSISTANT:"]), trainer)
    bpe.post_processor = TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{special.bos} $A", special_tokens=[(special.bos, special.names.index(special.bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        unk_token=special.unk,
        pad_token=special.pad,
        bos_token=special.bos,
        eos_token=special.eos,
        extra_special_tokens={"image_token": IMAGE_TOKEN},  # behind all words where it is not among the names
        model_max_length=max_length,
        padding_side="right",
    )
