"""Models and settings in Chromium: the owner manages accounts, a single user is told so, others see their limits."""

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from calotype.checkpoints.store import ModelStore
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
        page.route("**/downloads", lambda route: route.abort(), times=1)  # one lost answer is not the end
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


def lora(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"lora_unet_a.lora_{part}.weight": np.ones((2, 2), "f") for part in ("down", "up")}, path)


@pytest.mark.browser
def test_models_of_another_program_are_imported_and_chosen_by_their_pictures_at_once(tmp_path, visit):
    from playwright.sync_api import expect

    lora(tmp_path / "webui" / "models" / "Lora" / "owl.safetensors")
    Image.new("RGB", (600, 400), "teal").save(tmp_path / "webui" / "models" / "Lora" / "owl.png")
    lora(tmp_path / "webui" / "models" / "Stable-diffusion" / "not a checkpoint.safetensors")
    (tmp_path / "webui" / "models" / "ESRGAN").mkdir()
    studio = StudioService(tmp_path, import_folder=(str(tmp_path / "webui"),))
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Imagine").click()
        expect(page.locator("#imagine-prompt textarea")).to_be_visible()
        expect(page.get_by_role("button", name="Add a LoRA")).to_be_hidden()
        page.get_by_role("tab", name="Models").click()
        page.get_by_role("button", name="Import from webui").click()
        page.get_by_text("added").first.wait_for(timeout=60_000)
        page.locator("[data-model=owl] img").wait_for()
        assert serious_faults(page) == []
        page.get_by_role("tab", name="Imagine").click()
        page.get_by_role("button", name="Add a LoRA").click()
        assert serious_faults(page) == []
        picture = page.locator("dialog [data-name=owl] img")
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 320
        page.locator("dialog [data-name=owl]").click()
        expect(page.locator("#imagine-prompt textarea")).to_have_value("<lora:owl:1>")
        assert page.context.foreign == [] and page.context.faults == []
    studio.store.close()


@pytest.mark.browser
def test_forms_have_the_models_that_are_at_hand_now(tmp_path, visit):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path)
    models, file = ModelStore(studio.settings), tmp_path / "sharp.pth"
    file.write_bytes(b"x")
    with serving(studio.app) as address:
        visit(address).wait_for_selector("ct-restore .ct-drop")  # the page is built before there is the model
        models.put("sharp", file, "upscale")
        page = visit(address)
        page.wait_for_selector("ct-restore .ct-drop")
        choose(page, "sharp")
        page.set_input_files("ct-restore input[type=file] >> nth=0", photo(tmp_path))
        page.get_by_text("Looking for faces").wait_for()
        page.click("#restore-go")
        page.get_by_text("1 photo is in the queue").wait_for()
        [job] = studio.store.find(kinds=("restore",))
        assert job.task["upscaler"] == "sharp"
        models.remove("sharp")
        page.evaluate("document.dispatchEvent(new CustomEvent('ct-models'))")
        page.get_by_role("tab", name="Train").click()
        page.get_by_role("tab", name="Restore").click()
        page.get_by_label("Upscaler", exact=True).click()
        expect(page.get_by_role("option", name="photo-x2")).to_be_visible()
        expect(page.get_by_role("option", name="sharp")).to_have_count(0)
        assert page.context.faults == []
    studio.store.close()


def choose(page, name):
    page.get_by_role("button", name="More options").first.click()
    page.get_by_label("Upscaler", exact=True).click()
    page.get_by_role("option", name=name).click()


def photo(folder):
    Image.new("RGB", (32, 32), "gray").save(folder / "photo.png")
    return folder / "photo.png"
