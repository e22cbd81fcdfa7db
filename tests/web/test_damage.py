"""In Chromium: damage is marked by hand, and what restoring invented is shown."""

import io
import shutil
from random import Random

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from calotype.jobs.account import LOCAL
from calotype.jobs.jobs import NewResult
from calotype.ops.degrade.marks import damaged
from tests.web.conftest import StudioService, open_more, serving, working
from tests.web.test_browser import serious_faults

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SIZE = (1800, 200)  # wider than the canvas on which damage is marked


@pytest.fixture
def files(tmp_path):
    """A photo with a white scratch, and masks for it."""
    pixels = np.tile(np.linspace(60, 120, SIZE[0]).astype(np.uint8), (SIZE[1], 1))
    pixels[90:110, 400:800] = 255
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "print.png")
    Image.new("L", SIZE, 255).save(tmp_path / "white.png")
    Image.new("L", (64, 64)).save(tmp_path / "small.png")
    found = Image.new("L", SIZE)
    found.paste(255, (400, 90, 600, 110))
    found.save(tmp_path / "found.png")
    return tmp_path


@pytest.fixture
def worn(tmp_path):
    """A grey photo with scratches, hairs and dust, as wide as the canvas on which damage is marked."""
    y, x = np.mgrid[:120, :480]
    clean = (90 + 60 * np.sin(x / 90) * np.cos(y / 70)) / 255
    noise = np.random.default_rng(0).normal(0, 2 / 255, (120, 480, 3))
    pixels = damaged((clean[..., None] + noise).clip(0, 1).astype(np.float32), Random(5), 0.9, 3)
    Image.fromarray((255 * pixels).round().astype(np.uint8)).save(tmp_path / "old.png")
    return tmp_path / "old.png"


@pytest.fixture
def restored(files, visit, engine):
    """The page with the photo in it, and the service."""
    studio = StudioService(files)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.get_by_label("Scale").fill("1")
        page.set_input_files("ct-restore input[type=file] >> nth=0", files / "print.png")
        page.get_by_role("button", name="Mark damage").click()
        page.locator("dialog canvas").wait_for()
        yield page, studio
    studio.store.close()


def pixels_of(studio, result):
    return np.asarray(Image.open(studio.store.files.result(result.id)).convert("L"))


def mask_of(studio, **which):
    [job] = studio.store.find(kinds=("restore",), **which)
    content = studio.store.files.upload(job.files["mask"].split("/")[0]).read_bytes()
    return job, np.asarray(Image.open(io.BytesIO(content)).convert("L"))


def paint(page, left, right):
    box = page.locator("dialog canvas").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + left * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + right * box["width"], y, steps=4)
    page.mouse.up()


def test_a_mask_that_was_found_is_corrected_kept_and_repaired(restored, files):
    page, studio = restored
    page.set_input_files("dialog input[type=file]", files / "found.png")
    page.get_by_text("Mask: found.png").wait_for()
    page.locator("dialog input[type=range]").fill("20")
    paint(page, 0.3, 0.47)
    assert serious_faults(page) == []
    page.get_by_role("button", name="Take it").click()
    page.get_by_role("button", name="Damage: mask.png").wait_for()
    page.reload()
    page.get_by_role("button", name="Damage: mask.png").wait_for()
    page.get_by_label("Scale").fill("1")
    page.get_by_role("button", name="Restore this photo").click()
    page.locator("ct-restore ct-compare").wait_for(timeout=120_000)
    job, mask = mask_of(studio)
    assert mask.shape == SIZE[::-1] and set(np.unique(mask[:, ::7])) >= {0, 255}
    assert (mask[92:108, 402:598] == 255).all() and (mask[92:108, 620:800] == 255).all() and not mask[:, 1000:].any()
    pixels = np.asarray(Image.open(studio.store.files.result(job.results[0].id)).convert("L"))
    assert pixels[90:110, 400:800].max() < 140
    assert page.context.foreign == [] and page.context.faults == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("white.png", "the mask white.png is all white, so nothing would be left of the photo"),
        ("small.png", "the mask small.png is 64x64 pixels and the picture is 1800x200"),
    ],
)
def test_a_mask_that_makes_no_sense_is_said_at_its_photo(restored, files, name, sentence):
    page, _ = restored
    page.set_input_files("dialog input[type=file]", files / name)
    page.get_by_text(f"Mask: {name}").wait_for()
    page.get_by_role("button", name="Take it").click()
    page.get_by_role("button", name="Restore this photo").click()
    expect(page.locator("ct-restore .ct-status .ct-fault")).to_contain_text(sentence)


def test_a_damaged_file_is_shown_refused_by_the_title_of_its_option_and_restored_with_it(files, visit, engine):
    noise = np.random.default_rng(0).integers(0, 255, (160, 160, 3), np.uint8)
    Image.fromarray(noise).save(files / "torn.jpg", quality=90)
    content = (files / "torn.jpg").read_bytes()
    (files / "torn.jpg").write_bytes(content[: len(content) // 2])
    studio = StudioService(files)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.get_by_label("Scale").fill("1")
        page.set_input_files("ct-restore input[type=file] >> nth=0", files / "torn.jpg")
        page.get_by_text("its file is damaged: what is left of it was read").wait_for(timeout=60_000)
        page.get_by_role("button", name="Restore this photo").click()
        fault = page.locator("ct-restore .ct-status .ct-fault")
        expect(fault).to_contain_text("give “Read a damaged file” to use what is left of it", timeout=60_000)
        open_more(page, "restore")
        page.get_by_label("Read a damaged file").check()
        page.get_by_role("button", name="Restore this photo").click()
        page.locator("ct-restore ct-compare").wait_for(timeout=60_000)
        assert page.context.foreign == [] and page.context.faults == []
    studio.store.close()


def test_the_damage_that_was_found_is_corrected_and_restored_with(worn, visit, engine):
    studio = StudioService(worn.parent)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.set_input_files("ct-restore input[type=file] >> nth=0", worn)
        open_more(page, "restore")
        page.get_by_label("Scale", exact=True).fill("1")
        page.get_by_role("textbox", name="Repair").fill("scratches")
        page.get_by_label("Show the damage found").check()
        page.get_by_role("button", name="Restore this photo").click()
        page.get_by_role("button", name="Correct the damage found").click(timeout=120_000)
        page.get_by_text("The damage that was found is marked in red.").wait_for()
        assert serious_faults(page) == []
        page.locator("dialog input[type=range]").fill("80")
        paint(page, 100 / 480, 200 / 480)
        page.get_by_role("button", name="Eraser").click()
        paint(page, 270 / 480, 1)
        page.get_by_role("button", name="Restore with it").click()
        expect(page.locator("dialog")).to_have_count(0)
        page.get_by_role("tab", name="Gallery").click()
        expect(page.locator("ct-gallery .ct-card")).to_have_count(2, timeout=120_000)
        second, first = studio.store.find(kinds=("restore",))
        found, corrected = (pixels_of(studio, job.results[1]) > 0 for job in (first, second))
        assert first.results[1].facts == second.results[1].facts == {"beside": "mask"}
        assert "mask" not in first.files and "mask" in second.files
        added, erased = np.s_[53:67, 100:200], np.s_[53:67, 270:470]
        assert found[erased].any() and not corrected[erased].any()
        assert corrected[added].all() and not found[added].all()
        assert np.array_equal(found[:40], corrected[:40]) and np.array_equal(found[80:], corrected[80:])
        page.reload()  # the form has its defaults again
        page.get_by_role("button", name="Damage: mask.png").wait_for()
        page.get_by_role("button", name="Correct the damage found").click()
        page.get_by_role("button", name="Clear all").click()
        page.get_by_text("Nothing is marked now").wait_for()
        page.get_by_role("button", name="Restore with it").click()
        page.get_by_role("tab", name="Gallery").click()
        expect(page.locator("ct-gallery .ct-card")).to_have_count(3, timeout=120_000)
        third = studio.store.find(kinds=("restore",))[0]
        assert "mask" in third.files and not pixels_of(studio, third.results[1]).any()
        page.locator("ct-gallery .ct-open").last.click()  # the first one
        page.locator("dialog summary").get_by_text("Measured: ").click()
        expect(page.locator("dialog .ct-figures .is-beyond").first).to_contain_text("found and filled")
        page.get_by_role("button", name="Correct the damage found").click()
        page.get_by_role("button", name="Restore with it").click()
        expect(page.locator("dialog")).to_have_count(1)
        page.get_by_role("button", name="Close").click()
        expect(page.locator("ct-gallery .ct-card")).to_have_count(4, timeout=120_000)
        fourth = studio.store.find(kinds=("restore",))[0]
        assert fourth.files["mask"].startswith(first.results[1].sha256)
        assert third.task == fourth.task == first.task and third.parent == fourth.parent == first.parent
        page.get_by_role("button", name="Delete old.png").first.click()
        expect(page.locator("ct-gallery .ct-card")).to_have_count(3)
        page.get_by_role("button", name="Delete old.png").first.click()
        expect(page.locator("ct-gallery .ct-card")).to_have_count(2)
        assert page.context.foreign == [] and page.context.faults == []
    studio.store.close()


def restored_with(studio, folder, task, found, photos=1):
    """A job of a grey photo, or of several alike, with this mask as a worker stores it."""
    content = io.BytesIO()
    Image.new("RGB", (480, 120), "grey").save(content, "PNG")
    source = f"{studio.store.upload(LOCAL, io.BytesIO(content.getvalue())).id}/grey.png"
    job = studio.store.submit(LOCAL, "restore", task, files={"source": source if photos == 1 else [source] * photos})
    results = []
    for name, picture, facts in (("grey.png", content.getvalue(), {}), ("grey-mask.png", found, {"beside": "mask"})):
        (folder / name).write_bytes(picture)
        results.append(NewResult(folder / name, name, "image/png", facts))
    studio.store.finish(studio.store.claim("tester"), results, 1.0)
    return studio.store.get(job.id)


BRUSH = "Paint over scratches, spots and tears. Just that is repaired, and nothing is searched."


@pytest.mark.parametrize(
    ("size", "repair", "sentence", "has_canvas"),
    [
        ((480, 120), {}, "No damage was found. Paint over scratches, spots and tears", True),
        ((480, 120), {"repair": "none"}, BRUSH, True),
        ((120, 480), {}, "What was found cannot be marked here: the browser shows this photo in another size", False),
    ],
    ids=["black", "not searched", "turned"],
)
def test_it_is_said_where_nothing_is_marked_in_red(tmp_path, visit, size, repair, sentence, has_canvas):
    mask = io.BytesIO()
    Image.new("L", size, 0 if has_canvas else 255).save(mask, "PNG")
    studio = StudioService(tmp_path)
    first = restored_with(studio, tmp_path, {"has_mask": True, **repair}, mask.getvalue())
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Gallery").click()
        page.locator("ct-gallery .ct-open").click()
        page.get_by_role("button", name="Correct the damage found").click()
        note = page.locator("dialog p[role=status]").last
        expect(note).to_contain_text(sentence)
        expect(note).not_to_contain_text("marked in red")
        expect(page.locator("dialog canvas")).to_have_count(1 if has_canvas else 0)
        if has_canvas:
            paint(page, 0.2, 0.4)
            expect(note).to_have_text(BRUSH)
        page.get_by_role("button", name="Restore with it").click()
        page.get_by_text("1 photo is in the queue").wait_for()
        job, painted = mask_of(studio, states=("queued",))
        assert job.task == {"has_mask": True} | ({"repair": "scratches"} if repair else {})
        if has_canvas:
            assert painted.shape == (120, 480) and painted[60, 100:190].all() and not painted[:, 250:].any()
        else:
            assert job.files["mask"].startswith(first.results[1].sha256)
    studio.store.close()


@pytest.mark.parametrize(
    ("photos", "task"), [(2, {}), (1, {"aligned": True})], ids=["several photos", "an aligned face"]
)
def test_no_mask_is_corrected_that_is_not_the_one_of_a_photo(tmp_path, visit, photos, task):
    mask = io.BytesIO()
    Image.new("L", (480, 120)).save(mask, "PNG")
    studio = StudioService(tmp_path)
    restored_with(studio, tmp_path, {"has_mask": True, **task}, mask.getvalue(), photos)
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Gallery").click()
        page.locator("ct-gallery .ct-open").click()
        page.locator("dialog").get_by_role("link", name="Download").wait_for()
        expect(page.get_by_role("button", name="Correct the damage found")).to_have_count(0)
        assert page.context.faults == []
    studio.store.close()


def test_restoring_with_the_corrected_mask_goes_on_when_the_service_is_back(tmp_path, visit):
    mask = io.BytesIO()
    Image.new("L", (480, 120)).save(mask, "PNG")
    studio = StudioService(tmp_path)
    restored_with(studio, tmp_path, {"has_mask": True}, mask.getvalue())
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("tab", name="Gallery").click()
        page.locator("ct-gallery .ct-open").click()
        page.get_by_role("button", name="Correct the damage found").click()
        lost = []
        page.route("**/jobs", lambda route: lost.append(route.request.method) or route.abort(), times=2)
        page.get_by_role("button", name="Restore with it").click()
        page.locator("dialog .ct-fault").get_by_text("goes on by itself").wait_for()
        page.get_by_text("1 photo is in the queue").wait_for()
        assert lost == ["POST", "POST"]
        assert len(studio.store.find(kinds=("restore",), states=("queued",))) == 1
    studio.store.close()


@pytest.mark.parametrize(
    ("masks", "shown"),
    [
        ("{id}/found.png", "found.png"),
        ("{id}", "mask.png"),
        (["{id}/found.png"], "found.png"),
        (["{id}/a.png"] * 2, ""),
    ],
    ids=["one", "without a name", "a list of one", "several"],
)
def test_the_mask_of_a_job_is_that_of_its_photo_if_it_is_one(files, visit, masks, shown):
    studio = StudioService(files)
    photo, mask = (studio.store.upload(LOCAL, (files / name).open("rb")).id for name in ("print.png", "found.png"))
    source = f"{photo}/print.png"
    first = studio.store.submit(LOCAL, "find_faces", {}, files={"source": source})
    width, height = SIZE
    facts = {"found": [], "width": width, "height": height}
    shutil.copy(files / "print.png", files / "small-print.png")
    result = NewResult(files / "small-print.png", "print.png", "image/png", facts)
    studio.store.finish(studio.store.claim("tester"), [result], 1.0)
    given = masks.format(id=mask) if isinstance(masks, str) else [each.format(id=mask) for each in masks]
    studio.store.submit(LOCAL, "restore", {}, files={"source": source, "mask": given}, parent=first.id)
    with serving(studio.app) as address:
        page = visit(address)
        page.get_by_role("button", name="Mark damage").click()
        page.locator("dialog canvas").wait_for()
        expect(page.locator("dialog p[role=status]")).to_contain_text(f"Mask: {shown}" if shown else BRUSH)
        page.get_by_role("button", name="Close").click()
        expect(page.get_by_role("button", name="Damage: ")).to_have_count(1 if shown else 0)
        if shown:
            expect(page.get_by_role("button", name=f"Damage: {shown}")).to_have_count(1)
        assert page.context.faults == []
    studio.store.close()


def test_a_mask_is_taken_though_the_browser_has_not_read_it_yet(restored, files):
    page, studio = restored
    page.evaluate("""() => {
        const read = createImageBitmap;
        const held = new Promise((resolve) => (globalThis.goOn = resolve));
        globalThis.createImageBitmap = (...given) => held.then(() => read(...given));
    }""")
    page.set_input_files("dialog input[type=file]", files / "found.png")
    page.get_by_text("Mask: found.png").wait_for()
    page.get_by_role("button", name="Take it").click()
    page.get_by_role("button", name="Damage: found.png").wait_for()
    page.evaluate("goOn()")
    page.get_by_role("button", name="Restore this photo").click()
    page.locator("ct-restore ct-compare").wait_for(timeout=120_000)
    _, mask = mask_of(studio)
    assert mask[95, 450] == 255 and mask.mean() == pytest.approx(255 * 200 * 20 / (SIZE[0] * SIZE[1]))
    assert page.context.faults == []


def test_what_was_invented_is_shown_with_the_result_and_is_no_picture_of_its_own(tmp_path, visit, engine, portrait):
    old = Image.fromarray(portrait).resize((64, 64)).resize((256, 256), Image.Resampling.BILINEAR)
    old.save(tmp_path / "old.png")
    studio = StudioService(tmp_path)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.set_input_files("ct-restore input[type=file] >> nth=0", tmp_path / "old.png")
        page.locator(".ct-face").wait_for()
        open_more(page, "restore")
        page.get_by_label("Show what is invented").check()
        page.get_by_role("button", name="Restore this photo").click()
        page.get_by_role("button", name="What was invented").click(timeout=120_000)
        shown = page.get_by_alt_text("What was invented")
        expect(shown).to_be_visible()
        assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 512
        page.get_by_role("button", name="Close").click()
        page.get_by_role("tab", name="Gallery").click()
        expect(page.locator("ct-gallery .ct-card")).to_have_count(1)
        page.locator("ct-gallery .ct-open").click()
        page.get_by_role("button", name="What was invented").click()
        expect(shown).to_be_visible()
        page.get_by_role("button", name="Close").last.click()
        page.get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Delete old.png").click()
        expect(page.locator("ct-gallery .ct-card")).to_have_count(0)
        page.reload()
        expect(page.locator("ct-restore .ct-card")).to_have_count(1)
        assert studio.store.find(kinds=("restore",)) == []
    studio.store.close()
