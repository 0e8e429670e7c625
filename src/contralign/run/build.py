"""A recipe into objects: model and processor, the parts that learn, and the Trainer of a stage."""

import functools
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForImageTextToText, Trainer, TrainingArguments
from transformers.initialization import no_init_weights
from transformers.trainer_callback import PrinterCallback
from transformers.utils.hub import cached_file

from contralign.checkpoints.resuming_trainer import ResumingTrainer
from contralign.checkpoints.saving import safe_write
from contralign.data.batches.aspect import ImageAspect
from contralign.data.batches.collator import VLCollator
from contralign.data.batches.modality_sampler import modality_lengths
from contralign.data.records.mixture import SampleSet
from contralign.models.anyres import processors
from contralign.models.anyres.tiling import use_original_tiling_if_released
from contralign.models.assembly.assemble import meta_model
from contralign.models.features.feature_cache import FeatureCache
from contralign.models.features.feature_store import FeatureStore
from contralign.models.pretrained import UnusableModel, check_directory, load_config, load_whole_model
from contralign.recipe.model_settings import TINY, ModelSettings
from contralign.recipe.schema import RecipeError
from contralign.recipe.stage_settings import Stage
from contralign.run.learning.lora import adapts, add_lora
from contralign.run.learning.precision import learn_in_float32
from contralign.run.learning.quantization import alike_in_both_passes, quantization_arguments
from contralign.run.learning.trainable_parts import freeze_unread_layers, parameter_groups, train_only
from contralign.run.records import AnySamples
from contralign.training.config import CalConfig
from contralign.training.trainer import CALTrainer

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def outline_model(settings: ModelSettings) -> Any:
    """The start model on the meta device: every shape and no weights; the parts of known names are not fetched.

    Raises:
        RecipeError: a configuration cannot be found, or the shapes depend on a tokenizer that is yet to be learnt
            (`path: tiny`).
    """
    if settings.path == TINY:
        raise RecipeError(
            "model.path: the shapes of the tiny LLaVA depend on its tokenizer, which is learnt when it is built"
        )
    if settings.family is not None:
        try:
            return meta_model(**settings.parts, small=settings.shape == "tiny")
        except ValueError as error:
            raise RecipeError(f"model: {error}") from error
    path = str(settings.path)
    with _model_errors(path):
        config = load_config(path)
    with torch.device("meta"), no_init_weights():
        return AutoModelForImageTextToText.from_config(config, trust_remote_code=False)


def load_processor(path: str) -> Any:
    """The processor of a model directory or of a name on the hub; LLaVA-NeXT's cuts pictures as the released code.

    Raises:
        RecipeError: there is none, with what to do.
    """
    with _model_errors(path):
        return processors.load_processor(path)


def load_model(path: str, settings: ModelSettings) -> Any:
    """The image-text-to-text model of a directory or of a name on the hub; weights come from safetensors only.

    A LLaVA-NeXT packs its tiles as the released code does (`contralign.models.anyres.tiling`).

    Raises:
        RecipeError: there is none, with what to do; or it is to be quantised, and bitsandbytes is not installed.
        UnsupportedModel: features are to be kept, and the model has no vision tower that they could be kept of.
    """
    with _model_errors(path):
        model = load_whole_model(
            path,
            dtype=DTYPES[settings.dtype],
            attn_implementation=settings.attn_implementation,
            **quantization_arguments(settings),
        )
    use_original_tiling_if_released(model)
    alike_in_both_passes(model)
    if settings.cache_features:
        FeatureCache(model, feature_store(settings.feature_gib, settings.feature_folder))
    return model


@functools.cache
def feature_store(max_gib: float, folder: str | None) -> FeatureStore:
    """The one store of this process with these settings: stages and arms load the same tower again and again."""
    return FeatureStore(max_gib, folder)


def model_folder(path: str) -> Path:
    """Where a model lies: the directory itself, or that of the hub's cache.

    Raises:
        RecipeError: there is none, with what to do.
    """
    with _model_errors(path):
        folder = Path(path) if Path(path).is_dir() else Path(str(cached_file(path, "config.json"))).parent
        check_directory(folder)
    return folder.resolve()


def check_vocabulary(path: str, processor: Any) -> None:
    """Refuse a tokenizer with words that the model's embeddings have no row for; no weights are read.

    The ids of image and video tokens may lie beyond: they are never looked up.

    Args:
        path: of the model.
        processor: of it.

    Raises:
        RecipeError: with their number and one of them.
    """
    with _model_errors(path):
        config = load_config(path)
    rows = config.get_text_config().vocab_size
    marks = {
        value
        for name, value in config.to_dict().items()
        if name.endswith(("_token_id", "_token_index"))
        if isinstance(value, int)
    }
    words = getattr(processor, "tokenizer", processor).get_vocab()
    beyond = sorted((index, word) for word, index in words.items() if index >= rows and index not in marks)
    if beyond:
        index, word = beyond[0]
        raise RecipeError(
            f"model.path={path!r}: the tokenizer has {len(words):,} words and the model's embeddings {rows:,} rows: "
            f"{word!r} ({index}) and {len(beyond) - 1} more have none. Give the model rows for them "
            "(model.resize_token_embeddings(len(tokenizer)), then save it), or take its own tokenizer"
        )


def ready_to_learn(model: Any, settings: ModelSettings, stage: Stage) -> Any:
    """The model with the stage's parts learning and all else frozen, adapters added where the recipe wants them.

    Raises:
        RecipeError: the model lacks a part, or its vision tower is to learn while its features are kept.
    """
    if settings.cache_features and "vision_tower" in stage.train:
        raise RecipeError("train: vision_tower cannot learn with model.cache_features: its features would change")
    counts = train_only(model, stage.train)
    if "vision_tower" in stage.train:
        frozen = freeze_unread_layers(model)
        if frozen:
            logger.info("frozen, since the projector does not read them: %s", ", ".join(frozen))
    logger.info("learning: %s", ", ".join(f"{part} {count:,}" for part, count in counts.items()))
    if settings.lora is not None and adapts(settings, stage.train):
        model = add_lora(model, settings.lora, stage.train)
    return learn_in_float32(model)


def build_trainer(
    model: Any,
    args: TrainingArguments,
    stage: Stage,
    *,
    processor: Any,
    collate: VLCollator,
    train: AnySamples,
    evaluation: SampleSet | None,
    cal: CalConfig | None,
    sampler: str = "random",
) -> ResumingTrainer:
    """The Trainer of one stage: the plain one, or `CALTrainer` where `cal` is given; `sampler` is `data.sampler`."""
    settings: dict[str, Any] = {
        "model": model,
        "args": args,
        "train_dataset": train,
        "eval_dataset": evaluation,
        "data_collator": collate,
        "processing_class": processor,
        "on_nan": stage.on_nan,
    }
    if stage.part_rates:
        groups = parameter_groups(model, stage.learning_rate, stage.part_rates, stage.weight_decay)
        optimizer, keywords = Trainer.get_optimizer_cls_and_kwargs(args, model)
        settings["optimizer_cls_and_kwargs"] = (optimizer, {**keywords, "params": groups})
    if cal is not None:
        settings["cal"] = cal
    trainer = ResumingTrainer(**settings) if cal is None else cast(ResumingTrainer, CALTrainer(**settings))
    if sampler == "modality_length":
        trainer.group_by_modality(modality_lengths(train))
    trainer.remove_callback(PrinterCallback)
    return trainer


def save_folder(folder: Path, model: Any, processor: Any) -> None:
    """Save a model directory that the Auto classes load; it gets its name only once it is complete.

    Raises:
        CannotWrite: the disk refuses.
    """
    with safe_write(folder) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)


def as_trained(processor: Any, image_aspect: ImageAspect) -> Any:
    """The processor as it has to be beside a model whose pictures were padded: it pads them itself from now on.

    The collator pads before the processor; whoever loads the model directory with transformers alone has no collator.
    """
    return processors.pad_to_square(processor) if image_aspect == "pad" else processor


def degrades_pictures(cal: CalConfig | None) -> bool:
    """True where the contrast encodes another picture, so that batches must bring the original ones."""
    contrast = None if cal is None else cal.second_look()
    return contrast is not None and contrast.reencodes


@contextmanager
def _model_errors(path: str) -> Iterator[None]:
    try:
        yield
    except UnusableModel as error:
        raise RecipeError(f"model.path: {error}") from error
    except OSError as error:
        raise _unreachable(path, error) from error


def _unreachable(path: str, error: OSError) -> RecipeError:
    first_line = re.split(r"\n|(?<=\.) ", str(error).strip())[0]
    return RecipeError(
        f"model.path={path!r} is no model directory and cannot be fetched: {first_line} Give a directory with "
        "config.json, *.safetensors and a processor, or a name on the hub while it can be reached"
    )
