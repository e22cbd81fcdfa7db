"""The report: one page, nothing fetched, no name of a file becomes markup, faces numbered where they are."""

import base64
import gc
import io
import os
import weakref
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from calotype import html
from calotype.errors import CalotypeError, Message, Wording
from calotype.measures import NOISE, Measure
from calotype.outputs.numbered import ACCENT
from calotype.outputs.report import SMALL, Report
from calotype.picture import Picture, save
from calotype.record import FaceRecord, ModelRecord, Record, Result
from calotype.tasks import Restore, options_of
from calotype.tasks.events import Failed

EVIL = "a\"><script>alert(1)</script><img src=x onerror=alert(2)>'&amp;\x1b[31m.jpg"
LANDMARKS = ((10.0, 10.0),) * 5
FACES = (
    FaceRecord(1, (10.0, 20.0, 30.0, 40.0), LANDMARKS, 0.93, True, strength=0.8),
    FaceRecord(2, (70.0, 60.0, 8.0, 9.0), LANDMARKS, 0.55, False, why="too small <8>"),
)


class Reader(HTMLParser):
    """Collects tags, text and where a browser would look for more."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text, self.addresses, self.handlers = [], "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "data")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


def result(source="photo.jpg", seed=0, size=(100, 80), faces=FACES, dtype=np.uint8, notes=()) -> Result:
    pixels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (*size, 3), dtype)
    before = Picture(pixels, notes=notes)
    after = before.then(pixels.repeat(2, 0).repeat(2, 1))
    models = (ModelRecord("realesrgan-x4plus", "ab" * 32),)
    return Result(
        before=before, picture=after, record=Record("restore", {}, source, "00", size, models, faces, notes=notes)
    )


def written(path: Path, *results: Result, name="photo.jpg", failures=()) -> Reader:
    with Report(path) as sheet:
        for one in results:
            sheet.add(Path(name), Path("out") / name, one, 1.5)
        for source, cause in failures:
            sheet.add_failure(Failed(source, Message.of(cause)))
    return Reader(path.read_text("utf-8"))


def test_the_page_is_complete_in_itself(tmp_path):
    read = written(tmp_path / "a.html", result(), result("other.jpg", 1))
    assert read.addresses and all(address.startswith("data:image/jpeg;base64,") for address in read.addresses)
    for address in read.addresses:
        Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).load()
    page = (tmp_path / "a.html").read_text("utf-8")
    assert "http://" not in page and "https://" not in page and "@import" not in page and "url(" not in page


def test_measures_stand_with_their_figures_and_decisions(tmp_path):
    noise = Measure.of("noise", 12.3, 5.0, True, Message(NOISE, value="12.3", threshold="5"))
    evil = Measure(EVIL, 1.0, 2.0, False, EVIL)
    made = result()
    read = written(tmp_path / "a.html", replace(made, record=replace(made.record, measures=(noise, evil))))
    assert "What was found before restoring" in read.text and noise.decision in read.text
    page = (tmp_path / "a.html").read_text("utf-8")
    assert '<tr class="beyond"><th scope="row">noise</th><td>12.3</td><td>5</td>' in page
    assert "<script>alert(1)" in read.text and not read.handlers
    chinese = replace(made, record=replace(made.record, measures=(noise,)))
    with Report(tmp_path / "b.html", Wording("zh")) as sheet:
        sheet.add(Path("photo.jpg"), Path("out.png"), chinese)
    assert "12.3" in (text := Reader((tmp_path / "b.html").read_text("utf-8")).text) and noise.decision not in text


def test_options_that_nobody_sees_are_listed_only_where_they_were_set(tmp_path):
    made = result()
    made = replace(made, record=replace(made.record, options=options_of(Restore(source=Path("photo.jpg")))))
    plain = written(tmp_path / "a.html", made).text
    assert "Strip location" in plain and "Cover" not in plain and "Crop" not in plain and "False" not in plain
    covering = replace(made.record, options=made.record.options | {"cover": "768x512", "crop": True})
    page = written(tmp_path / "b.html", replace(made, record=covering)).text
    assert "768x512" in page and "Crop" in page


def test_faces_that_were_left_softer_are_told(tmp_path):
    soft = replace(FACES[0], clarity=0.2, softened=0.4)
    read = written(tmp_path / "a.html", result(faces=(soft, FACES[1])))
    assert "left softer, at 40%: the photo shows too little of it" in read.text
    assert "softer" not in written(tmp_path / "b.html", result()).text


def test_no_name_becomes_markup(tmp_path):
    evil = result(EVIL, notes=(EVIL,))
    plain = written(tmp_path / "plain.html", result(notes=("x",)), failures=[("a.jpg", "a.jpg")])
    read = written(tmp_path / "a.html", evil, name=EVIL.replace("/", "∕"), failures=[(EVIL, EVIL)])
    assert read.tags == plain.tags and not read.handlers
    assert "\x1b" not in (tmp_path / "a.html").read_text("utf-8")
    assert "<script>alert(1)" in read.text


@given(st.text(max_size=20))
def test_any_text_is_shown_as_it_is(text):
    face = {"number": 1, "before": b"", "after": b"", "lines": [text]}
    values = {"name": text, "lead": text, "notes": [text], "rows": [(text, text)]}
    values["measures"] = [dict.fromkeys(("name", "value", "threshold", "decision", "is_beyond"), text)]
    card = {"before": b"", "after": b"", "size": (1, 1), "faces": [face], "faces_title": text, "overview": b""}
    card |= {"uncertainty": b""}
    page = html.render("album_failure.html", name=text, cause=text) + html.render(
        "album_picture.html", **values, **card
    )
    assert set(Reader(page).tags) == {
        *("article", "h2", "h3", "p", "div", "figure", "figcaption", "img", "input", "ol", "ul", "li", "span"),
        *("details", "summary", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td"),
    }


def test_only_our_own_script_and_style_may_run(tmp_path):
    written(tmp_path / "a.html", result())
    page = (tmp_path / "a.html").read_text("utf-8")
    policy = page.partition("Content-Security-Policy")[2].partition(">")[0]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert html.csp_hash(page.partition("<script>")[2].partition("</script>")[0]) in policy
    assert html.csp_hash(page.partition("<style>")[2].partition("</style>")[0]) in policy


def test_chinese_names_are_shown_as_they_are(tmp_path):
    read = written(tmp_path / "页.html", result("奶奶.jpg"), name="奶奶.jpg", failures=[("坏<b>.jpg", "坏了")])
    assert read.text.count("奶奶.jpg") == 2 and "坏<b>.jpg" in read.text and "坏了" in read.text


def test_a_face_at_the_edge_is_at_zero(tmp_path):
    face = replace(FACES[0], box=(-0.3, -0.0, 30.0, 40.0))
    assert "30 × 40 pixels at 0, 0" in written(tmp_path / "a.html", result(faces=(face,))).text


def test_every_face_is_numbered_with_what_became_of_it(tmp_path):
    read = written(tmp_path / "a.html", result())
    assert read.tags.count("li") == 2
    for words in ("30 × 40 pixels at 10, 20", "93% sure", "restored, strength 0.8", "left alone: too small <8>"):
        assert words in read.text
    assert "2 faces found, 1 restored" in read.text
    assert "1 picture, 2 faces" in read.text


def test_repairs_stand_in_words_with_what_was_measured(tmp_path):
    repaired = result()
    record = replace(repaired.record, computed={"repaired": {"texture": 3.4}})
    assert "texture 3.4" in written(tmp_path / "a.html", replace(repaired, record=record)).text


def test_boxes_stand_where_the_faces_are(tmp_path):
    face = FaceRecord(1, (100.0, 200.0, 300.0, 400.0), LANDMARKS, 0.9, True)
    photo = result(size=(1000, 800), faces=(face,))
    photo.before.pixels[:] = 128
    _before, _after, overview, *_ = written(tmp_path / "a.html", photo).addresses
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(overview.partition(",")[2])))).astype(int)
    assert image.shape == (SMALL, SMALL * 800 // 1000, 3)
    marked = np.argwhere((abs(image - ACCENT)).sum(2) < 60)
    factor = SMALL / 1000
    assert abs(marked.max(0) - np.array([600, 400]) * factor).max() < 3
    assert abs(marked.min(0)[1] - 100 * factor) < 3


def test_sixteen_bits_grey_and_faces_over_the_edge(tmp_path):
    edge = (
        FaceRecord(1, (-20.0, -9.0, 40.0, 40.0), LANDMARKS, 1.0, True),
        FaceRecord(2, (79.5, 99.5, 5.0, 5.0), LANDMARKS, 1, True),
    )
    one = result(faces=edge, dtype=np.uint16)
    grey = Picture(np.zeros((1, 1, 1), np.uint8))
    tiny = Result(picture=grey, before=grey, record=Record("restore", {}, "x", "", (1, 1)))
    assert written(tmp_path / "a.html", one, tiny).tags.count("article") == 2


def test_failures_are_listed_with_their_cause(tmp_path):
    cut = Message("{name} is cut off", name="bad.jpg")
    read = written(tmp_path / "a.html", failures=[("in/bad.jpg", cut), ("in/bad.jpg", Message("x: {y}", y=cut))])
    assert read.text.count("bad.jpg is cut off") == 2 == read.text.count("bad.jpg") and "2 not done" in read.text
    read = written(tmp_path / "b.html", failures=[("bad.jpg", "it is cut off")])
    assert "bad.jpg" in read.text and "it is cut off" in read.text


def test_a_failure_that_names_another_file_keeps_its_heading(tmp_path):
    """1.jpg is a part of 11.jpg."""
    same = Message("the result of {source} is that of {target}", source="11.jpg", target="out/11.png")
    read = written(tmp_path / "a.html", failures=[("in/1.jpg", same), ("in/11.jpg", same)])
    assert read.tags.count("h2") == 1 and read.text.count("11.jpg") == 2 and read.text.count("1.jpg") == 3


def test_the_page_is_in_the_language_of_the_interface(tmp_path):
    """Notes and reasons too, which records hold as English text."""
    faces = (*FACES[:1], replace(FACES[0], number=2, treated=False, why="too small (12 pixels wide)"))
    notes = ("BMP keeps 8 bits only", "its layers are not carried over")
    notes += ("its EXIF is damaged and left out (no byte order mark)",)
    with Report(tmp_path / "a.html", Wording("zh")) as sheet:
        one = result(faces=faces, notes=notes)
        record = replace(one.record, options={"min_face": 24}, computed={"repaired": {"fading": 3.72}})
        sheet.add(Path("a.jpg"), Path("b.jpg"), replace(one, record=record), 1.0)
    read = Reader((tmp_path / "a.html").read_text("utf-8"))
    for text in (
        "处理前后对比",
        "1 张图片，2 张人脸",
        "未修复：太小（宽 12 像素）",
        "BMP 只保留 8 位",
        "其图层没有保留",
        "其 EXIF 已损坏，已忽略（缺少字节序标记）",
        "人脸最小尺寸",
        "修补",
        "褪色 3.72",
        "用时 1 秒",
    ):
        assert text in read.text, text
    assert '<html lang="zh-Hans">' in (tmp_path / "a.html").read_text("utf-8")


def test_pictures_do_not_stay_in_memory(tmp_path):
    with Report(tmp_path / "a.html") as sheet:
        one = result()
        kept = weakref.ref(one.picture)
        sheet.add(Path("a.jpg"), Path("b.jpg"), one, 1.0)
        del one
        gc.collect()
        assert kept() is None


def test_the_page_appears_whole_also_after_an_interruption(tmp_path):
    path = tmp_path / "a.html"
    with pytest.raises(KeyboardInterrupt), Report(path) as sheet:
        sheet.add(Path("a.jpg"), Path("b.jpg"), result(), 1.0)
        assert not path.exists()
        raise KeyboardInterrupt
    assert path.read_text("utf-8").endswith("</html>\n")
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]


def test_a_report_replaces_a_report_and_nothing_else(tmp_path):
    path = tmp_path / "a.html"
    written(path, result())
    assert "other.jpg" in written(path, result(), name="other.jpg").text
    path.write_text("<html>my page</html>")
    with pytest.raises(CalotypeError, match="no report of Calotype's"):
        written(path, result())
    assert path.read_text() == "<html>my page</html>"


def test_a_page_that_cannot_be_written_is_known_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
        refused(tmp_path / "a.html", "cannot be written to; give another report")
    refused(tmp_path / "file" / "a.html", "file is a file, not a folder; give another report")
    refused(tmp_path / "folder.html", "can't write the report .*folder.html")
    written(tmp_path / "new" / "a.html", result())


def refused(path, why):
    with pytest.raises(CalotypeError, match=why), Report(path):
        pytest.fail("the work began")


def test_pictures_of_an_earlier_run_are_read_from_their_files(tmp_path):
    one = result()
    for name, picture in (("a.png", one.before), ("b.png", one.picture)):
        save(picture, tmp_path / name, format="png")
    with Report(tmp_path / "a.html") as sheet:
        sheet.add_files(tmp_path / "a.png", tmp_path / "b.png", one.record, 10**6)
    assert "done in an earlier run" in Reader((tmp_path / "a.html").read_text("utf-8")).text
