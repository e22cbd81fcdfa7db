"""Imagine: forms are filled from parameters and jobs, and pictures are drawn in Chromium."""

import gradio as gr
import pytest
from PIL import Image, PngImagePlugin

from calotype.errors import CalotypeError
from calotype.web.forms import Door, add_form, fill
from calotype.web.tabs import imagine
from calotype.web.texts import Texts
from tests.web.conftest import StudioService, serving, working
from tests.web.test_browser import serious_faults

TEXT = "a red fox, (noto:1.2)\nNegative prompt: blurry\n"
TEXT += "Steps: 7, Sampler: Euler a, CFG scale: 3.5, Seed: 42, Size: 64x96"
NAMES = {"diffusion": ["emoji", "other"], "lora": ["mine"]}
DOOR = Door(Texts("en"), lambda request: lambda kind: NAMES.get(kind, []))


def filling(data):
    return imagine.filling(DOOR, data, DOOR.names_for(None))


def test_parameters_of_other_programs_fill_the_form():
    task = filling({"text": f"{TEXT}, Model: other"}).task
    assert task["prompt"] == "a red fox, (noto:1.2)" and task["negative"] == "blurry" and task["model"] == "other"
    assert (task["steps"], task["guidance"], task["seed"], task["size"]) == (7, 3.5, 42, "64x96")
    assert task["sampler"] == "Euler a"
    fields = {"Program": "InvokeAI", "Prompt": "a, b: c", "Negative prompt": "d", "Steps": "9", "Seed": "3"}
    task = filling({"fields": fields | {"Sampler": "Euler", "CFG scale": "2"}}).task
    assert (task["prompt"], task["negative"], task["steps"], task["guidance"]) == ("a, b: c", "d", 9, 2.0)


def test_a_model_that_is_not_installed_is_a_note_and_the_rest_is_filled():
    found = filling({"text": f"{TEXT}, Model: dreamshaper_8"})
    assert "model" not in found.task and found.task["steps"] == 7
    assert any("dreamshaper_8 is not installed" in note for note in found.notes)


@pytest.mark.parametrize("data", [None, [], {}, {"text": ""}, {"text": 3}, {"fields": []}, {"task": "x"}])
def test_what_has_no_parameters_is_refused(data):
    with pytest.raises(CalotypeError, match="no generation parameters"):
        filling(data)


def test_a_form_shows_a_task_and_gives_it_back():
    task = {"prompt": "</ct-order><b>", "count": 3, "tiling": True, "steps": 5, "hires_upscaler": "lanczos"}
    with gr.Blocks():
        form = add_form(DOOR, "imagine", imagine.COMMON, "Go", imagine.BY_ELEMENTS)
    shown = form.shown(task)
    assert form.task(shown) == task
    odd = {name: {"a": [1]} for name in ("prompt", "count", "tiling", "steps")}
    assert form.task(form.shown(odd)) == {}
    order, *_ = fill(DOOR, form, filling, '{"text": "none"}')
    assert order.count("<") == 2
    skipped = fill(DOOR, form, filling, "no JSON")
    assert len(skipped) == len(form.fields) + 1


@pytest.mark.browser
@pytest.mark.slow
def test_a_picture_is_drawn_reused_and_changed_by_brush(tmp_path, visit, engine):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.get_by_role("tab", name="Imagine").click()
        prompt = page.locator("#imagine-prompt textarea")
        prompt.focus()
        page.evaluate(
            """text => { const data = new DataTransfer(); data.setData("text/plain", text);
            document.activeElement.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true,
            cancelable: true})); }""",
            TEXT.replace("Steps: 7", "Steps: 2"),
        )
        expect(prompt).to_have_value("a red fox, (noto:1.2)")
        expect(page.locator("#imagine-size").locator("input, textarea")).to_have_value("64x96")
        page.click("#imagine-go")
        page.locator("ct-imagine .ct-open img").wait_for(timeout=60_000)
        job = studio.store.find(kinds=("imagine",))[0]
        assert job.task["steps"] == 2 and job.task["seed"] == 42 and job.task["prompt"].startswith("a red fox")
        assert (job.results[0].facts["width"], job.results[0].facts["height"]) == (64, 96)
        assert serious_faults(page) == []
        page.reload()
        page.get_by_role("tab", name="Imagine").click()
        page.locator("ct-imagine .ct-open").click()
        page.get_by_role("button", name="Change a part").click()
        canvas = page.locator("ct-start canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3, steps=4)
        page.mouse.up()
        assert serious_faults(page) == []
        prompt.fill("a blue cat")
        page.click("#imagine-go")
        page.locator("ct-imagine .ct-card").nth(1).wait_for(timeout=20_000)
        changed = studio.store.find(kinds=("imagine",))[0]
        assert set(changed.files) == {"init", "mask"}
        with Image.open(studio.store.files.upload(changed.files["mask"].partition("/")[0])) as mask:
            assert mask.size == (64, 96)
            assert mask.convert("L").getpixel((32, 26)) == 255 and mask.convert("L").getpixel((32, 80)) == 0
        picture = tmp_path / "other.png"
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", TEXT.replace("a red fox", "a green hat"))
        Image.new("RGB", (64, 64)).save(picture, pnginfo=info)
        before = len(page.context.asked)
        page.evaluate(
            """bytes => { const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "other.png", {type: "image/png"}));
            document.querySelector("ct-imagine").dispatchEvent(new DragEvent("drop", {dataTransfer: data,
            bubbles: true, cancelable: true})); }""",
            list(picture.read_bytes()),
        )
        expect(prompt).to_have_value("a green hat, (noto:1.2)")
        sent = [path for method, path in page.context.asked[before:] if method == "POST" and "/page/" not in path]
        assert sent == ["/uploads"]
        assert page.context.foreign == [] and page.context.faults == []
    studio.store.close()
