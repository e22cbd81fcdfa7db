"""Colouring in Chromium: strokes are painted, or given as files, and what is wrong is said beside its field."""

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from calotype.ops.colorize import grey_values
from tests.web.conftest import StudioService, serving, working
from tests.web.test_browser import serious_faults

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SIZE = (2000, 240)  # wider than the canvas on which strokes are painted


@pytest.fixture
def files(tmp_path):
    """Two grey halves with a sharp border, and pictures that may be given beside them."""
    grey = np.full(SIZE[::-1], 90, np.uint8)
    grey[:, 1000:] = 170
    Image.fromarray(grey).save(tmp_path / "grandma.png")
    stroke = Image.new("RGBA", SIZE)
    stroke.paste((200, 60, 40, 255), (100, 100, 300, 140))
    stroke.save(tmp_path / "strokes.png")
    Image.new("RGBA", SIZE).save(tmp_path / "none.png")
    Image.new("RGBA", (64, 64), (200, 60, 40, 255)).save(tmp_path / "small.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    return tmp_path


def opened(studio, result):
    return np.asarray(Image.open(studio.store.files.result(result.id)))


def test_a_painted_stroke_colours_its_half_and_is_there_after_a_reload(files, visit, engine):
    studio = StudioService(files)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.get_by_role("tab", name="Colour").click()
        page.click("#colour-go")
        page.get_by_text("drop a photo first").wait_for()
        page.set_input_files("ct-colour input[type=file] >> nth=0", files / "grandma.png")
        page.locator("ct-colour canvas").wait_for()
        page.click("#colour-go")
        fault = page.locator("#colour-hints + .ct-fault")
        expect(fault).to_contain_text("give one of them")
        paint(page, 0.1, 0.2)
        expect(fault).to_have_count(0)
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("Paint a short stroke over each thing").wait_for()
        page.get_by_role("button", name="Red", exact=True).click()
        paint(page, 0.1, 0.3)
        assert serious_faults(page) == []
        page.reload()
        page.get_by_role("tab", name="Colour").click()
        page.locator("ct-colour canvas").wait_for()
        page.wait_for_function("document.querySelector('ct-colour').painter?.strokes.length === 1")
        page.click("#colour-go")
        page.locator(".ct-coloured img").wait_for()
        [job] = studio.store.find(kinds=("colour",))
        strokes = Image.open(io.BytesIO(studio.store.files.upload(job.files["hints"].split("/")[0]).read_bytes()))
        assert strokes.size == SIZE and strokes.mode == "RGBA"
        assert strokes.getpixel((400, 120)) == (179, 49, 44, 255) and strokes.getpixel((1500, 120))[3] == 0
        pixels = opened(studio, job.results[0]).astype(int)
        assert pixels[120, 400, 0] > pixels[120, 400, 2] + 40 and abs(pixels[120, 1800, 0] - pixels[120, 1800, 2]) < 8
        with Image.open(files / "grandma.png") as grey:
            np.testing.assert_array_equal(grey_values(pixels.astype(np.uint8)), np.asarray(grey))
        assert page.context.foreign == [] and page.context.faults == []
    studio.store.close()


@pytest.mark.parametrize(
    ("field", "name", "sentence"),
    [
        ("hints", "none.png", "there is no stroke of colour in none.png"),
        ("hints", "small.png", "small.png has 64 × 64 pixels and grandma.png 2000 × 240"),
        ("reference", "grey.png", "grey.png has no colours; give a photo in colour"),
    ],
)
def test_what_gives_no_colour_is_said_beside_its_field(files, visit, engine, field, name, sentence):
    studio = StudioService(files)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.get_by_role("tab", name="Colour").click()
        page.set_input_files("ct-colour input[type=file] >> nth=0", files / "grandma.png")
        page.locator("ct-colour canvas").wait_for()
        page.set_input_files(f"#colour-{field} input[type=file]", files / name)
        page.click("#colour-go")
        expect(page.locator(f"#colour-{field} + .ct-fault")).to_contain_text(sentence)
    studio.store.close()


def test_strokes_of_a_file_are_shown_over_the_photo_and_painted_on(files, visit, engine):
    studio = StudioService(files)
    with serving(studio.app) as address, working(studio, engine):
        page = visit(address)
        page.set_input_files("ct-restore input[type=file] >> nth=0", files / "grandma.png")
        page.get_by_role("button", name="Colour it").click()
        page.locator("ct-colour canvas").wait_for()
        page.set_input_files("#colour-hints input[type=file]", files / "strokes.png")
        page.get_by_text("Strokes: strokes.png").wait_for()
        at = """canvas => {
          const [x, y] = [0.1 * canvas.width, 0.5 * canvas.height];
          return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3);
        }"""
        red, green, _ = page.locator("ct-colour canvas").evaluate(at)
        assert red > green + 80
        page.get_by_role("button", name="Sky blue").click()
        paint(page, 0.7, 0.8)
        page.click("#colour-go")
        page.locator(".ct-coloured img").wait_for()
        [job] = studio.store.find(kinds=("colour",))
        pixels = opened(studio, job.results[0]).astype(int)
        assert pixels[120, 200, 0] > pixels[120, 200, 2] + 40 and pixels[120, 1500, 2] > pixels[120, 1500, 0] + 20
    studio.store.close()


def paint(page, left, right):
    """A stroke over the middle of the photo, between shares of its width."""
    canvas = page.locator("ct-colour canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + left * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + right * box["width"], y, steps=4)
    page.mouse.up()
