"""The page in Chromium: a photo is restored, and nothing is lost or sent anywhere else."""

import io
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from calotype.errors import CalotypeError, Message
from calotype.jobs.account import LOCAL
from calotype.jobs.jobs import NewResult
from calotype.record import TOO_SMALL
from calotype.suffixes import DOCUMENTS, SUFFIXES
from tests.api.conftest import png
from tests.web.conftest import StudioService, open_more, serving, working

pytestmark = pytest.mark.browser
IS_ON_TOP = """(element) => {
  const {x, y} = element.getBoundingClientRect();
  return element.contains(document.elementFromPoint(x + 9, y + 9));
}"""


@pytest.fixture(scope="module")
def photo(tmp_path_factory, portrait):
    path = tmp_path_factory.mktemp("photo") / "grand mother.jpg"
    Image.fromarray(portrait).resize((128, 128)).save(path, quality=90)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


def measures_of(page, address, kind):
    """Of the latest job of a kind, as the API tells them in Chinese."""
    answer = page.request.get(f"{address}/jobs?kind={kind}", headers={"Accept-Language": "zh-CN"})
    return answer.json()["jobs"][0]["results"][0]["facts"]["measures"]


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
        page.get_by_text("beyond their threshold").first.click()
        figures = page.locator("ct-restore .ct-figures li")
        assert figures.filter(has_text="noise: ").count() == 1 and figures.filter(has_text="fading: ").count() == 1
        plan = page.locator("ct-restore .ct-notes")
        plan.get_by_text("128 x 128 pixels become 256 x 256").wait_for()
        page.get_by_label("Scale").fill("3")
        page.get_by_role("button", name="Show the plan").first.click()
        plan.get_by_text("128 x 128 pixels become 384 x 384").wait_for()
        page.get_by_label("Scale").fill("2")
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
def test_what_was_done_to_a_photo_is_said_on_its_card_and_in_the_gallery(tmp_path, portrait, visit, engine):
    faded = (portrait * 0.6 + 60).astype(np.uint8)
    Image.fromarray(faded).save(tmp_path / "old.png")
    studio = StudioService(tmp_path)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address, locale="zh-CN")
        page.set_input_files("ct-restore input[type=file] >> nth=0", tmp_path / "old.png")
        page.locator(".ct-face").click(timeout=60_000)
        page.get_by_label("放大倍数").fill("1")
        page.get_by_label("速度").click()
        page.get_by_role("option", name="quick").click()  # auto takes the slower network on a machine that was fast
        open_more(page, "restore")
        page.locator("#restore-repair").locator("input, textarea").first.fill("fading")
        page.click("#restore-go")
        said = page.locator("ct-restore .ct-notes li")
        page.wait_for_selector("ct-restore ct-compare", timeout=60_000)
        assert said.filter(has_text="黑").count() == 2
        measured = measures_of(page, address, "restore")
        page.locator("ct-restore .ct-measures summary").click()
        lines = page.locator("ct-restore .ct-figures li").all_inner_texts()
        assert len(lines) == len(measured) >= 7
        for measure in measured:
            figures = f"{measure['title']}：{measure['value']:g}，阈值 {measure['threshold']:g}"
            assert f"{figures}\n{measure['decision']}" in lines
        assert measured != measures_of(page, address, "find_faces")  # which was to repair by itself
        page.get_by_role("button", name="显示照片", exact=True).click()
        assert said.count() == 0
        page.get_by_role("tab", name="图库").click()
        page.locator("ct-gallery .ct-open").click()
        page.locator("dialog .ct-notes li").filter(has_text="黑").first.wait_for()
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
        for name in ("a.png", "sub/b10.png", "notes.txt", "../b9.png"):
            archive.writestr(name, png(8, len(name)))
    with serving(studio.app) as address:
        page = visit(address)
        give = lambda name, data: page.set_input_files(  # noqa: E731
            "ct-restore input[type=file] >> nth=0", {"name": name, "mimeType": "application/zip", "buffer": data}
        )
        give("photos.zip", content.getvalue())
        page.locator("ct-restore .ct-card").nth(2).wait_for()
        assert page.locator("ct-restore .ct-name").all_inner_texts() == ["a.png", "b9.png", "b10.png"]
        page.get_by_text("1 file is no picture and was left out").wait_for()
        give("broken.zip", b"PK no archive")
        page.get_by_text("broken.zip is not a ZIP archive").wait_for()
        page.get_by_text("Looking for faces").first.wait_for()
        page.get_by_label("Scale").fill("0")
        page.get_by_label("Scale").blur()
        page.click("#restore-go")
        fault = page.locator(".ct-fault[data-kind=restore]")
        fault.wait_for()
        assert "“Scale” takes values from 0.01 up to 64" in fault.inner_text()
        assert page.locator("#restore-scale + .ct-fault").count() == 1
        assert studio.store.find(kinds=("restore",)) == []
    studio.store.close()


def test_names_in_archives_of_chinese_windows_are_read(tmp_path, visit):
    studio, content = StudioService(tmp_path), io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("NAIN.jpg", "爷爷.jpg"):
            archive.writestr(name, name.encode())
    data = content.getvalue().replace(b"NAIN", "奶奶".encode("gbk"))  # without the flag of UTF-8
    with serving(studio.app) as address:
        page = visit(address)
        page.set_input_files(
            "ct-restore input[type=file] >> nth=0", {"name": "a.zip", "mimeType": "application/zip", "buffer": data}
        )
        page.locator("ct-restore .ct-name").nth(1).wait_for()
        assert page.locator("ct-restore .ct-name").all_inner_texts() == ["奶奶.jpg", "爷爷.jpg"]
    studio.store.close()


def test_files_are_pictures_by_the_names_that_the_program_knows(tmp_path, visit):
    studio = StudioService(tmp_path)
    names = [f"a{suffix}" for suffix in (*SUFFIXES, *DOCUMENTS)]
    others = ["Thumbs.db", ".DS_Store", "desktop.ini", "notes.txt", "._a.jpg", "a.jpg.part", "film.mp4"]
    with serving(studio.app) as address:
        page = visit(address)
        ask = "async (names) => names.filter((await import('/web/upload.js')).isPictureName)"
        assert page.evaluate(ask, [*names, *others, "A.JPG", "scan"]) == [*names, "A.JPG", "scan"]
    studio.store.close()


def test_the_button_that_restores_is_at_hand_on_a_phone_and_on_a_screen(tmp_path, visit):
    sync_api = pytest.importorskip("playwright.sync_api")
    studio = StudioService(tmp_path)
    hundreds(studio, png(8, 8), 12)
    upload = studio.store.upload(LOCAL, io.BytesIO(png(8, 8) + b"new")).id
    studio.store.submit(LOCAL, "find_faces", {}, files={"source": f"{upload}/new.png"})
    with serving(studio.app) as address:
        for width, button in ((390, ".ct-sticky button"), (1280, "#restore-go")):
            page = visit(address, viewport={"width": width, "height": 844})
            page.locator("ct-restore .ct-card").nth(12).wait_for()
            page.evaluate("scrollTo(0, document.querySelectorAll('.ct-card')[6].offsetTop)")
            sync_api.expect(page.locator(button)).to_be_in_viewport()
            assert page.locator(button).evaluate(IS_ON_TOP)
        page = visit(address, viewport={"width": 390, "height": 844})
        page.locator(".ct-sticky button").click()
        wait_until(page, lambda: studio.store.find(kinds=("restore",), states=("queued",)))
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


@pytest.mark.slow
def test_a_restoration_goes_on_after_a_restart_and_what_was_restored_is_there(tmp_path, portrait, visit, engine):
    paths = [tmp_path / name for name in ("first.png", "second.png")]
    for path, side in zip(paths, (64, 128), strict=True):
        Image.fromarray(portrait).resize((side, side)).save(path)
    studio = StudioService(tmp_path / "service")
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.set_input_files("ct-restore input[type=file] >> nth=0", paths)
        page.get_by_role("button", name="Try strengths").nth(1).wait_for()
        first, second = (page.locator("ct-restore .ct-card", has_text=path.name) for path in paths)
        first.get_by_role("button", name="Restore this photo").click()
        first.locator("ct-compare").wait_for()
    with serving(studio.app, int(address.rpartition(":")[2])):
        second.get_by_role("button", name="Restore this photo").click()
        wait_until(page, lambda: studio.store.find(states=("queued",)))
        claim = studio.store.claim("killed")
        studio.store.add_event(claim, {"event": "progress", "done": 1, "total": 2, "what": "tiles", "remaining": None})
        second.get_by_text("50 %").wait_for()
    studio.store.close()
    page.get_by_text("The service does not answer").wait_for()
    again = StudioService(tmp_path / "service")
    again.store.worker_ended("killed")  # as the service finds out
    with serving(again.app, int(address.rpartition(":")[2])), working(again, engine):
        second.locator("ct-compare").wait_for()
        assert first.locator("ct-compare").count() == 1
        page.reload()
        page.locator("ct-restore ct-compare").nth(1).wait_for()
    again.store.close()


def wait_until(page, holds, seconds=20):
    """Waits as the page does, whose requests this thread passes on."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        page.wait_for_timeout(100)


def hundreds(studio, picture, count):
    """As many photos with faces found, each restored."""
    names = []
    for number in range(count):
        content = picture + b" " * number  # other bytes, so another upload
        upload = studio.store.upload(LOCAL, io.BytesIO(content)).id
        names.append(f"{number:03}.png")
        found = studio.store.submit(LOCAL, "find_faces", {}, files={"source": f"{upload}/{names[-1]}"})
        finish(studio.store, picture, "photo.jpg", "image/jpeg", {"width": 8, "height": 8, "found": []})
        studio.store.submit(LOCAL, "restore", {}, files={"source": f"{upload}/{names[-1]}"}, parent=found.id)
        finish(studio.store, picture, names[-1], "image/png", {"width": 8, "height": 8})
    return names


def finish(store, picture, name, media_type, facts):
    """Ends the next job with a result."""
    claim = store.claim("tester")
    path = store.files.work(claim.job.id) / name
    path.parent.mkdir(parents=True)
    path.write_bytes(picture)
    store.finish(claim, [NewResult(path, name, media_type, facts)], 1.0)


def test_hundreds_of_photos_are_all_there_with_their_results(tmp_path, visit):
    studio = StudioService(tmp_path)
    names = hundreds(studio, png(8, 8), 230)
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("button", name="Show older photos (210)").click()
        page.get_by_role("button", name="Show older photos (190)").wait_for()
        assert page.locator("ct-restore .ct-card").count() == 40
        shown = page.locator("ct-restore .ct-name").all_inner_texts()
        assert shown == names[:-41:-1]
        assert page.get_by_role("button", name="Restore again").count() == 40
        with page.expect_download() as download:
            page.get_by_role("button", name="Download all 230 as ZIP").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert sorted(archive.namelist()) == names
    studio.store.close()


def test_a_lost_answer_makes_no_second_job(tmp_path, photo, visit):
    studio, lost = StudioService(tmp_path), []

    def lose(route):
        if route.request.method != "POST" or len(lost) == 2:
            return route.fallback()
        lost.append(route.fetch().status)
        return route.abort()

    with serving(studio.app) as address:
        page = visit(address)
        page.context.route("**/jobs", lose)
        page.set_input_files("ct-restore input[type=file] >> nth=0", photo)
        page.get_by_text("the service does not answer; this goes on by itself when it is back").wait_for()
        page.get_by_text("Looking for faces").wait_for()
        assert lost == [201, 201] and len(studio.store.find(kinds=("find_faces",))) == 1
    studio.store.close()


@pytest.mark.parametrize(
    ("tab", "place", "kind", "looks"),
    [
        ("Restore", "ct-restore", "find_faces", "Looking for faces"),
        ("Scans", "ct-scans", "split", "Looking for photos"),
    ],
)
def test_a_file_dropped_while_the_service_is_gone_is_sent_when_it_is_back(
    tmp_path, photo, visit, tab, place, kind, looks
):
    studio = StudioService(tmp_path)
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name=tab).click()
        page.wait_for_selector(f"{place} .ct-drop")
    studio.store.close()
    page.set_input_files(f"{place} input[type=file] >> nth=0", photo)
    page.locator(f"{place} .ct-card .ct-fault").get_by_text("goes on by itself").wait_for()
    again = StudioService(tmp_path)
    with serving(again.app, int(address.rpartition(":")[2])):
        page.get_by_text(looks).wait_for()
        assert len(again.store.find(kinds=(kind,))) == 1
    again.store.close()


def test_a_removed_photo_is_gone_though_its_job_ran_and_the_page_was_closed(tmp_path, visit):
    studio = StudioService(tmp_path)
    hundreds(studio, png(8, 8), 1)
    found = studio.store.find(kinds=("find_faces",))[0]
    studio.store.submit(LOCAL, "restore", {}, files=found.files, parent=found.id)
    claim = studio.store.claim("tester")
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("button", name="Remove", exact=True).click()
        page.close()
        page = page.context.new_page()
        page.goto(address)
        page.get_by_text("Drop old photos here").wait_for()
        assert page.locator("ct-restore .ct-card").count() == 0
        wait_until(page, lambda: studio.store.requested(claim) == "cancel")
        studio.store.stop(claim, 1.0)
        wait_until(page, lambda: not studio.store.find())
    studio.store.close()


def test_what_is_chosen_stays_and_a_failed_search_is_tried_again(tmp_path, visit):
    studio = StudioService(tmp_path)
    upload = studio.store.upload(LOCAL, io.BytesIO(png(8, 8))).id
    studio.store.submit(LOCAL, "find_faces", {}, files={"source": f"{upload}/two.png"})
    face = {"box": [1, 1, 3, 3], "confidence": 0.9}
    small = Message(TOO_SMALL, width="9").as_data()
    facts = {"width": 8, "height": 8, "found": [{"number": 1, **face}, {"number": 2, **face, "why": small}]}
    facts["plan"] = [Message("it is enlarged by {model}", model="x").as_data()]
    finish(studio.store, png(8, 8), "photo.jpg", "image/jpeg", facts)
    failed = studio.store.submit(LOCAL, "find_faces", {}, files={"source": f"{upload}/bad.png"})
    studio.store.fail(studio.store.claim("tester"), CalotypeError("broken"), 1.0)
    with serving(studio.app) as address:
        page = visit(address, locale="zh-CN")
        first, second = page.get_by_label("修复人脸 1"), page.get_by_label("修复人脸 2")
        assert first.is_checked() and not second.is_checked()
        page.get_by_text("太小").wait_for()
        page.locator(".ct-notes").get_by_text("x").wait_for()
        second.click()
        page.get_by_label("人脸 2 的强度").fill("0.5")
        page.get_by_label("人脸 2 的强度").dispatch_event("change")
        for strength in (
            "0.5",
            "1",
        ):  # put back, it is a strength of its own, by which an unclear face is drawn in full
            page.get_by_label("人脸 1 的强度").fill(strength)
            page.get_by_label("人脸 1 的强度").dispatch_event("change")
        page.reload()
        assert second.is_checked() and page.get_by_label("人脸 2 的强度").input_value() == "0.5"
        page.get_by_role("button", name="重试").click()
        wait_until(page, lambda: studio.store.get(failed.id).state == "queued")
        page.get_by_role("button", name="修复这张照片").last.click()
        wait_until(page, lambda: studio.store.find(kinds=("restore",)))
        assert studio.store.find(kinds=("restore",))[0].task == {"faces": "1,2", "strength": "1,1=1,2=0.5"}
        page.reload()
        page.get_by_label("修复人脸 1").wait_for()
        assert not second.is_checked()
    studio.store.close()
