"""The page about a run: sound whatever is in the log, and its plots show the numbers."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.picture import Picture, save
from calotype.training.monitor import plot, report
from calotype.training.monitor.metrics_log import LoggedSample, MetricsLog
from tests.outputs.test_report import EVIL, Reader

VALUES = st.floats(-1e300, 1e300) | st.sampled_from([float("nan"), float("inf"), 0.0, 1e-320, 5e-324])


def svg(html):
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


@given(st.lists(VALUES, min_size=1, max_size=40), st.sampled_from(["line", "raw", "dots"]))
def test_any_numbers_make_a_plot_within_its_frame(values, kind):
    made = plot.plot("t", [plot.Line("n", list(enumerate(values, 1)), kind=kind)])
    if not made:
        assert not np.isfinite(values).any()
        return
    for path in svg(made).iter("path"):
        places = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))]
        assert all(plot.LEFT - 1 <= x <= plot.WIDTH for x in places[::2])
        assert all(plot.TOP - 0.1 <= y <= plot.HEIGHT - plot.BOTTOM + 0.1 for y in places[1::2])


def test_a_plot_shows_the_numbers():
    made = plot.plot("loss", [plot.Line("loss", [(1, 0.4), (2, 0.1), (3, 0.2)], kind="dots", best=2)])
    tree = svg(made)
    heights = [float(circle.get("cy")) for circle in tree.iter("circle")]
    assert heights[0] < heights[2] < heights[1]
    texts = [text.text for text in tree.iter("text")]
    assert texts[:5] == ["0", "0.1", "0.2", "0.3", "0.4"] and "best 0.1000" in texts and "step 3" in texts


@pytest.mark.parametrize(
    ("high", "wanted"),
    [
        (1e-4, ["0", "2e-5", "4e-5", "6e-5", "8e-5", "1e-4"]),
        (0.002, ["0", "0.0005", "0.0010", "0.0015", "0.0020"]),
        (50, ["0", "10", "20", "30", "40", "50"]),
    ],
)
def test_axes_have_round_numbers(high, wanted):
    made = plot.plot("t", [plot.Line("n", [(1, 0.0), (100, high)])])
    assert [text.text for text in svg(made).iter("text")][: len(wanted)] == wanted


def test_a_long_run_keeps_its_peaks():
    points = [(n, 1.0) for n in range(10_000)]
    points[7_777] = (7_777, 50.0)
    [path] = svg(plot.plot("t", [plot.Line("n", points)])).iter("path")
    drawn = [tuple(map(float, point.split())) for point in re.split("[ML]", path.get("d")) if point.strip()]
    assert 100 < len(drawn) <= plot.MAX_POINTS + 2 and drawn == sorted(drawn)
    heights = [y for _, y in drawn]
    assert heights.count(min(heights)) == 1 and max(heights) - min(heights) > 50


def test_smoothing_forgets_and_begins_unbiased():
    values = plot.smoothed([(n, 1.0 if n < 500 else 3.0) for n in range(1000)])
    assert values[0][1] == pytest.approx(1.0) and values[-1][1] == pytest.approx(3.0, abs=0.01)


def run(tmp_path, sets=3, what="a cat"):
    log = MetricsLog(tmp_path / "d.jsonl")
    log.fact("steps of an epoch", 2)
    log.fact("options", {"seed": "1", EVIL: EVIL})
    log.fact("changed", [EVIL])
    pixels = np.zeros((40, 60, 3), np.uint8)
    save(Picture(pixels), tmp_path / "s.png", format="png")
    for n in range(sets):
        log.note(2 * n, {"loss/validation/epoch_average": abs(n - 7) + 1.0, "loss/discriminator": 1.0})
        log.show(LoggedSample(2 * n, "s.png", what, "seed 1"))
    return log


def test_no_text_becomes_markup(tmp_path):
    log = run(tmp_path, what=EVIL)
    report.write_report(tmp_path / "r.html", log, EVIL, "finished")
    page = Reader((tmp_path / "r.html").read_text("utf-8"))
    assert "script" not in page.tags and page.tags.count("img") == 3 and not page.handlers
    assert page.text.count(EVIL[:10]) >= 4 and all(address.startswith("data:") for address in page.addresses)


def test_of_many_samples_first_last_and_best_are_shown(tmp_path):
    log = run(tmp_path, sets=200)
    report.write_report(tmp_path / "r.html", log, "mine", "finished")
    html = (tmp_path / "r.html").read_text("utf-8")
    assert html.count("<li><img") == 24 and "24 of 200 sets" in html
    for when in ("before the first step", "epoch 7, step 14<b>best</b>", "epoch 199, step 398"):
        assert when in html
    assert html.count("<b>best</b>") == 1 and "discriminator" in html


def test_a_picture_that_was_thrown_away_is_left_out(tmp_path):
    log = run(tmp_path)
    log.show(LoggedSample(6, "gone.png", "a cat", ""))
    report.write_report(tmp_path / "r.html", log, "mine", "finished")
    assert (tmp_path / "r.html").read_text("utf-8").count("<li><img") == 3


def test_a_run_finds_its_own_page_again_and_leaves_those_of_others(tmp_path):
    assert report.report_path(tmp_path, EVIL) == tmp_path / "report.html"
    report.write_report(tmp_path / "report.html", run(tmp_path), EVIL, "finished")
    assert report.report_path(tmp_path, EVIL) == tmp_path / "report.html"
    assert report.report_path(tmp_path, "猫") == tmp_path / "猫-report.html"
    (tmp_path / "report.html").write_text('<meta name="calotype-run" content="it&#x27;s">')  # as 0.1 escaped it first
    assert report.report_path(tmp_path, "it's") == tmp_path / "report.html"
