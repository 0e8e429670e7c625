import pytest

from contralign.models.convert import ConversionError
from contralign.models.convert.original_formats import ORIGINAL_FORMATS, converted_format_of, original_format_of


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ({"model_type": "llava_llama"}, "llava"),
        ({"model_type": "llava", "mm_patch_merge_type": "flat", "image_aspect_ratio": "pad"}, "llava"),
        ({"model_type": "llava", "mm_patch_merge_type": "spatial_unpad"}, "llava_next"),
        ({"model_type": "llava_llama", "image_aspect_ratio": "anyres"}, "llava_next"),
        ({"model_type": "mgm", "image_grid": 2, "image_aspect_ratio": "pad"}, "mini_gemini"),
        ({"model_type": "mgm_gemma"}, "mini_gemini"),
    ],
)
def test_an_original_config_has_one_family(original, name):
    assert original_format_of(original) == name
    assert [key for key, family in ORIGINAL_FORMATS.items() if family.recognises(original)] == [name]


@pytest.mark.parametrize("config", [{"model_type": "llama"}, {"model_type": "llava_mistral"}, {}])
def test_an_unknown_one_is_refused_with_the_known_ones(config):
    for look in (original_format_of, converted_format_of):
        with pytest.raises(ConversionError, match="llava, llava_next, mini_gemini"):
            look(config)


def test_a_hugging_face_config_is_known_by_its_model_type():
    assert {converted_format_of({"model_type": family.model_type}) for family in ORIGINAL_FORMATS.values()} == set(
        ORIGINAL_FORMATS
    )
