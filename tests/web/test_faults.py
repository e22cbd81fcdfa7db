"""What goes wrong in Chromium: a service or a session that is gone, presses that are repeated, refused streams."""

import pytest
from PIL import Image

from tests.web.conftest import StudioService, drawn, log_in, serving
from tests.web.test_browser import serious_faults

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_press_while_the_service_is_gone_is_answered_and_done_once_it_is_back(tmp_path, visit):
    studio = StudioService(tmp_path)
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Imagine").click()
        page.locator("#imagine-prompt textarea").fill("a red fox")
        page.locator("ct-imagine .ct-empty").wait_for()
    studio.store.close()
    page.get_by_text("The service does not answer").wait_for()
    for _ in range(2):
        page.click("#imagine-go")
        expect(page.locator("#imagine-fault")).to_contain_text("the service does not answer")
    assert page.get_by_text("Connection to the server was lost").count() == 0
    again = StudioService(tmp_path)
    with serving(again.app, int(address.rpartition(":")[2])):
        page.locator("ct-imagine .ct-prompt", has_text="a red fox").wait_for()
        expect(page.locator("#imagine-fault")).to_have_count(0)
        page.locator("#imagine-prompt textarea").fill("a blue fox")
        page.click("#imagine-go")
        page.locator("ct-imagine .ct-prompt", has_text="a blue fox").wait_for()
        assert [job.task["prompt"] for job in again.store.find(kinds=("imagine",))] == ["a blue fox", "a red fox"]
        assert page.context.faults == []
    again.store.close()


def test_after_a_press_that_was_lost_the_page_says_nothing_in_english_and_works_again(tmp_path, visit):
    studio = StudioService(tmp_path)
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Imagine").click()
        prompt = page.locator("#imagine-prompt textarea")
        prompt.fill("a red fox")
        page.context.route("**/run/predict*", lambda route: route.abort(), times=1)
        with page.expect_navigation():
            page.click("#imagine-go")
            expect(page.get_by_text("Connection to the server was lost")).to_be_hidden()
        page.get_by_role("tab", name="Imagine").click()
        expect(prompt).to_have_value("a red fox")
        page.click("#imagine-go")
        page.locator("ct-imagine .ct-prompt", has_text="a red fox").wait_for()
    studio.store.close()


def test_a_session_that_is_gone_leads_to_the_log_in_and_the_prompt_is_kept(tmp_path, visit):
    studio = StudioService(tmp_path, ("ann", "ben"))
    with serving(studio.app) as address:
        page = visit(address)
        log_in(page, studio, "ann")
        page.get_by_role("tab", name="Imagine").click()
        prompt = page.locator("#imagine-prompt textarea")
        prompt.fill("a red fox")
        page.locator("ct-imagine .ct-empty").wait_for()
        page.wait_for_timeout(1000)  # what the tab reads when it is opened has been answered
        page.context.clear_cookies()
        page.click("#imagine-go")
        page.wait_for_url("**/login", timeout=8000)
        log_in(page, studio, "ben")
        page.get_by_role("tab", name="Imagine").click()
        expect(prompt).to_have_value("")
        page.get_by_role("button", name="Log out").click()
        log_in(page, studio, "ann")
        page.get_by_role("tab", name="Imagine").click()
        expect(prompt).to_have_value("a red fox")
    studio.store.close()


def test_a_refused_stream_says_why(tmp_path, visit):
    studio = StudioService(tmp_path)
    with serving(studio.app) as address:
        page = visit(address)
        page.wait_for_selector("ct-restore .ct-drop")
        answer = {"status": 429, "json": {"detail": "up to 32 requests can wait at once"}}
        page.context.route("**/events*", lambda route: route.fulfill(**answer))
        page.reload()
        expect(page.locator("#ct-state")).to_have_text("up to 32 requests can wait at once")
    studio.store.close()


def test_what_is_shown_only_once_stays_while_people_are_changed_and_limits_are_read_again(tmp_path, visit):
    studio = StudioService(tmp_path, ("ben",))
    studio.accounts.add("ann", is_admin=True)
    with serving(studio.app) as address:
        page = visit(address)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        log_in(page, studio, "ann")
        page.get_by_role("tab", name="Settings").click()
        ben = page.locator(".ct-person[data-account=ben]")
        ben.locator("summary").click()
        ben.get_by_role("button", name="New token").click()
        secret = page.locator(".ct-secret").first
        token = secret.inner_text()
        page.get_by_role("button", name="Copy").click()
        page.get_by_text("Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == token
        page.get_by_role("button", name="Make an invitation").click()
        expect(page.locator(".ct-secret")).to_have_count(2)
        ben.get_by_label("Waiting jobs").fill("7")
        page.keyboard.press("Enter")
        page.get_by_text("The limits of ben are saved").wait_for()
        expect(ben.get_by_label("Waiting jobs")).to_be_focused()
        expect(page.locator(".ct-secret")).to_have_count(2)
        assert secret.inner_text() == token and studio.accounts.verify(token).name == "ben"
        assert serious_faults(page) == []
        page.get_by_label("Name").fill("e")
        page.get_by_role("tab", name="Gallery").click()
        studio.store.submit(studio.accounts.find("ann").id, "imagine", {"prompt": "a red fox"})
        page.get_by_role("tab", name="Settings").click()
        expect(page.locator(".ct-row", has_text="Waiting jobs")).to_contain_text("1")
        expect(page.get_by_label("Name")).to_have_value("e")
        assert page.context.faults == []
    studio.store.close()


def test_older_pictures_are_there_once_and_stay_when_the_page_comes_back(tmp_path, visit):
    studio = StudioService(tmp_path)
    for number in range(30):
        drawn(studio, f"fox {number}")
    with serving(studio.app) as address:
        page = visit(address)
        for name, tab in (("Imagine", "ct-imagine"), ("Gallery", "ct-gallery")):
            page.get_by_role("tab", name=name).click()
            cards, more = page.locator(f"{tab} .ct-card"), page.locator(f"{tab} .ct-foot button")
            more.wait_for()
            first = cards.count()
            with page.expect_response("**/jobs?*after=*"):
                more.evaluate("button => { button.click(); button.click(); }")
            expect(cards).to_have_count(min(30, 2 * first))
            page.wait_for_timeout(500)
            shown = cards.count()
            ids = cards.evaluate_all("all => all.map((card) => card.dataset.job)")
            assert len(set(ids)) == shown == min(30, 2 * first)
            with page.expect_response(f"**/jobs?*limit={shown}*"):
                page.evaluate(
                    """for (const isHidden of [true, false]) {
                        Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
                        document.dispatchEvent(new Event("visibilitychange"));
                    }"""
                )
            page.wait_for_timeout(500)
            assert cards.count() == shown
        assert page.context.faults == []
    studio.store.close()


def test_a_file_that_is_too_large_is_refused_in_its_place_and_the_next_one_is_taken(tmp_path, visit):
    studio = StudioService(tmp_path, max_upload=1)
    large, small = tmp_path / "large.bmp", tmp_path / "small.png"
    Image.new("RGB", (2400, 1800)).save(large)  # 12 MiB
    Image.new("RGB", (64, 64), (200, 90, 20)).save(small)
    with serving(studio.app) as address:
        page = visit(address)
        page.set_input_files("ct-restore input[type=file] >> nth=0", [large, small])
        card = page.locator("ct-restore .ct-card", has_text="large.bmp")
        expect(card).to_contain_text("the file has 13 MiB, more than this service takes")
        page.locator("ct-restore .ct-card", has_text="small.png").get_by_text("Looking for faces").wait_for()
        expect(page.locator("#ct-state")).to_be_empty()
    studio.store.close()
