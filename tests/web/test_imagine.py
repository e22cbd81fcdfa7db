"""Imagine: forms are filled from parameters and jobs, and pictures are drawn in Chromium."""

import gradio as gr
import pytest
from PIL import Image, PngImagePlugin

from calotype.errors import CalotypeError
from calotype.web.forms import Door, add_form, fill
from calotype.web.tabs import imagine
from calotype.web.texts import Texts
from tests.web.conftest import StudioService, open_more, serving, working
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


@pytest.mark.browser
@pytest.mark.slow
def test_a_picture_is_watched_varied_enlarged_masked_extended_and_compared(tmp_path, visit, engine):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path)
    drawn = lambda: studio.store.find(kinds=("imagine",))  # noqa: E731
    for name, colour in (("mask", "white"), ("start", "teal")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.get_by_role("tab", name="Imagine").click()
        prompt, cards = page.locator("#imagine-prompt textarea"), page.locator("ct-imagine .ct-card")
        field = lambda name: page.locator(f"#imagine-{name}").locator("input, textarea").first  # noqa: E731

        def draw(**values):
            """Presses the button with these values of fields; the card that appears on top."""
            before = cards.count()
            for name, value in values.items():
                field(name).fill(value)
                field(name).blur()
            page.click("#imagine-go")
            expect(cards).to_have_count(before + 1)
            return cards.first

        prompt.fill("a red fox")
        open_more(page, "imagine")
        field("steps").fill("0")
        page.click("#imagine-go")
        expect(page.locator("#imagine-steps + .ct-fault")).to_have_text("“Steps” takes values from 1 up to 1000, not 0")
        # a preview appears while it is drawn, and it is cancelled
        watched = draw(size="256", steps="400")
        watched.locator("img.ct-preview").wait_for(timeout=60_000)
        assert watched.locator("img.ct-preview").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        watched.get_by_role("button", name="Cancel").click()
        watched.get_by_text("cancelled").wait_for(timeout=30_000)
        assert drawn()[0].state == "cancelled"
        assert drawn()[0].task == {"prompt": "a red fox", "size": "256", "steps": 400}, "nothing that nobody chose"
        # drawn, varied, enlarged, its faces restored
        first = draw(size="64", steps="2", seed="7")
        first.locator(".ct-open img").wait_for(timeout=60_000)
        original = drawn()[0]
        for act in ("Enlarge", "Restore faces", "Vary"):
            page.locator(f"[data-job='{original.id}'] .ct-open").first.click()
            page.locator("dialog").get_by_role("button", name=act, exact=True).click()
        expect(page.locator(f"[data-job='{original.id}'] .ct-open")).to_have_count(3, timeout=60_000)
        after = {job.kind: job for job in studio.store.find(kinds=("restore", "upscale"))}
        assert {job.parent for job in after.values()} == {original.id}
        assert after["upscale"].results[0].facts["width"] > after["restore"].results[0].facts["width"] == 64
        expect(cards.first.locator(".ct-open")).to_have_count(4, timeout=60_000)
        varied = drawn()[0]
        assert (varied.task["seed"], varied.task["variation"], varied.parent) == (7, 0.25, original.id)
        # the settings of an earlier one
        prompt.fill("something else")
        field("steps").fill("9")
        page.locator(f"[data-job='{original.id}']").get_by_role("button", name="Use these settings").click()
        expect(prompt).to_have_value("a red fox")
        expect(field("steps")).to_have_value("2")
        expect(field("seed")).to_have_value("7")
        page.get_by_label("Earlier prompts").select_option("a red fox")
        # a part is changed by a mask of a file
        page.locator(f"[data-job='{original.id}'] .ct-open").first.click()
        page.locator("dialog").get_by_role("button", name="Change a part").click()
        page.locator("ct-start canvas").wait_for()
        page.set_input_files("ct-start input[type=file] >> nth=1", tmp_path / "mask.png")
        page.get_by_text("Mask: mask.png").wait_for()
        draw()
        assert drawn()[0].files["mask"].endswith("/mask.png") and set(drawn()[0].files) == {"init", "mask"}
        # another picture is extended
        page.get_by_role("button", name="Remove picture").click()
        page.set_input_files("ct-start input[type=file] >> nth=0", tmp_path / "start.png")
        page.get_by_label("Pixels to add around the picture").fill("8 7")
        page.click("#imagine-go")
        fault = page.locator(".ct-fault[data-kind=imagine]")
        fault.wait_for()
        assert page.locator("#imagine-outpaint + .ct-fault").count() == 1
        page.get_by_label("Pixels to add around the picture").fill("32")
        draw(size="")
        page.get_by_role("button", name="Remove picture").click()
        # a sheet of two guidances and two seeds
        sheet = draw(size="64", x="guidance=1,5", y="seed=1,2")
        expect(sheet.locator(".ct-open img").first).to_be_visible(timeout=120_000)
        compared, extended = drawn()[:2]
        assert (extended.task["outpaint"], compared.state) == ("32", "done")
        assert (extended.results[0].facts["width"], extended.results[0].facts["height"]) == (128, 128)
        assert compared.task["x"] == "guidance=1,5" and not compared.files
        assert max(result.facts.get("width", 0) for result in compared.results) > 2 * 64
        assert serious_faults(page) == [] and page.context.foreign == [] and page.context.faults == []
    studio.store.close()
