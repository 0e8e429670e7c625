import pytest

from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.tokenizers.sentencepiece_model import CONTROL, NORMAL, UNKNOWN, read_sentencepiece

PIECES = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("▁a", -1.5, NORMAL)]


def test_pieces_scores_and_settings_are_read(tmp_path, make_sentencepiece):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(make_sentencepiece(PIECES, byte_fallback=True, add_dummy_prefix=False))
    model = read_sentencepiece(path)
    assert [(piece.text, piece.score, piece.kind) for piece in model.pieces] == PIECES
    assert model.byte_fallback and not model.add_dummy_prefix


def test_the_library_reads_the_same(llama_directory):
    sentencepiece = pytest.importorskip("sentencepiece", reason="the reader is compared with the library")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(llama_directory / "tokenizer.model"))
    pieces = read_sentencepiece(llama_directory / "tokenizer.model").pieces
    assert len(pieces) == theirs.get_piece_size() == 32000
    assert all(piece.text == theirs.id_to_piece(at) for at, piece in enumerate(pieces))
    assert all(piece.score == theirs.get_score(at) for at, piece in enumerate(pieces))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model_type": 1}, "a model_type other than BPE"),
        ({"charsmap": b"nfkc"}, "a normalisation of characters"),
        ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces"),
    ],
)
def test_a_model_whose_ids_would_change_is_refused(tmp_path, make_sentencepiece, settings, reason):
    (tmp_path / "tokenizer.model").write_bytes(make_sentencepiece(PIECES, **settings))
    with pytest.raises(ConversionError, match=reason):
        read_sentencepiece(tmp_path / "tokenizer.model")


@pytest.mark.parametrize("content", [b"\x0a", b"\xff" * 9, b"\x0a\x50abc", b"\x0a\x03\x18\x09\x00", b"<html>"])
def test_bytes_that_are_no_model_are_named(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(ConversionError, match=r"tokenizer\.model is no SentencePiece model"):
        read_sentencepiece(tmp_path / "tokenizer.model")


def test_an_empty_file_has_no_pieces(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(ConversionError, match="no pieces"):
        read_sentencepiece(tmp_path / "tokenizer.model")
