"""In Chromium: strokes are painted at any zoom, by mouse, keys and fingers."""

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from calotype.jobs.account import LOCAL
from tests.web.conftest import StudioService, serving
from tests.web.test_browser import finish, serious_faults, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SIZE = (3000, 2000)  # of a scan: width and height
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def service(tmp_path):
    """A service that does no work, and its address."""
    studio = StudioService(tmp_path)
    with serving(studio.app) as address:
        yield studio, address
    studio.store.close()


@pytest.fixture
def marking(service, visit, request):
    """Opens the dialog in which the damage of a large scan is marked."""
    studio, address = service

    def open_dialog(**more):
        content = io.BytesIO()
        Image.new("RGB", SIZE, (90, 90, 90)).save(content, "PNG")
        upload = studio.store.upload(LOCAL, io.BytesIO(content.getvalue() + request.node.name.encode())).id
        studio.store.submit(LOCAL, "find_faces", {}, files={"source": f"{upload}/{request.node.name}.png"})
        facts = {"width": SIZE[0], "height": SIZE[1], "found": []}
        finish(studio.store, content.getvalue(), "photo.jpg", "image/jpeg", facts)
        page = visit(address, **more)
        page.card = page.locator("ct-restore .ct-card", has_text=request.node.name)
        page.card.get_by_role("button", name="Mark damage").click()
        page.locator("dialog canvas").wait_for()
        expect(page.locator("dialog .ct-percent")).not_to_be_empty()
        return page, studio

    return open_dialog


def shown(page):
    """Where the canvas lies, and the part of the photo that it shows: its scale, and the point in its corner."""
    box = page.locator("dialog canvas").bounding_box()
    canvas = page.locator("dialog .ct-painter")
    scale, left, top = canvas.evaluate("({painter}) => [painter.view.scale, painter.view.left, painter.view.top]")
    return box, scale, (left, top)


def place_of(page, point):
    """Where a point of the photo is on the screen."""
    box, scale, (left, top) = shown(page)
    return box["x"] + (point[0] - left) * scale, box["y"] + (point[1] - top) * scale


def point_at(page, place):
    """The point of the photo at a place of the screen."""
    box, scale, (left, top) = shown(page)
    return left + (place[0] - box["x"]) / scale, top + (place[1] - box["y"]) / scale


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=5)
    page.mouse.up()


def mask_of(page, studio):
    """The mask that is sent with the photo, (H, W)."""
    page.get_by_role("button", name="Take it").click()
    page.card.get_by_role("button", name="Damage: mask.png").wait_for()
    before = studio.store.find(kinds=("restore",))
    page.card.get_by_role("button", name="Restore this photo").click()
    wait_until(page, lambda: len(studio.store.find(kinds=("restore",))) > len(before))
    [job] = [job for job in studio.store.find(kinds=("restore",)) if job not in before]
    content = studio.store.files.upload(job.files["mask"].split("/")[0]).read_bytes()
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"))


def test_a_hair_is_painted_exactly_where_it_was_zoomed_in(marking):
    page, studio = marking()
    assert serious_faults(page) == []
    x, y = (round(value) for value in place_of(page, (2200, 600)))
    page.mouse.move(x, y)
    aimed = point_at(page, (x, y))
    for _ in range(8):
        page.mouse.wheel(0, -150)
    wait_until(page, lambda: shown(page)[1] > 2)
    assert point_at(page, (x, y)) == pytest.approx(aimed, abs=2), "the wheel zooms around the pointer"
    page.locator("dialog input[type=range]").fill("8")
    x, y = place_of(page, (2200, 600))
    _, scale, _ = shown(page)
    drag(page, (x, y), (x + 40 * scale, y))
    page.get_by_role("button", name="Eraser").click()
    drag(page, (x + 30 * scale, y), (x + 40 * scale, y))
    page.get_by_role("button", name="Whole photo").click()
    mask = mask_of(page, studio)
    assert mask.shape == SIZE[::-1]
    rows, columns = np.nonzero(mask > 127)
    assert rows.min() >= 598 and rows.max() <= 602 and 2 <= np.ptp(rows) + 1 <= 5, "8 pixels of the screen"
    assert columns.min() == pytest.approx(2199, abs=2) and columns.max() == pytest.approx(2228, abs=3)
    assert page.context.foreign == [] and page.context.faults == []


def test_dragging_with_the_space_bar_or_the_hand_moves_the_photo_and_paints_nothing(marking):
    page, _ = marking()
    for _ in range(4):
        page.get_by_role("button", name="Zoom in").click()
    box, scale, before = shown(page)
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.locator("dialog canvas").focus()
    page.keyboard.down(" ")
    drag(page, middle, (middle[0] - 60, middle[1] + 40))
    page.keyboard.up(" ")
    assert shown(page)[2] == pytest.approx((before[0] + 60 / scale, before[1] - 40 / scale))
    page.get_by_role("button", name="Move", exact=True).click()
    drag(page, middle, (middle[0] + 60, middle[1] - 40))
    assert shown(page)[2] == pytest.approx(before)
    page.locator("dialog canvas").focus()
    page.keyboard.press("ArrowRight")
    assert shown(page)[2][0] > before[0]
    page.keyboard.press("-")
    assert shown(page)[1] < scale
    page.keyboard.press("0")
    expect(page.get_by_role("button", name="Zoom out")).to_be_disabled()
    strokes = "document.querySelector('dialog .ct-painter').painter.strokes.length"
    assert page.evaluate(strokes) == 0
    page.get_by_role("button", name="Brush", exact=True).click()
    drag(page, middle, (middle[0] + 60, middle[1]))
    drag(page, middle, (middle[0] + 60, middle[1] + 30))
    page.keyboard.press("Control+z")
    assert page.evaluate(strokes) == 1
    page.get_by_role("button", name="Clear all").click()
    assert page.evaluate(strokes) == 0
    page.get_by_role("button", name="Undo").click()
    assert page.evaluate(strokes) == 1, "what was cleared is there again"


def test_on_a_phone_two_fingers_zoom_and_one_paints(marking):
    page, studio = marking(**PHONE)
    box, scale, _ = shown(page)
    touch = page.context.new_cdp_session(page)
    assert page.evaluate("document.querySelector('dialog').scrollWidth <= innerWidth") and box["height"] >= 240
    assert serious_faults(page) == []
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def fingers(kind, *points):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in points]})

    fingers("touchStart", (x - 20, y))
    fingers("touchStart", (x - 20, y), (x + 20, y))
    for step in range(1, 9):
        fingers("touchMove", (x - 20 - 10 * step, y), (x + 20 + 10 * step, y))
    fingers("touchEnd")
    assert shown(page)[1] == pytest.approx(5 * scale, rel=0.05)
    assert page.evaluate("document.querySelector('dialog .ct-painter').painter.isEmpty"), "a pinch paints nothing"
    x, y = place_of(page, (1500, 1000))
    fingers("touchStart", (x, y))
    fingers("touchMove", (x + 40, y))
    fingers("touchEnd")
    mask = mask_of(page, studio)
    rows, columns = np.nonzero(mask > 127)
    assert rows.mean() == pytest.approx(1000, abs=3)
    assert np.ptp(columns) == pytest.approx(52 / (5 * scale), rel=0.1), "40 pixels and the width of the brush"
