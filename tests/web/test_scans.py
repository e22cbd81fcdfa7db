"""Scans in Chromium: their photos are outlined, cut out, and handed on to be restored."""

import pytest
from PIL import Image
from playwright.sync_api import expect

from calotype.ops.scan import ScannedPhoto
from tests.scans import LIDS, Drawn, drawn_scan
from tests.web.conftest import StudioService, serving, working
from tests.web.test_browser import serious_faults

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PLACES = [ScannedPhoto((140, 160), (200, 180), 5), ScannedPhoto((400, 160), (180, 220), -3)]


@pytest.fixture
def scans(tmp_path):
    """A scan of two photos, in a format that browsers do not show, and one of the lid alone."""
    for name, photos in (("album page.tif", PLACES), ("empty.png", [])):
        drawn = [Drawn(place, n) for n, place in enumerate(photos)]
        Image.fromarray(drawn_scan((320, 560), LIDS["white"], drawn)).save(tmp_path / name)
    return [tmp_path / "album page.tif", tmp_path / "empty.png"]


def test_photos_are_outlined_cut_out_and_handed_to_restore(tmp_path, scans, visit, engine):
    studio = StudioService(tmp_path)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.get_by_role("tab", name="Scans").click()
        page.click("#split-go")
        page.get_by_text("drop a scan first").wait_for()
        page.set_input_files("ct-scans input[type=file] >> nth=0", scans)
        page.get_by_text("2 photos were found").wait_for()
        page.get_by_text("there is no photo on empty.png, only the lid of the scanner").wait_for()
        plan = page.get_by_alt_text("album page.tif with the outlines of its photos")
        assert plan.evaluate("image => image.naturalWidth") == 560
        assert studio.store.find(kinds=("split",), states=("done",))[0].results == ()
        page.get_by_text("Where they lie").click()
        page.get_by_text("photo 2: ").wait_for()
        page.get_by_label("Cut borders").check()
        page.click("#split-go")
        cards = page.locator(".ct-cut .ct-card")
        cards.nth(1).wait_for()
        [job] = [job for job in studio.store.find(kinds=("split",)) if job.parent]
        assert (job.task, len(job.results)) == ({"cut_borders": True}, 2)
        sizes = cards.locator("img").evaluate_all("images => images.map((image) => image.naturalHeight)")
        assert sizes == pytest.approx([200, 180], abs=4)
        assert serious_faults(page) == []
        page.get_by_role("tab", name="Queue").click()
        expect(page.locator("ct-queue .ct-job")).to_have_count(1)  # plans are no work of their own
        page.get_by_role("tab", name="Gallery").click()
        expect(page.locator("ct-gallery .ct-card")).to_have_count(2)
        page.locator("ct-gallery .ct-open").first.click()
        shown = page.locator("dialog img")
        assert shown.evaluate("image => image.decode().then(() => image.naturalHeight)") == pytest.approx(200, abs=4)
        page.get_by_role("button", name="Close").click()
        page.reload()
        page.get_by_role("tab", name="Scans").click()
        cards.first.get_by_role("button", name="Restore this").click()
        page.locator("ct-restore").get_by_text("album page-01.tif").wait_for()
        page.get_by_role("tab", name="Scans").click()
        page.locator("ct-scans .ct-photo").filter(has_text="album page").get_by_role("button", name="Remove").click()
        expect(page.locator("ct-scans > ul > .ct-card")).to_have_count(1)
        page.get_by_role("button", name="Undo").click()
        expect(page.locator("ct-scans > ul > .ct-card")).to_have_count(2)
        assert page.context.foreign == [] and page.context.faults == []
    studio.store.close()


def test_a_scan_that_was_dropped_into_restore_is_sent_to_be_cut(tmp_path, scans, visit, engine):
    studio = StudioService(tmp_path)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.set_input_files("ct-restore input[type=file] >> nth=0", scans[0])
        page.get_by_role("button", name="Cut out its photos").click()
        page.locator("ct-scans").get_by_text("2 photos were found").wait_for()
    studio.store.close()
