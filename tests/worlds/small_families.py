"""Tiny random models of today's families, and batches of rows with pictures, videos, both, or none. Built, not loaded.

A family says how one picture looks to it; rows, padding and labels are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as hf
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from worlds.small_models import IMAGE_TOKEN, spread, text_settings

VIDEO_TOKEN, BEFORE, AFTER = 91, 92, 93
CLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}

Row = dict[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """How a picture or a video of one family looks.

    Attributes:
        token: the id that stands for it.
        tokens: how often.
        tensors: what the tower is given of it.
        around: ids before and after.
        filled: whether those are filled by the model too.
        runs: frames that stand by themselves, each with its tokens and what is around them.
    """

    token: int
    tokens: int
    tensors: Callable[[torch.Generator], Row]
    around: tuple[Sequence[int], Sequence[int]] = ((), ())
    filled: bool = False
    runs: int = 1


@dataclass(frozen=True)
class Family:
    """A tiny model and what a batch of it is made of.

    Attributes:
        name: as people say it.
        make: the model.
        kinds: "image", and "video" where the model takes one.
        beside: ids, labels -> what the family's processor gives of every token.
        collate: lists of the tensors of every row's pictures -> those of a batch; by default one after the other.
        prefix: True where pictures and prompt come first and one answer last.
        by_row: False where a row's logits depend on padding or on the other rows of its batch.
        removed: what the model's own forward wants of the text when it is told nothing of pictures.
        across: inputs that pictures are read from by cross-attention.
        dtype: that its kernels can be run in here.
        head: factor on the head's random weights; pictures move logits by several units.
    """

    name: str
    make: Callable[[], Any]
    kinds: Mapping[str, Kind]
    beside: Callable[[list[int], list[int]], dict[str, list[int]]] = lambda ids, labels: {}
    collate: Callable[[list[list[Row]], Tensor], Row] = field(default=lambda rows, ids: one_after_another(rows))
    prefix: bool = False
    by_row: bool = True
    removed: tuple[str, ...] = ()
    across: tuple[str, ...] = ()
    dtype: torch.dtype = torch.float64
    head: float = 4.0


def one_after_another(rows: list[list[Row]]) -> Row:
    """The tensors of all pictures in reading order, by their names."""
    pictures = [picture for row in rows for picture in row]
    names = dict.fromkeys(name for picture in pictures for name in picture)
    return {name: torch.cat([picture[name] for picture in pictures if name in picture]) for name in names}


def family_rows(family: Family, rows: Sequence[Sequence[str]], seed: int = 0) -> list[tuple[list, list, list[Row]]]:
    """Ids, labels and pictures of rows told by the kinds of their pictures: [["image"], [], ["image", "image"]].

    All begin with one system prompt, but for families that read a prefix. Every answer is labelled.
    """
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> list[int]:
        return torch.randint(3, 80, (count,), generator=generator).tolist()

    made, system = [], [1, *words(2)]
    for number, kinds in enumerate(rows):
        ids, labels, pictures = ([], [], []) if family.prefix else ([*system], [-100] * 3, [])

        def look(kind: Kind, ids=ids, pictures=pictures) -> None:
            for _ in range(kind.runs):
                ids += [*kind.around[0], *[kind.token] * kind.tokens, *kind.around[1]]
            pictures.append(kind.tensors(generator))

        if family.prefix:
            for kind in kinds:
                look(family.kinds[kind])
            ids += [1, *words(4)]
            answer = words(6 + number % 3)
            labels += [-100] * len(ids) + answer
            ids += answer
        else:
            for turn in range(max(2, len(kinds))):
                if turn < len(kinds):
                    look(family.kinds[kinds[turn]])
                ids += words(2)
                labels += [-100] * (len(ids) - len(labels))
                answer = words(3 + (number + turn) % 3)
                ids += answer
                labels += answer
        tail = words(number % 2) if not family.prefix else []
        made.append(([*ids, *tail], labels + [-100] * len(tail), pictures))
    return made


def family_batch(
    family: Family,
    rows: Sequence[Sequence[str]],
    padding: str = "right",
    seed: int = 0,
    only: int | None = None,
    shown: Sequence[int] | None = None,
) -> Row:
    """A collated batch as the family's processor and a collator give it.

    Args:
        family: one of `FAMILIES`.
        rows: kinds of the pictures of every row.
        padding: side.
        seed: of words and pictures.
        only: a single row of these, by itself and without padding.
        shown: for every row the row whose pictures it is shown; None is its own.
    """
    made = family_rows(family, rows, seed)
    if shown is not None:
        made = [(ids, labels, made[giver][2]) for (ids, labels, _), giver in zip(made, shown, strict=True)]
    made = made if only is None else made[only : only + 1]

    def padded(values: list[list[int]], fill: int) -> Tensor:
        tensors = [torch.tensor(value) for value in values]
        return pad_sequence(tensors, batch_first=True, padding_value=fill, padding_side=padding)

    batch = {
        "input_ids": padded([ids for ids, _, _ in made], 0),
        "labels": padded([labels for _, labels, _ in made], -100),
        "attention_mask": padded([[1] * len(ids) for ids, _, _ in made], 0),
    }
    beside = [family.beside(ids, labels) for ids, labels, _ in made]
    batch |= {name: padded([row[name] for row in beside], 0) for name in beside[0]}
    if any(pictures for _, _, pictures in made):
        pictured = family.collate([pictures for _, _, pictures in made], batch["input_ids"])
        batch |= {
            name: value.to(family.dtype) if value.is_floating_point() else value for name, value in pictured.items()
        }
    return batch


def plain_picture(generator: torch.Generator) -> Row:
    """Pixels of 28 x 28, one picture."""
    return {"pixel_values": torch.randn(1, 3, 28, 28, generator=generator)}


def two_frames(generator: torch.Generator) -> Row:
    """A video that a family takes as two pictures."""
    return {"pixel_values": torch.randn(2, 3, 28, 28, generator=generator)}


IN_LINE = {"image": Kind(IMAGE_TOKEN, 4, plain_picture)}
FRAMES = {**IN_LINE, "video": Kind(IMAGE_TOKEN, 4, two_frames, runs=2)}


def llava() -> Any:
    """LLaVA-1.5."""
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**CLIP),
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        image_seq_length=4,
    )
    return hf.LlavaForConditionalGeneration(config)


def llava_onevision() -> Any:
    """LLaVA-OneVision."""
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**{**CLIP, "patch_size": 7}),
        text_config=hf.Qwen2Config(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        video_token_index=VIDEO_TOKEN,
        image_grid_pinpoints=[[28, 28]],
        vision_feature_layer=-1,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config)


def onevision_picture(generator: torch.Generator) -> Row:
    """A base view of 4 x 4 tokens and one tile of 4 x 4, every row of it with a newline."""
    return {
        "pixel_values": torch.randn(1, 2, 3, 28, 28, generator=generator),
        "image_sizes": torch.tensor([[28, 28]]),
    }


def onevision_video(generator: torch.Generator) -> Row:
    """Two frames of 2 x 2 pooled tokens, and a newline."""
    return {"pixel_values_videos": torch.randn(1, 2, 3, 28, 28, generator=generator)}


QWEN_IDS = {
    "image_token_id": IMAGE_TOKEN,
    "video_token_id": VIDEO_TOKEN,
    "vision_start_token_id": BEFORE,
    "vision_end_token_id": AFTER,
}


def qwen2_vl() -> Any:
    """Qwen2-VL."""
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 7, "mlp_ratio": 2}
    config = hf.Qwen2VLConfig(
        text_config={**text_settings(), "rope_parameters": MROPE}, vision_config=vision, **QWEN_IDS
    )
    return hf.Qwen2VLForConditionalGeneration(config)


def qwen2_5_vl() -> Any:
    """Qwen2.5-VL."""
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": 7,
        "out_hidden_size": 32,
        "window_size": 14,
        "fullatt_block_indexes": [1],
    }
    config = hf.Qwen2_5_VLConfig(
        text_config={**text_settings(), "rope_parameters": MROPE}, vision_config=vision, **QWEN_IDS
    )
    return hf.Qwen2_5_VLForConditionalGeneration(config)


QWEN3_VISION = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "patch_size": 7,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
}


def qwen3_vl() -> Any:
    """Qwen3-VL, features of two deeper layers."""
    config = hf.Qwen3VLConfig(
        text_config={**text_settings(head_dim=8, num_hidden_layers=3), "rope_parameters": MROPE},
        vision_config={**QWEN3_VISION, "deepstack_visual_indexes": [0, 1]},
        **QWEN_IDS,
    )
    return hf.Qwen3VLForConditionalGeneration(config)


def qwen3_vl_moe() -> Any:
    """Qwen3-VL with experts."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = hf.Qwen3VLMoeConfig(
        text_config={**text_settings(head_dim=8, num_hidden_layers=3), **experts, "rope_parameters": MROPE},
        vision_config={**QWEN3_VISION, "deepstack_visual_indexes": [0, 1]},
        **QWEN_IDS,
    )
    return hf.Qwen3VLMoeForConditionalGeneration(config)


def qwen3_5() -> Any:
    """Qwen3.5: a layer of linear attention, a layer of attention."""
    linear = {
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "layer_types": ["linear_attention", "full_attention"],
    }
    rope = {**MROPE, "partial_rotary_factor": 1.0}
    config = hf.Qwen3_5Config(
        text_config={**text_settings(head_dim=8), **linear, "rope_parameters": rope},
        vision_config=QWEN3_VISION,
        **QWEN_IDS,
    )
    return hf.Qwen3_5ForConditionalGeneration(config)


def glm4v() -> Any:
    """GLM-4.1V."""
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": 7,
        "image_size": 28,
        "out_hidden_size": 32,
    }
    config = hf.Glm4vConfig(
        text_config={**text_settings(), "rope_parameters": MROPE},
        vision_config=vision,
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
        image_start_token_id=BEFORE,
        image_end_token_id=AFTER,
        video_start_token_id=94,
        video_end_token_id=95,
    )
    return hf.Glm4vForConditionalGeneration(config)


def patches(name: str, grid: tuple[int, int, int], channels: int = 3 * 2 * 7 * 7) -> Callable[[torch.Generator], Row]:
    """Flat patches of a picture or video, as Qwen's processors cut them."""
    frames, height, width = grid

    def tensors(generator: torch.Generator) -> Row:
        videos = "_videos" if name == "video" else ""
        return {
            f"pixel_values{videos}": torch.randn(frames * height * width, channels, generator=generator),
            f"{name}_grid_thw": torch.tensor([grid]),
        }

    return tensors


def modality_ids(ids: list[int], labels: list[int]) -> dict[str, list[int]]:
    """0 for text, 1 for pictures, 2 for videos."""
    return {"mm_token_type_ids": [{IMAGE_TOKEN: 1, VIDEO_TOKEN: 2}.get(token, 0) for token in ids]}


WITHIN = ((BEFORE,), (AFTER,))
QWEN_KINDS = {
    "image": Kind(IMAGE_TOKEN, 4, patches("image", (1, 4, 4)), WITHIN),
    "video": Kind(VIDEO_TOKEN, 8, patches("video", (2, 4, 4)), WITHIN),
}
QWEN3_KINDS = {**QWEN_KINDS, "video": Kind(VIDEO_TOKEN, 4, patches("video", (2, 4, 4)), WITHIN, runs=2)}
"""Qwen3-VL sets every frame of a video by itself."""


def nested_rows(rows: list[list[Row]], ids: Tensor) -> Row:
    """(rows, pictures, …), where rows with fewer pictures are filled up with empty ones."""
    first = next(picture for row in rows for picture in row)
    joined = {
        name: [torch.cat([picture[name] for picture in row]) if row else value[:0] for row in rows]
        for name, value in first.items()
    }
    return {name: pad_sequence(values, batch_first=True) for name, values in joined.items()}


def idefics2() -> Any:
    """Idefics2: a perceiver of 4 latents."""
    perceiver = {
        "hidden_size": 32,
        "resampler_n_latents": 4,
        "resampler_depth": 1,
        "resampler_n_heads": 4,
        "resampler_head_dim": 8,
        "num_key_value_heads": 2,
    }
    config = hf.Idefics2Config(
        vision_config=CLIP,
        perceiver_config=perceiver,
        text_config=hf.MistralConfig(**text_settings(sliding_window=4096)),
        image_token_id=IMAGE_TOKEN,
    )
    return hf.Idefics2ForConditionalGeneration(config)


def idefics3() -> Any:
    """Idefics3."""
    config = hf.Idefics3Config(
        vision_config={**CLIP, "patch_size": 7},
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        scale_factor=2,
        pad_token_id=0,
    )
    return hf.Idefics3ForConditionalGeneration(config)


def smolvlm() -> Any:
    """SmolVLM and SmolVLM2."""
    config = hf.SmolVLMConfig(
        vision_config={**CLIP, "patch_size": 7},
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        scale_factor=2,
        pad_token_id=0,
    )
    return hf.SmolVLMForConditionalGeneration(config)


def internvl() -> Any:
    """InternVL 2.5 and 3."""
    config = hf.InternVLConfig(
        vision_config={**CLIP, "image_size": [28, 28], "patch_size": [7, 7], "use_mean_pooling": True},
        text_config=hf.Qwen2Config(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        downsample_ratio=0.5,
    )
    return hf.InternVLForConditionalGeneration(config)


def gemma3(**text: Any) -> Any:
    """Gemma 3: one layer of sliding attention, one of full attention."""
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 512}
    config = hf.Gemma3Config(
        text_config=hf.Gemma3TextConfig(**text_settings(head_dim=8, **{**layers, **text})),
        vision_config=hf.SiglipVisionConfig(**CLIP, vision_use_head=False),
        image_token_index=IMAGE_TOKEN,
        mm_tokens_per_image=4,
        tie_word_embeddings=False,
    )
    return hf.Gemma3ForConditionalGeneration(config)


def paligemma() -> Any:
    """PaliGemma."""
    config = hf.PaliGemmaConfig(
        text_config=hf.GemmaConfig(**text_settings(head_dim=8)),
        vision_config=hf.SiglipVisionConfig(**CLIP, vision_use_head=False),
        image_token_index=IMAGE_TOKEN,
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return hf.PaliGemmaForConditionalGeneration(config)


def paligemma2(**text: Any) -> Any:
    """PaliGemma 2: a Gemma 2 below, logits bent at 15."""
    settings = {"sliding_window": 512, "final_logit_softcapping": 15.0, "query_pre_attn_scalar": 8}
    config = hf.PaliGemmaConfig(
        text_config=hf.Gemma2Config(**text_settings(head_dim=8, **{**settings, **text})),
        vision_config=hf.SiglipVisionConfig(**CLIP, vision_use_head=False),
        image_token_index=IMAGE_TOKEN,
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return hf.PaliGemmaForConditionalGeneration(config)


def image_ids(ids: list[int], labels: list[int]) -> dict[str, list[int]]:
    """1 at pictures, as Gemma 3's processor gives."""
    return {"token_type_ids": [int(token == IMAGE_TOKEN) for token in ids]}


def suffix_ids(ids: list[int], labels: list[int]) -> dict[str, list[int]]:
    """1 at the answer, as PaliGemma's processor gives."""
    return {"token_type_ids": [int(label != -100) for label in labels]}


def mllama() -> Any:
    """Llama 3.2 Vision: cross-attention in the second of four layers."""
    parts = hf.models.mllama.configuration_mllama
    rope = {"rope_type": "default", "rope_theta": 1e4}
    config = hf.MllamaConfig(
        text_config=parts.MllamaTextConfig(
            **text_settings(num_hidden_layers=4), cross_attention_layers=[1], rope_parameters=rope
        ),
        vision_config=parts.MllamaVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_global_layers=1,
            attention_heads=4,
            image_size=28,
            patch_size=14,
            vision_output_dim=96,
            intermediate_layers_indices=[0, 1],
            max_num_tiles=2,
            supported_aspect_ratios=[[1, 1], [1, 2], [2, 1]],
        ),
        image_token_index=IMAGE_TOKEN,
    )
    model = hf.MllamaForConditionalGeneration(config)
    with torch.no_grad():
        layer = model.model.language_model.layers[1]
        layer.cross_attn_attn_gate.fill_(1.0)
        layer.cross_attn_mlp_gate.fill_(1.0)
    return model


def mllama_picture(generator: torch.Generator) -> Row:
    """Two tiles one on top of the other."""
    return {
        "pixel_values": torch.randn(1, 2, 3, 28, 28, generator=generator),
        "aspect_ratio_ids": torch.tensor([2]),
        "aspect_ratio_mask": torch.tensor([[1, 1]]),
    }


def mllama_rows(rows: list[list[Row]], ids: Tensor) -> Row:
    """Rows of pictures; a token is shown the pictures up to it, the last one or all that directly follow each other."""
    batch = nested_rows(rows, ids)
    most = batch["pixel_values"].shape[1]
    told = (ids == IMAGE_TOKEN).cumsum(dim=1)
    sees = torch.stack([(told == number + 1) for number in range(most)], dim=-1)
    batch["cross_attention_mask"] = sees.unsqueeze(-1).expand(*sees.shape, 2).long()
    return batch


def llava_next() -> Any:
    """LLaVA-NeXT."""
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**{**CLIP, "patch_size": 7}),
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        image_grid_pinpoints=[[28, 28]],
        vision_feature_layer=-2,
    )
    return hf.LlavaNextForConditionalGeneration(config)


def llava_next_video() -> Any:
    """LLaVA-NeXT-Video: frames pooled to a quarter."""
    config = hf.LlavaNextVideoConfig(
        vision_config=hf.CLIPVisionConfig(**{**CLIP, "patch_size": 7}),
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        video_token_index=VIDEO_TOKEN,
        image_grid_pinpoints=[[28, 28]],
    )
    return hf.LlavaNextVideoForConditionalGeneration(config)


def vip_llava() -> Any:
    """ViP-LLaVA."""
    config = hf.VipLlavaConfig(
        vision_config=hf.CLIPVisionConfig(**CLIP),
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        image_seq_length=4,
        vision_feature_layer=[-1, -2],
    )
    return hf.VipLlavaForConditionalGeneration(config)


def video_llama3() -> Any:
    """VideoLLaMA 3."""
    config = hf.VideoLlama3Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "patch_size": 7,
        },
        text_config=hf.Qwen2Config(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
    )
    return hf.VideoLlama3ForConditionalGeneration(config)


def merged_patches(name: str, grid: tuple[int, int, int]) -> Callable[[torch.Generator], Row]:
    """Flat patches, and that 2 x 2 of them make a token."""
    tensors = patches(name, grid, 3 * 7 * 7)
    return lambda generator: tensors(generator) | {f"{name}_merge_sizes": torch.tensor([2])}


def ovis2() -> Any:
    """Ovis 2: words of a visual vocabulary, and indicator tokens whose embeddings change where there are pictures."""
    config = hf.Ovis2Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 28,
            "patch_size": 14,
            "vocab_size": 40,
            "num_visual_indicator_tokens": 2,
            "hidden_stride": 1,
        },
        text_config=hf.Qwen2Config(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        visual_indicator_token_ids=[BEFORE, AFTER],
        vocab_size=96,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return hf.Ovis2ForConditionalGeneration(config)


def mistral3() -> Any:
    """Mistral Small 3.1: a Pixtral tower."""
    config = hf.Mistral3Config(
        vision_config=hf.PixtralVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            head_dim=8,
            image_size=28,
            patch_size=7,
        ),
        text_config=hf.MistralConfig(**text_settings(head_dim=8, sliding_window=None)),
        image_token_index=IMAGE_TOKEN,
        tie_word_embeddings=False,
    )
    return hf.Mistral3ForConditionalGeneration(config)


def sized_picture(generator: torch.Generator) -> Row:
    """Pixels and their size."""
    return plain_picture(generator) | {"image_sizes": torch.tensor([[28, 28]])}


COHERE = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 512, "logit_scale": 0.5}


def aya_vision() -> Any:
    """Aya Vision: windows in three of four layers, here in one of two."""
    config = hf.AyaVisionConfig(
        vision_config=hf.SiglipVisionConfig(**{**CLIP, "patch_size": 7}, vision_use_head=False),
        text_config=hf.Cohere2Config(**text_settings(head_dim=8, **COHERE)),
        image_token_index=IMAGE_TOKEN,
        tie_word_embeddings=False,
    )
    return hf.AyaVisionForConditionalGeneration(config)


def cohere2_vision() -> Any:
    """Command A Vision."""
    config = hf.Cohere2VisionConfig(
        vision_config=hf.SiglipVisionConfig(**{**CLIP, "patch_size": 7}, vision_use_head=False),
        text_config=hf.Cohere2Config(**text_settings(head_dim=8, **COHERE)),
        image_token_id=IMAGE_TOKEN,
        alignment_intermediate_size=64,
        tie_word_embeddings=False,
    )
    return hf.Cohere2VisionForConditionalGeneration(config)


def gemma4() -> Any:
    """Gemma 4: embeddings of every token for every layer, keys shared between layers."""
    text = {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 512,
        "num_hidden_layers": 4,
        "vocab_size_per_layer_input": 96,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 2,
        "final_logit_softcapping": 30.0,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "patch_size": 7,
        "pooling_kernel_size": 2,
        "position_embedding_size": 16,
    }
    config = hf.Gemma4Config(
        text_config=hf.Gemma4TextConfig(**text_settings(head_dim=8, use_bidirectional_attention="vision", **text)),
        vision_config=hf.Gemma4VisionConfig(**vision),
        audio_config=None,
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
        audio_token_id=94,
        tie_word_embeddings=False,
    )
    return hf.Gemma4ForConditionalGeneration(config)


def gemma4_picture(generator: torch.Generator) -> Row:
    """Patches, and where each was."""
    places = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="xy"), dim=-1).view(1, 16, 2)
    return {"pixel_values": torch.rand(1, 16, 3 * 7 * 7, generator=generator), "image_position_ids": places}


def gemma4_video(generator: torch.Generator) -> Row:
    """Two frames."""
    frames = [gemma4_picture(generator) for _ in range(2)]
    return {
        "pixel_values_videos": torch.cat([frame["pixel_values"] for frame in frames]),
        "video_position_ids": torch.cat([frame["image_position_ids"] for frame in frames]),
        "num_frames_per_video": torch.tensor([2]),
    }


GEMMA4_KINDS = {
    "image": Kind(IMAGE_TOKEN, 4, gemma4_picture, WITHIN),
    "video": Kind(VIDEO_TOKEN, 4, gemma4_video, WITHIN, runs=2),
}


def lfm2_vl() -> Any:
    """LFM2-VL: a layer of convolution, a layer of attention."""
    config = hf.Lfm2VlConfig(
        vision_config=hf.Siglip2VisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            patch_size=7,
            num_patches=16,
            vision_use_head=False,
        ),
        text_config=hf.Lfm2Config(
            **text_settings(layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False)
        ),
        image_token_id=IMAGE_TOKEN,
        projector_hidden_size=32,
        tie_word_embeddings=False,
    )
    return hf.Lfm2VlForConditionalGeneration(config)


def lfm2_picture(generator: torch.Generator) -> Row:
    """Sixteen patches."""
    return {
        "pixel_values": torch.randn(1, 16, 3 * 7 * 7, generator=generator),
        "spatial_shapes": torch.tensor([[4, 4]]),
        "pixel_attention_mask": torch.ones(1, 16, dtype=torch.long),
    }


def llama4() -> Any:
    """Llama 4: experts, attention in chunks."""
    config = hf.Llama4Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 28,
            "patch_size": 7,
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
        },
        text_config={**text_settings(head_dim=8), "intermediate_size_mlp": 64, "num_local_experts": 2},
        image_token_index=IMAGE_TOKEN,
    )
    return hf.Llama4ForConditionalGeneration(config)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("LLaVA-1.5", llava, IN_LINE),
        Family(
            "LLaVA-OneVision",
            llava_onevision,
            {
                "image": Kind(IMAGE_TOKEN, 16 + 4 * 5, onevision_picture),
                "video": Kind(VIDEO_TOKEN, 2 * 4 + 1, onevision_video),
            },
        ),
        Family("LLaVA-NeXT", llava_next, {"image": Kind(IMAGE_TOKEN, 16 + 4 * 5, onevision_picture)}),
        Family(
            "LLaVA-NeXT-Video",
            llava_next_video,
            {
                "image": Kind(IMAGE_TOKEN, 16 + 4 * 5, onevision_picture),
                "video": Kind(VIDEO_TOKEN, 2 * 4, onevision_video),
            },
        ),
        Family("ViP-LLaVA", vip_llava, IN_LINE),
        Family(
            "VideoLLaMA 3",
            video_llama3,
            {
                "image": Kind(IMAGE_TOKEN, 4, merged_patches("image", (1, 4, 4))),
                "video": Kind(VIDEO_TOKEN, 8, merged_patches("video", (2, 4, 4))),
            },
        ),
        Family("Ovis 2", ovis2, {"image": Kind(IMAGE_TOKEN, 4, plain_picture, WITHIN, filled=True)}),
        Family("Qwen2-VL", qwen2_vl, QWEN_KINDS, modality_ids),
        Family("Qwen2.5-VL", qwen2_5_vl, QWEN_KINDS, modality_ids),
        Family("Qwen3-VL", qwen3_vl, QWEN3_KINDS, modality_ids),
        Family("Qwen3-VL-MoE", qwen3_vl_moe, QWEN3_KINDS, modality_ids, dtype=torch.float32),
        Family("Qwen3.5", qwen3_5, QWEN3_KINDS, modality_ids, by_row=False),
        Family("GLM-4V", glm4v, {"image": QWEN_KINDS["image"]}, modality_ids),
        Family("Idefics2", idefics2, IN_LINE, collate=nested_rows),
        Family("Idefics3", idefics3, IN_LINE, collate=nested_rows),
        Family("SmolVLM", smolvlm, FRAMES, collate=nested_rows),
        Family("InternVL", internvl, FRAMES),
        Family("Gemma 3", gemma3, IN_LINE, image_ids),
        Family("PaliGemma", paligemma, IN_LINE, suffix_ids, prefix=True, removed=("token_type_ids",)),
        Family("PaliGemma 2", paligemma2, IN_LINE, suffix_ids, prefix=True, removed=("token_type_ids",), head=8.0),
        Family("Gemma 4", gemma4, GEMMA4_KINDS, modality_ids),
        Family("Mistral Small 3", mistral3, {"image": Kind(IMAGE_TOKEN, 4, sized_picture)}),
        Family("Aya Vision", aya_vision, IN_LINE),
        Family("Command A Vision", cohere2_vision, IN_LINE),
        Family("LFM2-VL", lfm2_vl, {"image": Kind(IMAGE_TOKEN, 4, lfm2_picture)}),
        Family("Llama 4", llama4, IN_LINE),
        Family(
            "Mllama",
            mllama,
            {"image": Kind(IMAGE_TOKEN, 1, mllama_picture)},
            collate=mllama_rows,
            by_row=False,
            across=("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask", "cross_attention_mask"),
        ),
    )
}


def built(family: Family, **changes: Any) -> Any:
    """The model with random weights so large that pictures move logits by several units."""
    torch.manual_seed(0)
    return spread(family.make(**changes), head=family.head).to(family.dtype).eval()
