"""Several people in Chromium: an invitation is used, each sees only what is theirs, and limits are said in words."""

import pytest

from calotype.jobs.jobs import NewResult
from tests.web.conftest import StudioService, drawn, log_in, serving
from tests.web.test_browser import serious_faults

pytestmark = pytest.mark.browser


def trained(studio, owner, folder):
    """A training of an account that has ended."""
    studio.store.submit(owner, "train_lora", {"output_name": "fox"}, files={})
    (folder / "fox.safetensors").write_bytes(b"weights")
    result = NewResult(folder / "fox.safetensors", "fox.safetensors", "application/octet-stream")
    studio.store.finish(studio.store.claim("tester"), [result], 1.0)


def test_people_are_invited_limited_and_see_only_what_is_theirs(tmp_path, visit):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path, ("ben",))
    owner = studio.accounts.add("ann", is_admin=True)
    secret = drawn(studio, "a secret of ann", owner=owner.id)
    with serving(studio.app) as address:
        ann = visit(address)
        log_in(ann, studio, "ann")
        ann.get_by_role("tab", name="Settings").click()
        assert "null" not in ann.locator("ct-settings").inner_text()
        ann.get_by_label("Device seconds together").fill("30")
        ann.get_by_role("button", name="Make an invitation").click()
        invitation = ann.locator(".ct-secret").inner_text()
        # the invitation is used
        kim = visit(address)
        assert serious_faults(kim) == []
        kim.get_by_text("I have an invitation").click()
        kim.get_by_label("Invitation").fill(invitation[:-2])
        kim.get_by_label("Your name here").fill("kim")
        kim.get_by_role("button", name="Open an account").click()
        expect(kim.locator("#fault")).to_have_text("this invitation is not valid")
        assert serious_faults(kim) == []
        kim.get_by_label("Invitation").fill(invitation)
        kim.get_by_role("button", name="Open an account").click()
        assert studio.accounts.verify(kim.locator(".secret").inner_text()).name == "kim"
        kim.get_by_role("link", name="Go on").click()
        # nothing of ann's
        kim.get_by_role("tab", name="Gallery").click()
        kim.get_by_text("No pictures yet").wait_for()
        assert kim.request.get(f"{address}/jobs/{secret.id}/results/{secret.results[0].id}").status == 404
        assert kim.request.get(f"{address}/jobs/{secret.id}").status == 404
        ann.get_by_role("tab", name="Gallery").click()
        ann.get_by_text("a secret of ann").first.wait_for()
        # a limit that ann sets, and the time of the invitation
        ann.get_by_role("tab", name="Settings").click()
        ann.reload()
        ann.get_by_role("tab", name="Settings").click()
        ann.locator("summary", has_text="kim").click()
        person = ann.locator(".ct-person", has_text="kim")
        person.get_by_label("Waiting jobs").fill("0")
        person.get_by_role("button", name="Save").click()
        person.locator("label .ct-fault").wait_for()
        person.get_by_label("Waiting jobs").fill("1")
        person.get_by_role("button", name="Save").click()
        ann.get_by_text("The limits of kim are saved").wait_for()
        expect(person.get_by_label("Waiting jobs")).to_have_value("1")
        kim.get_by_role("tab", name="Imagine").click()
        kim.locator("#imagine-prompt textarea").fill("a red fox")
        kim.click("#imagine-go")
        kim.locator("ct-imagine .ct-card").wait_for()
        kim.click("#imagine-go")
        fault = kim.locator(".ct-fault[data-kind=imagine]")
        expect(fault).to_have_text("one job waits already, which is the limit; wait for it")
        claim = studio.store.claim("tester")
        studio.store.fail(claim, "no matter", 31.0)
        kim.click("#imagine-go")
        expect(fault).to_have_text("the 30 seconds of this account are used; ask for more")
        kim.get_by_role("tab", name="Settings").click()
        kim.get_by_text("31 s of 30 s").wait_for()
        # a LoRA of kim's own
        trained(studio, studio.accounts.find("kim").id, tmp_path)
        kim.get_by_role("tab", name="Train").click()
        kim.get_by_role("button", name="Use in Imagine").click()
        kim.get_by_text("fox is a model now, for you alone").wait_for()
        expect(kim.locator("#imagine-prompt textarea")).to_have_value("a red fox <lora:fox:1>")
        kim.get_by_role("tab", name="Models").click()
        kim.locator("[data-model=fox]").get_by_text("yours alone").wait_for()
        expect(kim.get_by_role("button", name="Remove")).to_have_count(1)
        ann.get_by_role("tab", name="Models").click()
        ann.locator("[data-model=emoji]").wait_for()
        assert ann.locator("[data-model=fox]").count() == 0
        # kim is disabled
        ann.get_by_role("tab", name="Settings").click()
        person.get_by_role("button", name="Disable").click()
        ann.locator("summary", has_text="disabled").wait_for()
        kim.reload()
        kim.get_by_label("Your token").wait_for()
        for page in (ann, kim):
            assert page.context.foreign == [] and page.context.faults == []
    studio.store.close()
