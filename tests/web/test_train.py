"""Train: photos with captions, a run that is watched, and its LoRA in Imagine."""

import gradio as gr
import pytest
from PIL import Image

from calotype.web.forms import Door
from calotype.web.tabs import TABS
from calotype.web.texts import Texts
from tests.web.conftest import StudioService, open_more, serving, working
from tests.web.test_browser import serious_faults


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_tab_is_made(language):
    with gr.Blocks(), gr.Tabs():
        for tab in TABS:
            with gr.Tab(tab.TITLE):
                tab.add(Door(Texts(language), lambda request: lambda kind: []))


@pytest.fixture
def photos(tmp_path):
    """Paths of pictures, each another one."""

    def made(count, side=256):
        paths = [tmp_path / f"fox {number}.png" for number in range(count)]
        for number, path in enumerate(paths):
            Image.radial_gradient("L").rotate(25 * number).resize((side, side)).convert("RGB").save(path)
        return paths

    return made


def open_train(page, photos=()):
    page.get_by_role("tab", name="Train").click()
    if photos:
        page.set_input_files("ct-photos input[type=file]", photos)
        pictures = [photo for photo in photos if photo.suffix != ".txt"]
        page.locator("ct-photos textarea").nth(len(pictures) - 1).wait_for()


def caption(page, name):
    return page.get_by_label(f"Caption of {name}")


@pytest.mark.browser
@pytest.mark.slow
def test_a_lora_is_planned_trained_watched_stopped_continued_and_used(tmp_path, visit, engine, photos):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path)
    (tmp_path / "fox 0.txt").write_text("a red fox")
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        open_train(page)
        page.click("#train_lora-go")
        page.get_by_text("there are no photos yet").wait_for()
        open_train(page, [*photos(2), tmp_path / "fox 0.txt"])
        expect(caption(page, "fox 0.png")).to_have_value("a red fox")
        caption(page, "fox 1.png").fill("a yellow fox")
        page.locator("#train_lora-output_name textarea, #train_lora-output_name input").fill("fox")
        page.locator("#train_lora-max_train_epochs input").fill("8")
        page.click("#train_lora-plan")
        plan = page.locator("ct-train .ct-notes").first
        plan.get_by_text("time expected").wait_for(timeout=60_000)
        plan.get_by_text("memory expected").wait_for()
        page.get_by_role("button", name="Start this training").click()
        card = page.locator("ct-train .ct-card").first
        card.locator(".ct-curve").wait_for(timeout=120_000)
        card.locator("ct-film img[src]").wait_for()
        page.reload()
        open_train(page)
        card.locator(".ct-curve").wait_for()
        card.get_by_role("button", name="Stop").click()
        card.get_by_text("paused").wait_for(timeout=60_000)
        stopped = studio.store.find(kinds=("train_lora",))[0]
        assert stopped.state == "paused" and 0 < stopped.progress["done"] < stopped.progress["total"]
        assert serious_faults(page) == []
        card.get_by_role("button", name="Continue").click()
        card.get_by_role("button", name="Use in Imagine").click(timeout=120_000)
        job, planned = studio.store.find(kinds=("train_lora",))
        assert job.state == "done" and job.task["output_name"] == "fox" and planned.task["dry_run"]
        texts = {
            name: studio.store.files.upload(id).read_text()
            for id, _, name in (ref.partition("/") for ref in job.files["photos"])
            if name.endswith(".txt")
        }
        assert texts == {"fox 0.txt": "a red fox", "fox 1.txt": "a yellow fox"}
        expect(page.locator("#imagine-prompt textarea")).to_have_value("<lora:fox:1>")
        open_train(page)
        samples = studio.store.files.samples(job.id)
        expect(card.locator("ct-film input")).to_have_value(str(len(samples) - 1))
        card.locator("ct-film input").fill("0")
        expect(card.locator("ct-film img")).to_have_attribute("src", f"/jobs/{job.id}/samples/0")
        assert len(samples) >= 4 and samples[0] == 0 and serious_faults(page) == []
        caption(page, "fox 1.png").wait_for()
        asked = [path for _, path in page.context.asked if path.startswith("/jobs/") and path.endswith("/events")]
        assert asked == [] and page.context.foreign == [] and page.context.faults == []
    studio.store.close()


@pytest.mark.browser
@pytest.mark.slow
def test_the_film_of_a_gan_grows_while_it_is_watched(tmp_path, visit, engine, photos):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        open_train(page, photos(8, 64))
        page.get_by_role("button", name="Train something else").click()
        page.get_by_role("button", name="Train a GAN").first.click()
        page.locator("#train_gan-resolution input[type=number]").fill("32")
        page.locator("#train_gan-max_train_steps input").fill("40")
        open_more(page, "train_gan")
        page.locator("#train_gan-capacity input").fill("0.2")
        page.locator("#train_gan-snapshots input").fill("6")
        page.click("#train_gan-go")
        film = page.locator("ct-train ct-film").first
        film.locator("img[src]").wait_for(timeout=120_000)
        first = int(film.locator("input").get_attribute("max"))
        page.wait_for_function("max => Number(document.querySelector('ct-film input').max) > max", arg=first)
        page.get_by_role("button", name="Download gan.safetensors").or_(
            page.get_by_role("link", name="Download gan.safetensors")
        ).wait_for(timeout=120_000)
        job = studio.store.find(kinds=("train_gan",))[0]
        steps = studio.store.files.samples(job.id)
        assert len(steps) == 6 and steps[-1] == 40
        expect(film.locator("input")).to_have_attribute("max", "5")
        expect(film.locator("p")).to_contain_text("Samples after step 40 · step 40: Fréchet distance")
        film.get_by_role("button", name="Play").click()
        expect(film.locator("p")).not_to_contain_text("step 40")
        expect(film.locator("p")).to_contain_text("step 40")
        expect(film.get_by_role("button", name="Play")).to_be_visible()  # at its end
        film.locator("input").fill("2")
        expect(film.locator("p")).to_contain_text(f"step {steps[2]} · step {steps[2]}: Fréchet distance")
        assert [result.name for result in job.results if result.media_type == "image/gif"] == ["gan.gif"]
        page.locator("ct-train .ct-made img").wait_for()
        assert page.context.faults == []
    studio.store.close()


@pytest.mark.browser
def test_the_form_of_each_training_sends_it(tmp_path, visit, photos):
    studio = StudioService(tmp_path)
    with serving(studio.app) as address:
        page = visit(address)
        open_train(page, photos(2, 64))
        page.get_by_role("button", name="Train something else").click()
        kinds = {"train_gan": "a GAN", "train_upscaler": "an upscaler", "train_restorer": "a face restorer"}
        for kind, title in {**kinds, "train_diffusion": "a diffusion model"}.items():
            page.get_by_role("button", name=f"Train {title}").first.click()
            for button, is_plan in (("plan", True), ("go", None)):
                page.click(f"#{kind}-{button}")
                page.locator(f"ct-train .ct-card >> nth={len(studio.store.find())}").wait_for()
                job = studio.store.find()[0]
                assert (job.kind, job.task.get("dry_run"), len(job.files["photos"])) == (kind, is_plan, 2)
        assert page.context.faults == []
    studio.store.close()


@pytest.mark.browser
def test_a_caption_that_is_typed_is_not_lost(tmp_path, visit, photos):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path)
    first, *others = photos(4, 64)
    with serving(studio.app) as address:
        page = visit(address)
        open_train(page, [first])
        caption(page, "fox 0.png").type("a fox in")
        page.set_input_files("ct-photos input[type=file]", others)
        page.locator("ct-photos textarea").nth(3).wait_for()
        expect(caption(page, "fox 0.png")).to_be_focused()
        page.keyboard.type(" snow")
        page.reload()
        open_train(page)
        expect(caption(page, "fox 0.png")).to_have_value("a fox in snow")
        assert page.locator("ct-photos textarea").count() == 4
        names = [field.get_attribute("aria-label") for field in page.locator("ct-photos textarea").all()]
        assert names == [f"Caption of fox {number}.png" for number in range(4)]
        page.click("#train_lora-go")
        page.locator("ct-train .ct-card").wait_for()
        assert page.evaluate("localStorage.length") == 0, "the training has them"
        page.reload()
        open_train(page)
        expect(caption(page, "fox 0.png")).to_have_value("a fox in snow")
    studio.store.close()


@pytest.mark.browser
def test_two_windows_with_three_trainings_leave_connections_free(tmp_path, visit, photos):
    studio = StudioService(tmp_path)
    for _ in range(3):
        studio.store.submit("local", "train_gan", {"demo": True})
    with serving(studio.app) as address:
        page = visit(address)
        other = page.context.new_page()
        other.goto(address)
        for window in (page, other):
            open_train(window)
            window.locator("ct-train .ct-card").nth(2).wait_for()
        service = studio.app.state.service
        page.wait_for_function("fetch('/me').then((answer) => answer.ok)", timeout=5000)
        assert service.waiting.count == 2
        for is_hidden, count in ((True, 1), (False, 2)):
            other.evaluate(
                """hidden => {
                  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
                  document.dispatchEvent(new Event("visibilitychange"));
                }""",
                is_hidden,
            )
            for _ in range(50):
                if service.waiting.count == count:
                    break
                page.wait_for_timeout(100)
            assert service.waiting.count == count
        job = studio.store.find()[0]
        studio.store.cancel(job.id)
        other.locator(f"ct-train [data-job='{job.id}']").get_by_text("cancelled").wait_for(timeout=5000)
    studio.store.close()
