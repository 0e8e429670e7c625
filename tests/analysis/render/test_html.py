import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from worlds.tiny_worlds import coloured_samples

from contralign.analysis.caption_delta import CaptionDelta, Piece
from contralign.analysis.gallery import gallery_samples
from contralign.analysis.render.html import render, write_report
from contralign.analysis.run_report import Report
from contralign.data.records.messages import IMAGE, Turn

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}&amp;"


class Page(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self.by_class = [], [], [], {}
        self._open = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "br"):
            self._open.append(dict(attrs).get("class") or "")

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        self.texts.append(data)
        if self._open:
            self.by_class.setdefault(self._open[-1], []).append(data)

    @property
    def text(self):
        return "".join(self.texts)


def piece(text, delta, kind=None, turn=1):
    return Piece(
        turn=turn,
        text=text,
        kind=kind,
        delta={"logit": delta, "logprob": delta / 2},
        weight={"logit": 1.0, "logprob": 1.0},
        nll=0.5,
        nll_without=0.75,
    )


def gallery(samples, pieces, said="a red thing"):
    captions = [CaptionDelta(id=sample.id, pieces=tuple(pieces)) for sample in samples]
    return gallery_samples(samples, captions, [said] * len(samples))


def number(value):
    return {"value": value, "low": 0.1, "high": 0.9, "n": 12}


RESULTS = {
    "mle": {"grounding": {"accuracy": {"visual": {"right": number(0.5)}}}},
    "cal": {"grounding": {"accuracy": {"visual": {"right": number(0.625)}}}},
}
PIECES = [
    piece("a", 0.0, "filler"),
    piece(" red", 2.5, "visual"),
    piece(" dog", -1.0, "contradictory"),
    Piece(turn=1, text=" …"),
]


@pytest.fixture
def report():
    shown = gallery(coloured_samples(2), PIECES)
    events = [{"arm": arm, "stage": "it", "step": step, "loss": 1.0} for arm in ("mle", "cal") for step in (1, 2)]
    return Report(
        title="a run",
        recipe="name: demo",
        environment={"seed": 7, "command_line": ["contralign", "demo"], "versions": {"torch": "2.13.0"}},
        results=RESULTS,
        events=events,
        galleries={"mle": shown, "cal": [replace(one, said="a blue thing") for one in shown]},
        bad_records={"it": {"total": 9, "counts": {"corrupt_picture": 2}}},
    )


def test_shows_what_was_run_and_what_came_out(report):
    text = Page(render(report)).text
    for words in ("a run", "contralign demo", "2.13.0", "50.0 %", "62.5 %", "10.0 % to 90.0 %", "n = 12", "name: demo"):
        assert words in text
    assert "corrupt_picture 2 of 9" in text
    assert "a red thing" in text and "a blue thing" in text


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(report):
    html = render(report)
    page = Page(html)
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert sources and all(re.match(r"data:image/(png|svg\+xml);base64,", value) for value in sources)
    assert "@import" not in html and "url(" not in html
    assert any("default-src 'none'" in (value or "") for name, value in page.attributes if name == "content")


def test_every_text_of_the_data_is_escaped(report):
    samples = [
        replace(sample, id=EVIL, turns=(Turn("user", IMAGE + EVIL), Turn("assistant", EVIL)), spans=())
        for sample in coloured_samples(1)
    ]
    shown = gallery(samples, [replace(piece(EVIL, 1.0), kind=EVIL, delta={EVIL: 1.0}, weight={EVIL: 1.0})], said=EVIL)
    evil = Report(
        title=EVIL,
        recipe=EVIL,
        environment={"seed": EVIL, "command_line": [EVIL], "device": EVIL, "versions": {"torch": EVIL}},
        results={EVIL: {EVIL: {EVIL: number(0.5)}, "answers": {"types": {EVIL: {"accuracy": number(0.5)}}}}},
        events=[{"arm": EVIL, "stage": EVIL, "step": step, "loss": 1.0} for step in (1, 2)],
        galleries={EVIL: shown},
        bad_records={EVIL: {"total": EVIL, "counts": {EVIL: EVIL}}},
    )
    html = render(evil)
    page = Page(html)
    assert "<script" not in html.lower()
    assert "<img src=x" not in html
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert set(page.tags) == set(Page(render(report)).tags)
    assert page.text.count(EVIL) >= 10
    assert "49" not in page.text.replace(EVIL, "")


def test_tokens_are_coloured_by_delta_and_marked_by_kind(report):
    html = render(report)
    tokens = re.findall(r'<span class="token ([^"]*)" style="--share: ([\d.]+)" title="([^"]*)">([^<]*)</span>', html)
    found = {text: (style, share, title) for style, share, title, text in tokens[1:5]}
    assert found["a"][:2] == ("more filler", "0.000")
    assert found["red"][:2] == ("more visual", "0.500")
    assert found["dog"][:2] == ("less contradictory", "0.200")
    assert found["…"] == ("", "0.000", "not a label")
    assert "Δ logit +2.50" in found["red"][2] and "loss 0.50 with the picture, 0.75 without" in found["red"][2]


def test_the_caption_on_the_page_reads_as_it_was(report):
    html = render(report)
    (first, *_) = re.findall(r'<p class="caption" dir="auto">(.*?)</p>', html, flags=re.DOTALL)
    assert Page(first).text == "a red dog …"


def test_colour_is_full_at_the_papers_beta():
    shown = gallery(coloured_samples(1), [piece("deep", 50.0), piece("low", -50.0)])
    html = render(Report(title="t", galleries={"cal": shown}))
    assert re.search(r'token more" style="--share: 1.000"[^>]*>deep<', html)
    assert re.search(r'token less" style="--share: 1.000"[^>]*>low<', html)


def test_small_pictures_keep_their_pixels_sharp(report):
    assert 'class="small"' in render(report)


def test_what_is_missing_is_said(tmp_path):
    write_report(tmp_path / "report.html", Report(title="nothing"))
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    for words in ("No evaluation has written", "No training curves", "No held-out pictures", "wrote no recipe"):
        assert words in text


def test_an_arm_without_results_or_gallery_leaves_the_other(report):
    half = replace(report, results={"mle": RESULTS["mle"], "cal": {}}, galleries={"mle": report.galleries["mle"]})
    page = Page(render(half))
    assert "not measured" in page.text
    assert "cal says" not in page.text and "mle says" in page.text


def test_a_caption_without_labels_or_pictures_is_shown_all_the_same():
    sample = replace(
        coloured_samples(1)[0], turns=(Turn("user", "hm"), Turn("assistant", "yes")), pictures=(), spans=()
    )
    html = render(Report(title="t", galleries={"cal": gallery([sample], [Piece(turn=1, text="yes")], said="")}))
    text = Page(html).text
    assert "no picture" in text and "no label" in text and "(nothing)" in text


def test_texts_that_utf8_cannot_hold_do_not_stop_the_page(tmp_path):
    title = json.loads('"half \\ud83d of a pair"')
    write_report(tmp_path / "report.html", Report(title=title))
    assert "half" in (tmp_path / "report.html").read_text(encoding="utf-8")
