"""A model put together from pretrained parts: language model, vision tower, projector, tokenizer, chat template."""
