"""Rows for the image token: added on the way to Hugging Face, taken off on the way back.

The original marks a picture with an id that has no embedding. Hugging Face looks the id up before it puts the features
in place, so a model for use needs a row there. The added rows are the mean of the others and never a likely word; the
logits of the original rows stay what they were.
"""

from transformers import PreTrainedModel

from contralign.models.decoder.image_token import PAD_TO_MULTIPLE_OF, grow_vocabulary, padded_vocab_size


def add_image_row(model: PreTrainedModel, image_token_id: int) -> int:
    """Make the id the model's image token, with a row in the embeddings and in the head.

    Returns:
        How many rows were added; 0 where the id lies inside the vocabulary.
    """
    model.config.image_token_id = image_token_id
    return grow_vocabulary(model, padded_vocab_size(image_token_id, model.config.get_text_config().vocab_size))


def original_vocab_size(model: PreTrainedModel) -> int:
    """How many rows the original vocabulary has.

    A model that was converted keeps the number. In another one (llava-hf's, say) the rows from the image token on are
    taken for added ones if they are as few as padding makes them; an image token further in is a word of the text.
    """
    now: int = model.config.get_text_config().vocab_size
    before = (getattr(model.config, "original_settings", None) or {}).get("vocab_size")
    if before is not None:
        return min(now, before)
    image_token_id: int = model.config.image_token_id
    return image_token_id if 0 <= now - image_token_id <= PAD_TO_MULTIPLE_OF else now
