"""A language model out of a GGUF file; what the true file gives is in test_smol.py."""

import pytest

from contralign.models.small import gguf_language_model
from contralign.models.small.gguf_language_model import read_gguf_language_model, read_gguf_tokenizer


@pytest.mark.parametrize("read", [read_gguf_language_model, lambda path: read_gguf_tokenizer(path, "<image>")])
def test_a_missing_reader_is_named_with_the_extra_that_brings_it(read, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_language_model, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs gguf: pip install 'contralign\[smol\]'"):
        read(tmp_path / "model.gguf")
