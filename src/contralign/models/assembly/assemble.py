"""A vision-language model put together from a language model, its towers and a new projector.

`assemble` reads pretrained weights, `assemble_tiny` makes a small model of the same architecture with random weights,
`meta_model` makes the model on the meta device, without weights or a download.

New parts start as the original code starts them: torch's own initialisation of a linear layer (uniform in ± 1/√inputs,
biases too) and N(0, 1/√d) for `image_newline`; transformers would take N(0, 0.02).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin
from transformers.initialization import no_init_weights

from contralign.models.assembly.architectures import ARCHITECTURES, Architecture
from contralign.models.assembly.family_names import FamilyName, check_parts
from contralign.models.assembly.part_configs import PartConfigs, part_configs, scaled_down
from contralign.models.assembly.part_tokenizer import load_part_tokenizer, train_part_tokenizer
from contralign.models.assembly.part_weights import (
    PROJECTOR_MODULES,
    aux_tower_weights,
    fetch_part,
    language_model_weights,
    projector_weights,
    vision_tower_weights,
)
from contralign.models.convert.checkpoint import fill_parameters
from contralign.models.decoder.image_token import IMAGE_TOKEN, padded_vocab_size

SMALL_VOCABULARY = 1024
"""Most words of a tiny shape's tokenizer."""


def assemble(
    family: FamilyName,
    *,
    language_model: str,
    vision_tower: str,
    aux_tower: str | None = None,
    projector: str | None = None,
    tokenizer: str | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A model of pretrained parts, and its processor.

    Every parameter has its value from a file, or belongs to a new part: nothing else is random. The global random state
    stays as it is.

    Args:
        family: one of `ARCHITECTURES`.
        language_model: directory, or name on the hub.
        vision_tower: CLIP, likewise; of a whole CLIP its vision half.
        aux_tower: the ConvNeXt of Mini-Gemini, likewise.
        projector: trained before: a model directory, or a file such as mm_projector.bin; None starts a new one.
        tokenizer: directory, or name on the hub; None is the language model's own.
        dtype: of all parameters; float32 to train.
        seed: of the new parts.

    Raises:
        ConversionError: a file cannot be read, or the parts do not fill the model; every name is listed.
        ValueError: a part cannot be found, is of another kind, or the family takes no such part.
    """
    check_parts(family, aux_tower)
    architecture, parts = ARCHITECTURES[family], part_configs(language_model, vision_tower, aux_tower)
    words = fetch_part(language_model)
    tokens = load_part_tokenizer(words if tokenizer is None else fetch_part(tokenizer))
    image_token_id = tokens.get_vocab()[IMAGE_TOKEN]
    decoder = _pad_vocabulary(parts, architecture, image_token_id)
    _check_vocabulary(tokens, decoder.vocab_size)
    with no_init_weights(), torch.random.fork_rng(devices=[]):
        model = architecture.model(architecture.config(parts, image_token_id))
    state = language_model_weights(words, decoder.vocab_size, decoder.tie_word_embeddings)
    state |= vision_tower_weights(fetch_part(vision_tower))
    if aux_tower is not None:
        state |= aux_tower_weights(fetch_part(aux_tower))
    state |= _init_new_parts(model, seed)
    if projector is not None:
        state |= _trained_projector(model, projector)
    fill_parameters(model, state, [], dtype)
    return _with_processor(model, architecture, tokens)


def assemble_tiny(
    family: FamilyName,
    texts: Iterable[str],
    *,
    language_model: str,
    vision_tower: str,
    aux_tower: str | None = None,
    vocab_size: int = SMALL_VOCABULARY,
    seed: int = 0,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The same model in small, with random weights and a tokenizer learnt from `texts`: to rehearse, not to use.

    Args:
        family: see `assemble`.
        texts: what the tokenizer learns from.
        language_model: whose architecture is made small; of known names nothing is fetched.
        vision_tower: likewise.
        aux_tower: likewise.
        vocab_size: most words of the tokenizer.
        seed: of the weights.

    Raises:
        ValueError: see `assemble`.
    """
    check_parts(family, aux_tower)
    architecture, parts = ARCHITECTURES[family], scaled_down(part_configs(language_model, vision_tower, aux_tower))
    decoder: Any = parts.language_model
    tokens = train_part_tokenizer(decoder.model_type, texts, vocab_size, decoder.max_position_embeddings)
    image_token_id = tokens.get_vocab()[IMAGE_TOKEN]
    decoder.vocab_size = image_token_id  # <image> is the last word and behind the model's own, as in true ones
    decoder.pad_token_id = tokens.pad_token_id
    decoder.bos_token_id = tokens.bos_token_id
    decoder.eos_token_id = tokens.eos_token_id
    _pad_vocabulary(parts, architecture, image_token_id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = architecture.model(architecture.config(parts, image_token_id))
    _init_new_parts(model, seed)
    return _with_processor(model, architecture, tokens)


def meta_model(
    family: FamilyName, *, language_model: str, vision_tower: str, aux_tower: str | None = None, small: bool = False
) -> PreTrainedModel:
    """The model on the meta device: every shape, no weights; of known names nothing is fetched.

    Arguments and errors are those of `assemble`; a `small` one has the tiny shape and all words its tokenizer may have.
    """
    check_parts(family, aux_tower)
    architecture, parts = ARCHITECTURES[family], part_configs(language_model, vision_tower, aux_tower)
    if small:
        parts = scaled_down(parts)
        parts.language_model.vocab_size = SMALL_VOCABULARY
    image_token_id: int = parts.language_model.vocab_size
    _pad_vocabulary(parts, architecture, image_token_id)
    with torch.device("meta"), no_init_weights():
        model = architecture.model(architecture.config(parts, image_token_id))
    model.tie_weights()
    return model


def _pad_vocabulary(parts: PartConfigs, architecture: Architecture, image_token_id: int) -> Any:
    """The language model's configuration, with a row for the image token where the family looks it up."""
    decoder: Any = parts.language_model
    if architecture.looks_up_image_token:
        decoder.vocab_size = padded_vocab_size(image_token_id, decoder.vocab_size)
    return decoder


def _check_vocabulary(tokens: PreTrainedTokenizerFast, rows: int) -> None:
    """Every word but the image token has a row, or it could not be looked up."""
    beyond = sorted(word for word, index in tokens.get_vocab().items() if index >= rows and word != IMAGE_TOKEN)
    if beyond:
        raise ValueError(
            f"the tokenizer has words that the language model's {rows} rows do not hold: {', '.join(beyond[:5])}; give "
            "`tokenizer`, one that was made for it"
        )


def _init_new_parts(model: PreTrainedModel, seed: int) -> dict[str, Tensor]:
    """Give the projector (mining and newline included) its first values; they are returned by name."""
    names = _projector_names(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.LayerNorm) and any(full.startswith(f"{name}.") for full in names):
                module.reset_parameters()
        for name in names:
            if name.endswith("image_newline"):
                newline = model.get_parameter(name)
                nn.init.normal_(newline, std=newline.numel() ** -0.5)
    return {name: model.get_parameter(name).detach() for name in names}


def _trained_projector(model: PreTrainedModel, source: str) -> dict[str, Tensor]:
    """The projector that training has made before; the newline may be new, since the first stage leaves it alone."""
    state = projector_weights(source)
    absent = [name for name in _projector_names(model) if name not in state and not name.endswith("image_newline")]
    if absent:
        raise ValueError(f"projector={source!r} lacks {', '.join(absent)}: was it trained in another family?")
    return state


def _projector_names(model: PreTrainedModel) -> list[str]:
    return [name for name, _ in model.named_parameters() if name.removeprefix("model.").startswith(PROJECTOR_MODULES)]


def _with_processor(
    model: PreTrainedModel, architecture: Architecture, tokens: PreTrainedTokenizerFast
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Ready to save: head and embeddings tied where they are one, and no sampling settings of the language model's."""
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=tokens.bos_token_id, eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id
    )
    processor = architecture.processor(model.config, tokens)
    architecture.finish(model, processor)
    return model.eval(), processor
