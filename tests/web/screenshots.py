"""Makes the READMEs' pictures of the page anew, with real work in them: python -m tests.web.screenshots [FOLDER]"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from skimage import data

from calotype.engine import Engine
from tests.web.conftest import StudioService, serving, working

ROOT = Path(__file__).parents[2]
LOCALES = {"en": "en-GB", "zh": "zh-CN"}
TABS = ("restore", "split", "colour", "imagine", "train", "queue", "gallery", "models", "settings")
WIDE, PHONE = (1280, 860), (390, 844)
SCREENS = (  # name, tab, colours, size
    ("restore", "restore", "light", WIDE),
    ("imagine", "imagine", "dark", WIDE),
    ("train", "train", "light", WIDE),
    ("gallery", "gallery", "light", WIDE),
    ("queue", "queue", "dark", WIDE),
    ("phone", "restore", "light", PHONE),
)
QUALITY = 80  # of JPEG
SECONDS = 600_000  # for the longest job, in milliseconds


def photos(folder: Path) -> list[Path]:
    """Photos that are free: NASA's portraits, and a cat by Stéfan van der Walt (CC0)."""
    Image.fromarray(data.chelsea()).save(folder / "chelsea.png")
    Image.fromarray(data.astronaut()).crop((60, 0, 444, 384)).save(folder / "eileen 1999.png")
    shutil.copy(ROOT / "examples" / "collins.jpg", folder / "eileen 1993.jpg")
    return [folder / name for name in ("chelsea.png", "eileen 1999.png", "eileen 1993.jpg")]  # the last one is on top


def rockets(studio: StudioService, folder: Path) -> list[Path]:
    """The last four pictures that were drawn, with a caption each, to learn them from."""
    [job] = studio.store.find(kinds=("imagine",), limit=1)
    for number, result in enumerate(job.results, 1):
        shutil.copy(studio.store.files.result(result.id), folder / f"rocket {number}.png")
        (folder / f"rocket {number}.txt").write_text("zkz rocket, fluent 3d")
    return sorted(folder.iterdir())


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab").nth(TABS.index(name)).click()
    page.wait_for_timeout(800)


def work(page: Page, studio: StudioService, folder: Path) -> None:
    """Everything that the pictures show, done by the page."""
    kept = [folder / name for name in ("photos", "rockets")]
    for place in kept:
        place.mkdir()
    page.set_input_files("ct-restore input[type=file] >> nth=0", photos(kept[0]))
    page.locator(".ct-face").nth(1).wait_for(timeout=SECONDS)
    page.click("#restore-go")
    page.locator("ct-restore ct-compare").nth(2).wait_for(timeout=SECONDS)
    open_tab(page, "imagine")
    for prompt in ("red apple, fluent 3d", "cat face, noto", "rocket, fluent 3d"):
        draw(page, prompt)
    page.locator("ct-imagine img").nth(11).wait_for(timeout=SECONDS)
    open_tab(page, "train")
    page.set_input_files("ct-photos input[type=file]", rockets(studio, kept[1]))
    page.locator("ct-photos textarea").nth(3).wait_for()
    page.fill("#train_lora-output_name textarea, #train_lora-output_name input", "rocket")
    page.fill("#train_lora-max_train_epochs input", "3")
    page.click("#train_lora-go")
    page.get_by_role("button", name="Use in Imagine").wait_for(timeout=SECONDS)


def draw(page: Page, prompt: str) -> None:
    page.fill("#imagine-prompt textarea", prompt)
    page.fill("#imagine-count input", "4")
    page.click("#imagine-go")
    page.wait_for_timeout(1500)


def take(browser: Browser, address: str, language: str, folder: Path) -> None:
    for name, tab, scheme, (width, height) in SCREENS:
        size = {"width": width, "height": height}
        context = browser.new_context(locale=LOCALES[language], color_scheme=scheme, viewport=size)
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("ct-restore ct-compare")
        if tab == "queue":  # with something in it
            open_tab(page, "imagine")
            for prompt in ("tulip, noto", "red heart, fluent 3d", "ghost, noto"):
                draw(page, prompt)
        if tab != "restore":
            open_tab(page, tab)
        page.wait_for_timeout(1500)  # for pictures to be decoded
        with Image.open(io.BytesIO(page.screenshot())) as picture:
            picture.convert("RGB").save(folder / f"page-{name}.{language}.jpg", quality=QUALITY, optimize=True)
        context.close()


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as started:
        studio = StudioService(Path(name))
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with serving(studio.app) as address, working(studio, Engine(studio.settings)):
            page = browser.new_context(locale="en-GB").new_page()
            page.goto(address)
            work(page, studio, Path(name))
            for language in LOCALES:
                take(browser, address, language, folder)
        browser.close()
        studio.store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
