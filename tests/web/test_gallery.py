"""The gallery in Chromium: pictures go from it to other tabs."""

import pytest

from tests.web.conftest import StudioService, drawn, serving
from tests.web.test_browser import serious_faults

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width", [1280, 390])
def test_a_picture_is_used_in_a_tab_that_was_never_opened(tmp_path, visit, width):
    studio = StudioService(tmp_path)
    drawn(studio, "a red fox")
    with serving(studio.app) as address:
        page = visit(address, viewport={"width": width, "height": 844})
        page.wait_for_selector("ct-restore .ct-drop")
        page.evaluate("import('/web/jobs.js').then(({ openTab }) => openTab('gallery'))")
        page.locator("ct-gallery .ct-open").click()
        page.locator("dialog dl").get_by_text("emoji").wait_for()
        assert (
            dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True)).items()
            >= {"Prompt": "a red fox", "Width and height": "64 × 96", "Seed": "0", "Model": "emoji"}.items()
        )
        page.get_by_role("button", name="Use in Imagine").click()
        expect(page.locator("ct-start canvas")).to_be_visible()
        assert page.locator("ct-start .ct-paint").evaluate("frame => frame.style.aspectRatio") == "64 / 96"
        page.evaluate("import('/web/jobs.js').then(({ openTab }) => openTab('settings'))")
        expect(page.locator("ct-settings")).to_be_visible()
        page.evaluate("import('/web/hand.js').then(({ hand }) => hand('imagine', 'prompt', ' <lora:fox:1>'))")
        expect(page.locator("#imagine-prompt textarea")).to_have_value("<lora:fox:1>")
        assert page.context.faults == []
    studio.store.close()


def test_one_picture_is_deleted_unless_that_is_undone_and_links_are_taken_back(tmp_path, visit):
    studio = StudioService(tmp_path)
    job = drawn(studio, "four foxes", ("red", "green", "blue", "black"))
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Gallery").click()
        cards, delete = page.locator("ct-gallery .ct-card"), page.get_by_role("button", name="Delete four foxes")
        expect(cards).to_have_count(4)
        delete.nth(1).click()
        expect(cards).to_have_count(3)
        page.get_by_role("button", name="Undo").click()
        expect(cards).to_have_count(4)
        assert len(studio.store.get(job.id).results) == 4
        delete.nth(1).click()
        page.get_by_role("tab", name="Imagine").click()
        made = page.locator("ct-imagine .ct-made .ct-open")
        expect(made).to_have_count(3)
        made.nth(2).click()
        page.locator("dialog").get_by_role("button", name="Delete").click()
        expect(made).to_have_count(2)
        page.reload()  # whoever leaves the page means it
        page.get_by_role("tab", name="Gallery").click()
        expect(cards).to_have_count(2)
        left = [result.facts["seed"] for result in studio.store.get(job.id).results]
        assert left == [0, 2]
        page.locator("ct-gallery .ct-open").first.click()
        page.get_by_role("button", name="Share by a link").click()
        link = address + page.locator(".ct-toast span").inner_text().partition(address)[2]
        assert page.request.get(link).status == 200
        page.locator(".ct-toast").get_by_role("button", name="Take back").click()  # while the dialog is open
        page.get_by_text("The link leads nowhere now").wait_for()
        assert page.request.get(link).status == 404
        page.get_by_role("button", name="Share by a link").click()
        link = address + page.locator(".ct-toast span", has_text=address).inner_text().partition(address)[2]
        page.get_by_role("button", name="Close").click()
        expect(page.locator(".ct-toast", has_text=address)).to_be_visible()
        page.get_by_label("Which").select_option("shared")
        expect(page.locator("[data-link] img")).to_be_visible()
        assert page.locator("[data-link] img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
        assert serious_faults(page) == []
        page.get_by_role("button", name="Take back the link").click()
        page.get_by_text("Nothing of yours is public").wait_for()
        assert page.request.get(link).status == 404
        assert page.context.foreign == [] and page.context.faults == []
    studio.store.close()
