from pathlib import Path

import torch
from worlds.same_numbers import assert_near

from contralign.models.convert import load_original_llava
from contralign.models.convert.tokenizers.vocabulary import add_image_row, original_vocab_size

TOWERS = Path(__file__).parents[3] / "golden" / "ckpt"


@torch.no_grad()
def test_added_rows_are_the_mean_and_leave_the_other_logits_as_they_were():
    model = load_original_llava(TOWERS / "llava15_tiny", TOWERS).double()
    ids = torch.tensor([[1, 5, 9, 2]])
    before = model(input_ids=ids).logits
    assert add_image_row(model, 128) == 64
    after = model(input_ids=ids).logits
    assert after.shape[-1] == model.config.text_config.vocab_size == 192
    assert_near(after[..., :128], before)
    torch.testing.assert_close(
        after[..., 128:], before.mean(dim=-1, keepdim=True).expand(-1, -1, 64), atol=1e-5, rtol=0
    )
    embeddings = model.get_input_embeddings().weight
    torch.testing.assert_close(embeddings[128], embeddings[:128].mean(dim=0))
    assert model.config.image_token_id == 128 and original_vocab_size(model) == 128


def test_a_row_inside_the_vocabulary_is_taken_as_it_is():
    model = load_original_llava(TOWERS / "llava15_tiny", TOWERS)
    weight = model.lm_head.weight.clone()
    assert add_image_row(model, 127) == 0
    assert model.config.image_token_id == 127 and torch.equal(model.lm_head.weight, weight)
    assert original_vocab_size(model) == 128
