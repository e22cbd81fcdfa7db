"""Train: photos with captions, a run that is watched, and its LoRA in Imagine."""

import gradio as gr
import pytest
from PIL import Image

from calotype.web.forms import Door
from calotype.web.tabs import TABS
from calotype.web.texts import Texts
from tests.web.conftest import StudioService, serving, working
from tests.web.test_browser import serious_faults


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_tab_is_made(language):
    with gr.Blocks(), gr.Tabs():
        for tab in TABS:
            with gr.Tab(tab.TITLE):
                tab.add(Door(Texts(language), lambda request: lambda kind: []))


@pytest.mark.browser
@pytest.mark.slow
def test_a_lora_is_trained_watched_and_used(tmp_path, visit, engine):
    studio = StudioService(tmp_path)
    photos = []
    for number in range(2):
        photos.append(tmp_path / f"fox {number}.png")
        Image.new("RGB", (256, 256), (200, 90 + 40 * number, 20)).save(photos[-1])
    (tmp_path / "fox 0.txt").write_text("a red fox")
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.get_by_role("tab", name="Train").click()
        page.click("#train_lora-go")
        page.get_by_text("there are no photos yet").wait_for()
        page.set_input_files("ct-photos input[type=file]", [*photos, tmp_path / "fox 0.txt"])
        page.locator("ct-photos textarea").nth(1).wait_for()
        texts = {field.get_attribute("aria-label"): field for field in page.locator("ct-photos textarea").all()}
        assert texts["Caption of fox 0.png"].input_value() == "a red fox"
        texts["Caption of fox 1.png"].fill("a yellow fox")
        page.locator("#train_lora-output_name textarea, #train_lora-output_name input").fill("fox")
        page.locator("#train_lora-max_train_epochs input").fill("2")
        page.click("#train_lora-go")
        page.locator("ct-train .ct-curve").wait_for(timeout=120_000)
        page.locator("ct-train").get_by_role("button", name="Use in Imagine").click(timeout=120_000)
        job = studio.store.find(kinds=("train_lora",))[0]
        assert job.state == "done" and job.task["output_name"] == "fox"
        texts = {
            name: studio.store.files.upload(id).read_text()
            for id, _, name in (ref.partition("/") for ref in job.files["photos"])
            if name.endswith(".txt")
        }
        assert texts == {"fox 0.txt": "a red fox", "fox 1.txt": "a yellow fox"}
        from playwright.sync_api import expect

        expect(page.locator("#imagine-prompt textarea")).to_have_value("<lora:fox:1>")
        page.get_by_role("tab", name="Train").click()
        page.get_by_text("Plan and findings").wait_for()
        assert serious_faults(page) == []
        page.reload()
        page.get_by_role("tab", name="Train").click()
        page.locator("ct-train .ct-curve").wait_for()
        page.locator("ct-photos textarea").nth(1).wait_for()
        assert page.context.foreign == [] and page.context.faults == []
    studio.store.close()
