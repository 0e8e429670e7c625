"""The generic adapter: right for many families, and a reason for those it refuses."""

from dataclasses import replace

import pytest
import torch
import transformers as hf
from worlds.same_numbers import assert_near, in_float64
from worlds.small_models import IMAGE_TOKEN, PICTURE_TOKENS, build_llava, mixed_batch, spread, text_settings

from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.contrast.mean import MeanPicture
from contralign.contrast.shuffle import ShufflePictures
from contralign.contrast.taking_out import first_run, last_of_runs
from contralign.core.label_loss import label_loss
from contralign.core.passes import compare_passes, run_passes
from contralign.models.adapters.adapter import UnsupportedModel
from contralign.models.adapters.generic import GenericAdapter
from contralign.models.adapters.registry import adapter_for
from contralign.models.decoder.recorder import forward_replaced

CLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}


def inputs_of(model_inputs, images, picture):
    """A mixed batch whose pictures are what one family wants."""
    batch = mixed_batch(images=images)
    batch.pop("pixel_values", None)
    return batch | picture | model_inputs


def llava():
    return build_llava(), mixed_batch()


def llava_onevision():
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**CLIP),
        text_config=hf.Qwen2Config(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        video_token_index=91,
        image_grid_pinpoints=[[28, 28]],
        vision_feature_layer=-1,
    )
    batch = mixed_batch(images=(1, 0, 1, 1))
    batch.pop("pixel_values")
    widen = 10  # base view 4 tokens, one tile of 2 x 2 with a newline a row: 6 more
    ids, labels, mask = [], [], []
    for row in range(4):
        flat = batch["input_ids"][row].tolist()
        at = flat.index(IMAGE_TOKEN) if IMAGE_TOKEN in flat else None
        extra = 0 if at is None else widen - PICTURE_TOKENS
        tail = 6 - extra
        place = at or 0
        ids.append(flat[:place] + [IMAGE_TOKEN] * extra + flat[place:] + [0] * tail)
        labels.append(
            batch["labels"][row].tolist()[:place]
            + [-100] * extra
            + batch["labels"][row].tolist()[place:]
            + [-100] * tail
        )
        known = batch["attention_mask"][row].tolist()
        mask.append(known[:place] + [1] * extra + known[place:] + [0] * tail)
    tensors = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    picture = {"pixel_values": torch.randn(3, 2, 3, 28, 28), "image_sizes": torch.tensor([[28, 28]] * 3)}
    return spread(hf.LlavaOnevisionForConditionalGeneration(config)), {
        **{name: torch.tensor(value) for name, value in tensors.items()},
        **picture,
    }


def qwen2_vl():
    config = hf.Qwen2VLConfig(
        text_config={
            **text_settings(),
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
        },
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 7, "mlp_ratio": 2},
        image_token_id=IMAGE_TOKEN,
        video_token_id=91,
        vision_start_token_id=92,
        vision_end_token_id=93,
    )
    batch = mixed_batch()
    batch.pop("pixel_values")
    pictures = 4
    batch["image_grid_thw"] = torch.tensor([[1, 4, 4]] * pictures)
    batch["pixel_values"] = torch.randn(pictures * 16, 3 * 2 * 7 * 7)
    batch["mm_token_type_ids"] = (batch["input_ids"] == IMAGE_TOKEN).int()
    return spread(hf.Qwen2VLForConditionalGeneration(config)), batch


def idefics3():
    config = hf.Idefics3Config(
        vision_config={**CLIP, "image_size": 28, "patch_size": 7},
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        scale_factor=2,
        pad_token_id=0,
    )
    batch = mixed_batch(images=(1, 1, 1, 1))
    batch["pixel_values"] = batch["pixel_values"].view(4, 1, 3, 28, 28)
    return spread(hf.Idefics3ForConditionalGeneration(config)), batch


def internvl():
    config = hf.InternVLConfig(
        vision_config={**CLIP, "image_size": [28, 28], "patch_size": [7, 7], "use_mean_pooling": True},
        text_config=hf.Qwen2Config(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        downsample_ratio=0.5,
    )
    return spread(hf.InternVLForConditionalGeneration(config)), mixed_batch()


FAMILIES = {make.__name__: make for make in (llava, llava_onevision, qwen2_vl, idefics3, internvl)}


@pytest.mark.parametrize("family", FAMILIES)
def test_both_passes_are_right_for_a_family(family):
    model, inputs = FAMILIES[family]()
    model, inputs = model.double(), in_float64(inputs)
    adapter = GenericAdapter(model)
    batch = adapter.prepare(inputs)
    theirs = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    ours = adapter.logits(adapter.hidden(batch).flatten(0, 1)).view_as(theirs)
    told = inputs["attention_mask"].bool()
    assert_near(ours[told], theirs[told])
    dropped = compare_passes(adapter, DropImage(), batch)
    masked = compare_passes(adapter, MaskImage(), batch)
    assert dropped.delta["logit"][dropped.valid].std() > 0.3
    assert (dropped.delta["logit"] - masked.delta["logit"])[dropped.valid].abs().max() < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prompt", [None, [11, 12]])
def test_stand_ins_at_their_own_places_equal_hiding_all_other_image_tokens(family, prompt):
    """The mean picture, and a prompt: in every family the short sequence says what the whole one says."""
    model, inputs = FAMILIES[family]()
    adapter = GenericAdapter(model)
    batch = adapter.prepare(inputs)
    if prompt is None:
        short = MeanPicture(tokens=2)
        places = last_of_runs(batch.image_mask, 2)
        vectors = batch.inputs_embeds[batch.image_mask].mean(dim=0).expand(int(places.sum()), -1)
    else:
        words = torch.tensor(prompt)
        short = DropImage(prompt="an image", words=lambda: (words, adapter.embed_text(words)))
        places = last_of_runs(batch.image_mask, 2) & first_run(batch.image_mask)
        vectors = model.get_input_embeddings()(words).repeat(int(places.sum()) // 2, 1)
    whole = replace(
        batch,
        inputs_embeds=batch.inputs_embeds.masked_scatter(places.unsqueeze(-1), vectors),
        attention_mask=batch.attention_mask * (~batch.image_mask | places),
    )
    one, other = (compare_passes(adapter, view, batch) for view in (short, lambda _: whole))
    assert one.delta["logit"][one.valid].std() > 0.3
    assert (one.delta["logit"] - other.delta["logit"])[one.valid].abs().max() < 1e-4
    dropped = compare_passes(adapter, DropImage(), batch)
    assert (one.delta["logit"] - dropped.delta["logit"])[one.valid].abs().max() > 0.1


def test_shuffled_pictures_are_the_models_own_forward_with_pictures_exchanged():
    model, _ = internvl()
    inputs = mixed_batch(images=(1, 0, 1))
    adapter = GenericAdapter(model)
    looks = compare_passes(adapter, ShufflePictures(), adapter.prepare(inputs))
    asked = {name: value for name, value in inputs.items() if name != "labels"}
    right = model(**asked).logits
    wrong = model(**{**asked, "pixel_values": asked["pixel_values"].flip(0)}).logits
    labels = inputs["labels"][:, 1:].clamp(min=0).unsqueeze(-1)
    seen = looks.valid & ((inputs["input_ids"] == IMAGE_TOKEN).cumsum(dim=1)[:, 1:] > 0)
    wanted = (right - wrong)[:, :-1].gather(-1, labels).squeeze(-1)[seen]
    assert wanted.std() > 0.3
    assert (looks.delta["logit"][seen] - wanted).abs().max() < 1e-4


def test_the_gradient_reaches_projector_and_vision_tower():
    model, inputs = build_llava(torch.float64), mixed_batch(dtype=torch.float64)
    adapter = GenericAdapter(model)
    passes = run_passes(adapter, DropImage(), adapter.prepare(inputs))
    labels = passes.targets[passes.valid]
    label_loss(passes.rows, labels, torch.ones(len(labels)), passes.head).total.backward()
    expected = build_llava(torch.float64)
    expected(**inputs, num_items_in_batch=1).loss.backward()
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        if theirs.grad is not None:
            assert_near(mine.grad, theirs.grad, 1e-6)  # their loss is summed in float32


def test_it_says_what_the_llava_adapter_says():
    model, inputs = build_llava(torch.float64), mixed_batch(dtype=torch.float64)
    mine, family = GenericAdapter(model), adapter_for(model)
    one, other = (compare_passes(adapter, DropImage(), adapter.prepare(inputs)) for adapter in (mine, family))
    assert_near(one.delta["logit"], other.delta["logit"])
    assert_near(one.nll, other.nll)


class SoftCapped(hf.LlavaForConditionalGeneration):
    """A model that bends its logits after the head, as some families do and no configuration tells."""

    def forward(self, **inputs):
        outputs = super().forward(**inputs)
        outputs.logits = 3 * torch.tanh(outputs.logits / 3)
        return outputs


def test_soft_capped_logits_are_the_models_own():
    model = spread(SoftCapped(build_llava().config)).double()
    inputs = mixed_batch(dtype=torch.float64)
    adapter = adapter_for(model)
    batch = adapter.prepare(inputs)
    theirs = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    ours = adapter.logits(adapter.hidden(batch).flatten(0, 1)).view_as(theirs)
    assert 2 < theirs.abs().max() <= 3
    assert_near(ours, theirs)


@pytest.mark.parametrize(
    ("attention", "mask", "why"),
    [
        ("sdpa", torch.ones(4, 2, 23, 23), r"an attention mask that is \(4, 2, 23, 23\)"),
        ("sdpa", "blocks", "an attention mask that is str"),
        ("flash_attention_2", torch.ones(4, 1, 23, 23), "attn_implementation='sdpa' or 'eager'"),
    ],
)
def test_masks_that_no_second_pass_could_be_given_are_refused(attention, mask, why):
    model, inputs = llava()
    decoder = model.get_decoder()

    def body(input_ids, **_):
        return decoder(inputs_embeds=model.get_input_embeddings()(input_ids), attention_mask=mask)

    adapter = GenericAdapter(model)
    model.config.get_text_config()._attn_implementation = attention
    text = {name: value for name, value in inputs.items() if name != "pixel_values"}
    with forward_replaced(model.base_model, body), pytest.raises(UnsupportedModel, match=why):
        adapter.prepare(text)


def test_text_that_attends_in_both_directions_is_refused_without_a_family_adapter():
    config = hf.PaliGemmaConfig(
        text_config=hf.GemmaConfig(**text_settings(head_dim=8)),
        vision_config=hf.SiglipVisionConfig(**CLIP, vision_use_head=False),
        image_token_index=IMAGE_TOKEN,
        projection_dim=32,
        hidden_size=32,
    )
    with pytest.raises(UnsupportedModel, match="attends in both directions"):
        GenericAdapter(hf.PaliGemmaForConditionalGeneration(config))


def test_cross_attention_is_refused_without_a_family_adapter():
    config = hf.MllamaConfig(
        text_config=hf.models.mllama.configuration_mllama.MllamaTextConfig(
            **text_settings(), cross_attention_layers=[1], rope_parameters={"rope_type": "default", "rope_theta": 1e4}
        ),
        vision_config=hf.models.mllama.configuration_mllama.MllamaVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_global_layers=1,
            attention_heads=4,
            image_size=28,
            patch_size=14,
            vision_output_dim=96,
            intermediate_layers_indices=[0, 1],
        ),
    )
    with pytest.raises(UnsupportedModel, match="cross-attention"):
        GenericAdapter(hf.MllamaForConditionalGeneration(config))


def test_a_text_model_and_an_encoder_decoder_are_refused():
    with pytest.raises(UnsupportedModel, match="no image_token_id"):
        adapter_for(hf.LlamaForCausalLM(hf.LlamaConfig(**text_settings())))
    t5 = hf.T5Config(d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=8, vocab_size=99)
    with pytest.raises(UnsupportedModel, match=r"no image_token_id|encoder-decoder"):
        adapter_for(hf.T5ForConditionalGeneration(t5))


def test_features_injected_at_deeper_layers_are_refused_without_a_family_adapter():
    config = hf.Qwen3VLConfig(
        text_config={
            **text_settings(head_dim=8),
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "patch_size": 7,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 16,
        },
        image_token_id=IMAGE_TOKEN,
        video_token_id=91,
        vision_start_token_id=92,
        vision_end_token_id=93,
    )
    _, inputs = qwen2_vl()
    with pytest.raises(UnsupportedModel, match="deepstack"):
        GenericAdapter(hf.Qwen3VLForConditionalGeneration(config)).prepare(inputs)


def test_something_that_is_no_model_is_refused():
    with pytest.raises(UnsupportedModel, match="wanted a Hugging Face image-text-to-text model"):
        adapter_for(torch.nn.Linear(2, 2))


def test_the_models_own_forward_is_put_back_after_an_error():
    model, inputs = llava()
    adapter = GenericAdapter(model)
    with pytest.raises(ValueError):
        adapter.prepare(inputs | {"pixel_values": torch.randn(1, 3, 28, 28)})
    assert "forward" not in model.get_decoder().__dict__
    assert "forward" not in model.base_model.__dict__
