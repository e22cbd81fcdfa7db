"""One browser, two people one after the other: neither sees what the other typed or was shown."""

import pytest
from PIL import Image

from tests.web.conftest import StudioService, log_in, serving

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_the_next_person_at_a_browser_finds_nothing_of_the_one_before(tmp_path, visit):
    studio = StudioService(tmp_path, ("ann", "ben"))
    Image.new("RGB", (64, 64), (200, 90, 20)).save(tmp_path / "fox.png")
    with serving(studio.app) as address:
        page = visit(address)
        log_in(page, studio, "ann")
        page.get_by_role("tab", name="Train").click()
        page.set_input_files("ct-photos input[type=file]", tmp_path / "fox.png")
        page.locator("ct-photos textarea").fill("ann's own fox")
        upload = page.locator("ct-photos img").first
        upload.wait_for()
        sent = page.evaluate("(async () => JSON.parse(Object.values({ ...localStorage })[0])[0].id)()")
        assert page.evaluate("id => fetch(`/uploads/${id}`).then((answer) => answer.status)", sent) == 200
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
        log_in(page, studio, "ben")
        page.get_by_role("tab", name="Train").click()
        page.locator("ct-photos .ct-drop").wait_for()
        page.wait_for_timeout(500)
        assert page.locator("ct-photos textarea").count() == 0
        assert page.evaluate("id => fetch(`/uploads/${id}`).then((answer) => answer.status)", sent) == 404
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
        log_in(page, studio, "ann")
        page.get_by_role("tab", name="Train").click()
        page.locator("ct-photos textarea").wait_for()
        assert page.locator("ct-photos textarea").input_value() == "ann's own fox"
    studio.store.close()


def test_a_file_dropped_beside_the_places_for_it_does_not_leave_the_page(tmp_path, visit):
    studio = StudioService(tmp_path)
    with serving(studio.app) as address:
        page = visit(address)
        page.wait_for_selector("ct-restore .ct-drop")
        is_left = page.evaluate(
            """() => ["dragover", "drop"].map((name) => {
                const data = new DataTransfer();
                data.items.add(new File(["x"], "a.png"));
                const event = new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true });
                return document.querySelector(".ct-head").dispatchEvent(event);
            })"""
        )
        assert is_left == [False, False]
    studio.store.close()
