"""Models and settings in Chromium: the owner manages accounts, a single user is told so, others see their limits."""

import pytest

from tests.web.conftest import StudioService, serving
from tests.web.test_browser import serious_faults


@pytest.mark.browser
def test_models_and_people_are_managed(tmp_path, visit):
    studio = StudioService(tmp_path, ("ben",))
    studio.accounts.add("ann", is_admin=True)
    tokens = {name: studio.accounts.add_token(name) for name in ("ann", "ben")}
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("textbox").fill(tokens["ann"])
        page.keyboard.press("Enter")
        page.get_by_role("tab", name="Models").click()
        page.get_by_label("Search models").fill("codeformer")
        page.get_by_role("button", name="Fetch codeformer").click()
        page.locator("[data-model=codeformer] .ct-fault").wait_for()  # the service of the test is offline
        assert "offline" in page.locator("[data-model=codeformer] .ct-fault").inner_text()
        assert serious_faults(page) == []
        page.get_by_role("tab", name="Settings").click()
        form = page.locator("ct-settings section > form").first
        form.get_by_label("Name").fill("b d")
        form.get_by_role("button").click()
        fault = form.locator("label .ct-fault")
        fault.wait_for()
        assert "letters, digits" in fault.inner_text()
        form.get_by_label("Name").fill("eve")
        form.get_by_role("button").click()
        page.get_by_text("The token of eve").wait_for()
        token = page.locator(".ct-secret").first.inner_text()
        assert studio.accounts.verify(token).name == "eve"
        page.locator("summary", has_text="eve").click()
        page.locator(".ct-person", has_text="eve").get_by_role("button", name="Disable").click()
        page.locator("summary", has_text="disabled").wait_for()
        assert studio.accounts.find("eve").is_disabled
        assert serious_faults(page) == []
        assert page.context.foreign == []
        other = visit(address)
        other.get_by_role("textbox").fill(tokens["ben"])
        other.keyboard.press("Enter")
        other.get_by_role("tab", name="Settings").click()
        other.get_by_text("My account").wait_for()
        assert other.get_by_text("People").count() == 0
    studio.store.close()
