"""The gallery in Chromium: pictures go from it to other tabs."""

import pytest

from calotype.jobs.account import LOCAL
from calotype.jobs.jobs import NewResult
from tests.web.conftest import StudioService, serving

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.browser


def drawn(studio, prompt, colours=("red",), owner=LOCAL):
    """A finished job with a picture of each colour, as a worker stores it."""
    from PIL import Image

    job = studio.store.submit(owner, "imagine", {"prompt": prompt, "count": len(colours)})
    claim = studio.store.claim("tester")
    folder = studio.store.files.work(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for number, colour in enumerate(colours):
        path = folder / f"{number}.png"
        Image.new("RGB", (64, 96), colour).save(path)
        results.append(NewResult(path, path.name, "image/png", {"width": 64, "height": 96, "seed": number}))
    studio.store.finish(claim, results, 1.0)
    return studio.store.get(job.id)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_picture_is_used_in_a_tab_that_was_never_opened(tmp_path, visit, width):
    studio = StudioService(tmp_path)
    drawn(studio, "a red fox")
    with serving(studio.app) as address:
        page = visit(address, viewport={"width": width, "height": 844})
        page.wait_for_selector("ct-restore .ct-drop")
        page.evaluate("import('/web/jobs.js').then(({ openTab }) => openTab('gallery'))")
        page.locator("ct-gallery .ct-open").click()
        page.get_by_role("button", name="Use in Imagine").click()
        expect(page.locator("ct-start canvas")).to_be_visible()
        assert page.locator("ct-start canvas").evaluate("canvas => [canvas.width, canvas.height]") == [64, 96]
        page.evaluate("import('/web/jobs.js').then(({ openTab }) => openTab('settings'))")
        expect(page.locator("ct-settings")).to_be_visible()
        page.evaluate("import('/web/hand.js').then(({ hand }) => hand('imagine', 'prompt', ' <lora:fox:1>'))")
        expect(page.locator("#imagine-prompt textarea")).to_have_value("<lora:fox:1>")
        assert page.context.faults == []
    studio.store.close()
