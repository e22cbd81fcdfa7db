"""The queue in the browser: order, pause, another try, and how long it takes."""

import pytest

from calotype.errors import CalotypeError
from tests.web.conftest import StudioService, drawn, serving
from tests.web.test_browser import serious_faults

pytestmark = pytest.mark.browser


def names(page):
    return page.locator("ct-queue .ct-name").all_inner_texts()


def test_jobs_are_reordered_paused_and_tried_again(tmp_path, visit):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path)
    store = studio.store
    drawn(studio, "drawn already", seconds=60.0)
    failed = store.submit("local", "imagine", {"prompt": "failed"})
    store.fail(store.claim("tester"), CalotypeError("the model is broken"), 1.0)
    jobs = {prompt: store.submit("local", "imagine", {"prompt": prompt}).id for prompt in ("one", "two", "three")}
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Queue").click()
        row = lambda prompt: page.locator(f"ct-queue [data-job='{jobs[prompt]}']")  # noqa: E731
        row("three").wait_for()
        assert names(page)[:3] == ["one", "two", "three"]
        row("one").get_by_text("waits · next").wait_for()
        row("three").get_by_text("waits · 2 before it · about 2 min").wait_for()
        picture = page.locator("ct-queue img.ct-thumb")
        assert picture.count() == 1 and picture.evaluate("img => img.decode().then(() => img.naturalWidth)") == 64
        earlier = row("three").get_by_role("button", name="Earlier")
        earlier.focus()
        page.keyboard.press("Enter")
        expect(page.locator("ct-queue .ct-name").nth(1)).to_have_text("three")
        expect(row("three").get_by_role("button", name="Earlier")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("ct-queue .ct-name").first).to_have_text("three")
        row("three").get_by_role("button", name="Later").click()
        expect(page.locator("ct-queue .ct-name").first).to_have_text("one")
        assert [job.task["prompt"] for job in store.queue("local")] == ["one", "three", "two"]
        row("two").get_by_role("button", name="First").click()
        expect(page.locator("ct-queue .ct-name").first).to_have_text("two")
        expect(page.get_by_role("button", name="First")).to_have_count(1)  # of the third one: "Earlier" does the rest
        row("one").get_by_role("button", name="Earlier").click()
        row("two").get_by_role("button", name="Later").click()
        expect(page.locator("ct-queue .ct-name").nth(2)).to_have_text("two")
        row("one").get_by_role("button", name="Pause").click()
        row("one").get_by_text("paused").wait_for()
        assert store.get(jobs["one"]).state == "paused"
        row("three").get_by_text("waits · next").wait_for()
        row("one").get_by_role("button", name="Continue").click()
        row("one").get_by_text("waits").wait_for()
        page.locator(f"ct-queue [data-job='{failed.id}']").get_by_text("the model is broken").wait_for()
        page.locator(f"ct-queue [data-job='{failed.id}']").get_by_role("button", name="Try again").click()
        page.locator(f"ct-queue [data-job='{failed.id}']").get_by_text("waits").wait_for()
        row("two").get_by_role("button", name="Cancel").click()
        row("two").get_by_text("cancelled").wait_for()
        assert serious_faults(page) == [] and page.context.faults == []
        other = store.submit("local", "imagine", {"prompt": "of another window"})
        page.locator(f"ct-queue [data-job='{other.id}']").wait_for(timeout=5000)
    store.close()


def test_all_that_wait_are_cancelled_and_what_is_paused_stays(tmp_path, visit):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path)
    jobs = [studio.store.submit("local", "imagine", {"prompt": prompt}).id for prompt in ("one", "two", "three")]
    studio.store.pause(jobs[0], "local")
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Queue").click()
        button = page.get_by_role("button", name="Cancel all 2 that wait")
        page.once("dialog", lambda dialog: dialog.dismiss())
        button.click()
        assert studio.store.get(jobs[1]).state == "queued"
        page.once("dialog", lambda dialog: dialog.accept())
        button.click()
        expect(button).to_have_count(0)
        assert [studio.store.get(job).state for job in jobs] == ["paused", "cancelled", "cancelled"]
    studio.store.close()


def test_a_long_queue_is_shown_in_parts_and_asks_little(tmp_path, visit):
    studio = StudioService(tmp_path)
    for number in range(120):
        studio.store.submit("local", "imagine", {"prompt": f"picture {number}"})
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Queue").click()
        page.get_by_role("button", name="Show all 120").wait_for()
        page.wait_for_timeout(1500)
        asked = [
            path for method, path in page.context.asked if path == "/queue" or path.startswith("/jobs?kind=imagine")
        ]
        assert len(asked) < 12, "not again for each job"
        before = len(page.context.asked)
        page.wait_for_timeout(4000)
        assert len(page.context.asked) - before <= 1
        page.get_by_role("button", name="Show all 120").click()
        assert page.locator("ct-queue .ct-card").count() == 120
    studio.store.close()


def test_the_focus_stays_in_imagine_while_the_queue_moves(tmp_path, visit):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path)
    jobs = [studio.store.submit("local", "imagine", {"prompt": prompt}) for prompt in ("one", "two")]
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Imagine").click()
        card = page.locator(f"ct-imagine [data-job='{jobs[1].id}']")
        card.get_by_text("1 before it").wait_for()
        button = card.get_by_role("button", name="Use these settings")
        button.focus()
        studio.store.move(jobs[1].id, "local", jobs[0].id)
        studio.store.submit("local", "imagine", {"prompt": "three"})  # the card of a new one is added
        card.get_by_text("waits · next").wait_for()
        page.locator("ct-imagine .ct-card").nth(2).wait_for()
        expect(button).to_be_focused()
    studio.store.close()
