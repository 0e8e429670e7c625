from dataclasses import asdict

from contralign.analysis.caption_delta import CaptionDelta, Piece, read_json_lines, write_json_lines

CAPTION = CaptionDelta(
    id="a\n<b>",
    pieces=(
        Piece(turn=1, text="é ", kind="visual", delta={"logit": 1.5}, weight={"logit": 1.2}, nll=0.1, nll_without=2.0),
        Piece(turn=1, text="rest\u2028"),
        Piece(turn=3, text="two"),
    ),
)


def test_json_round_trip_changes_nothing(tmp_path):
    write_json_lines(tmp_path / "captions.jsonl", [asdict(CAPTION), asdict(CAPTION)])
    assert [CaptionDelta.from_dict(record) for record in read_json_lines(tmp_path / "captions.jsonl")] == [CAPTION] * 2


def test_pieces_are_found_by_turn():
    assert CAPTION.turns == (1, 3)
    assert CAPTION.text(1) == "é rest\u2028"
    assert [piece.text for piece in CAPTION.of_turn(3)] == ["two"]
