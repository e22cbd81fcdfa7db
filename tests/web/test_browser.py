"""The page in Chromium: a photo is restored, and nothing is lost or sent anywhere else."""

import io
import zipfile

import pytest
from PIL import Image

from tests.web.conftest import StudioService, serving, working

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def photo(tmp_path_factory, portrait):
    path = tmp_path_factory.mktemp("photo") / "grand mother.jpg"
    Image.fromarray(portrait).resize((128, 128)).save(path, quality=90)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


def serious_faults(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    return [
        (fault["id"], node["target"], node.get("failureSummary", "")[:200])
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]


@pytest.mark.slow
def test_a_photo_is_restored_with_a_face_left_out_and_nothing_is_lost(folder, photo, visit, engine):
    studio = StudioService(folder)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.set_input_files("ct-restore input[type=file] >> nth=0", photo)
        page.wait_for_selector("ct-restore .ct-sheet img")
        face = page.locator(".ct-face")
        face.wait_for(timeout=20_000)
        assert face.get_attribute("aria-pressed") == "true"
        face.click()
        assert face.get_attribute("aria-pressed") == "false"
        assert serious_faults(page) == []
        page.get_by_label("Speed").click()
        page.get_by_role("option", name="quick").click()
        page.click("#restore-go")
        page.wait_for_selector("ct-restore ct-compare", timeout=30_000)
        job = studio.store.find(kinds=("restore",))[0]
        assert (
            job.state == "done"
            and job.task == {"faces": "none", "speed": "quick"}
            and job.results[0].facts["width"] == 256
        )
        page.locator("ct-compare input").focus()
        before = page.locator(".ct-after").get_attribute("style")
        page.keyboard.press("ArrowLeft")
        assert page.locator(".ct-after").get_attribute("style") != before
        sent = [address for method, address in page.context.asked if (method, address) == ("POST", "/uploads")]
        page.set_input_files("ct-restore input[type=file] >> nth=0", photo)
        page.get_by_text("is here already").wait_for()
        assert len(sent) == 1 and page.locator("ct-restore .ct-card").count() == 1
        assert [a for m, a in page.context.asked if (m, a) == ("POST", "/uploads")] == sent
        page.reload()
        page.wait_for_selector("ct-restore ct-compare")
        assert page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 2000
        for name in ("Queue", "Gallery"):
            page.get_by_role("tab", name=name).click()
            page.wait_for_timeout(400)
            assert serious_faults(page) == []
        assert page.context.foreign == [] and page.context.faults == []
    studio.store.close()


@pytest.mark.slow
def test_a_page_that_was_open_goes_on_after_a_restart_of_the_service(tmp_path, photo, visit):
    studio = StudioService(tmp_path)
    with serving(studio.app) as address:
        page = visit(address)
        page.set_input_files("ct-restore input[type=file] >> nth=0", photo)
        page.get_by_text("Looking for faces").wait_for()
    studio.store.close()
    page.get_by_text("The service does not answer").wait_for()
    again = StudioService(tmp_path)
    with serving(again.app, int(address.rpartition(":")[2])):
        page.get_by_text("The service does not answer").wait_for(state="hidden", timeout=10_000)
        page.get_by_text("grand mother.jpg").wait_for()
        page.reload()
        page.get_by_text("grand mother.jpg").wait_for()
        page.get_by_role("tab", name="Queue").click()
        page.locator("ct-queue").get_by_role("button", name="Cancel").click()
        page.locator("ct-queue").get_by_text("cancelled").or_(page.get_by_text("Nothing waits")).first.wait_for()
    again.store.close()


def test_archives_wrong_files_and_wrong_values_are_answered_in_place(tmp_path, visit):
    studio = StudioService(tmp_path)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.png", "sub/b.png", "notes.txt", "../c.png"):
            picture = io.BytesIO()
            Image.new("RGB", (8, 8), (len(name), 9, 9)).save(picture, "PNG")
            archive.writestr(name, picture.getvalue())
    with serving(studio.app) as address:
        page = visit(address)
        give = lambda name, data: page.set_input_files(  # noqa: E731
            "ct-restore input[type=file] >> nth=0", {"name": name, "mimeType": "application/zip", "buffer": data}
        )
        give("photos.zip", content.getvalue())
        page.locator("ct-restore .ct-card").nth(2).wait_for()
        assert page.locator("ct-restore .ct-name").all_inner_texts() == ["a.png", "b.png", "c.png"]
        give("broken.zip", b"PK no archive")
        page.get_by_text("broken.zip is not a ZIP archive").wait_for()
        page.get_by_text("Looking for faces").first.wait_for()
        page.get_by_label("Scale").fill("0")
        page.get_by_label("Scale").blur()
        page.click("#restore-go")
        fault = page.locator(".ct-fault[data-kind=restore]")
        fault.wait_for()
        assert "Scale takes values from 0.01 up to 64" in fault.inner_text()
        assert page.locator("#restore-scale + .ct-fault").count() == 1
        assert studio.store.find(kinds=("restore",)) == []
    studio.store.close()


@pytest.mark.many(plain=1)
@pytest.mark.parametrize(
    ("locale", "scheme"), [("en-GB", "light"), ("en-GB", "dark"), ("zh-CN", "light"), ("zh-CN", "dark")]
)
def test_nothing_overflows_on_a_phone(tmp_path, visit, locale, scheme):
    from playwright.sync_api import expect

    studio = StudioService(tmp_path)
    with serving(studio.app) as address:
        page = visit(address, locale=locale, color_scheme=scheme, viewport={"width": 390, "height": 844})
        page.wait_for_selector("ct-restore .ct-drop")
        for name in ("restore", "imagine", "train", "queue", "gallery", "models", "settings"):
            page.evaluate("name => import('/web/jobs.js').then(({ openTab }) => openTab(name))", name)
            expect(page.locator(f"#tab-{name}")).to_be_visible()
            page.wait_for_timeout(400)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert serious_faults(page) == []
    studio.store.close()


def test_hashes_without_the_browsers_own_function_are_the_same(tmp_path, visit):
    studio = StudioService(tmp_path)
    with serving(studio.app) as address:
        page = visit(address)
        hashes = page.evaluate(
            """async () => {
              const worker = new Worker("/web/hash_worker.js");
              const ask = (size, isPlain) => new Promise((resolve) => {
                worker.onmessage = ({data}) => resolve(data.hash);
                worker.postMessage({id: 1, isPlain, file: new Blob([new Uint8Array(size).map((_, i) => i * 7)])});
              });
              const found = [];
              for (const size of [0, 1, 55, 56, 63, 64, 65, 5000000]) {
                found.push([await ask(size, false), await ask(size, true)]);
              }
              return found;
            }"""
        )
        assert all(own == plain and len(own) == 64 for own, plain in hashes)
    studio.store.close()
