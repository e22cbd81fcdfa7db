"""Faces and regions are chosen by numbers, on a picture that shows these."""

import io
from pathlib import Path

import discord
import numpy as np
import pytest
from PIL import Image

from calotype.bot.buttons import picture_view
from calotype.outputs.numbered import ACCENT, numbered_faces, numbered_regions, region_mask
from tests.api.conftest import png
from tests.bot.conftest import picture

PHOTO = Path(__file__).parents[2] / "examples" / "collins.jpg"
SIDE = 120  # pixels of a person in a group


def group(count, side=SIDE):
    """A photo with so many faces, in rows of four."""
    face = Image.open(PHOTO).convert("RGB")
    face.thumbnail((side, side))
    photo = Image.new("RGB", (min(count, 4) * side, -(-count // 4) * side), (90, 90, 90))
    for n in range(count):
        photo.paste(face, (n % 4 * side, n // 4 * side))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.slow
def test_faces_are_numbered_on_the_photo_and_several_chosen_from_a_list(play, studio, run_all):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "restore", picture=("photo.jpg", group(6)), faces="1")
        await run_all(evening)
        (message,) = evening.messages
        restored, faces = message.attachments
        assert (restored.filename[:7], faces.filename) == ("picture", "faces.jpg")
        numbered = np.asarray(Image.open(io.BytesIO(await faces.read())).convert("RGB"), int)
        for n in range(6):  # a box on each
            part = numbered[n // 4 * SIDE :][:SIDE, n % 4 * SIDE :][:, :SIDE]
            assert (abs(part - ACCENT).sum(2) < 40).sum() > 50
        (select,) = [
            row.children[0] for row in message.components if row.children[0].type == discord.ComponentType.select
        ]
        assert [option.value for option in select.options] == list("123456") and select.max_values == 6
        await ann.select(message, ["5", "2"], custom_id=select.custom_id)
        await ann.select(message, ["2", "5"], custom_id=select.custom_id)
        first, again = sorted(studio.service.store.find(), key=lambda job: job.task["faces"])
        assert (again.task, again.files) == ({"faces": "2,5"}, first.files)

    play(scene)


@pytest.mark.parametrize(("faces", "pages"), [(1, []), (6, [6]), (25, [25]), (26, [25, 1]), (80, [25, 25, 25])])
def test_many_faces_are_on_several_lists(play, studio, faces, pages):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "restore", picture=("photo.png", png()))
        await evening.work(faces=faces)
        view = picture_view(studio.service.store.find()[0], 1, "en")
        found = [item.item for item in view.children if item.custom_id.startswith("cals:")]
        assert [len(select.options) for select in found] == pages
        assert len({select.custom_id for select in found}) == len(pages)
        assert all(len(row["components"]) <= 5 for row in view.to_components())

    play(scene)


def test_regions_are_chosen_on_the_picture_and_drawn_anew(play, studio, run_all, small):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="red fox face, noto --ar 2:1 --stop 50 --seed 7")
        await run_all(evening)
        await ann.click(evening.messages[0], label="U2")
        one = evening.messages[1]
        before = np.asarray((await picture(one)).convert("RGB"), int)
        asked = await ann.click(one, label="Vary (region)")
        (choice,) = asked.followups
        assert choice.flags.ephemeral and "drawn anew" in choice.content
        assert (await picture(choice)).size == (1024, 512)
        select = choice.components[0]["components"][0]
        assert [option["value"] for option in select["options"]] == list("123456789")
        await evening.restart()  # a choice works after it
        shown = await ann.select(choice, ["1", "4"], custom_id=select["custom_id"])
        assert "red fox face, noto" in str(shown.modal)
        await ann.submit_modal(shown, {"prompt": "blue fox face, noto --ar 1:1 --stop 50"})
        await run_all(evening)
        (varied,) = [job for job in studio.service.store.find() if job.files]
        assert (varied.task["prompt"], varied.task["strength"]) == ("blue fox face, noto", 0.9)
        assert varied.files.keys() == {"init", "mask"} and "size" not in varied.task
        assert "From [this message]" in evening.messages[2].content
        await ann.click(evening.messages[2], label="U1")
        after = np.asarray((await picture(evening.messages[3])).convert("RGB"), int)
        changed = np.abs(after - before).max(2) > 0
        assert changed[:32, :32].any() and not changed[32:].any() and not changed[:, 32:].any()

    play(scene)


def test_a_mask_is_white_in_its_regions_and_these_cover_the_picture():
    mask = np.asarray(Image.open(io.BytesIO(region_mask(100, 50, [1, 9]))))
    assert mask[0, 0] == mask[16, 32] == mask[-1, -1] == 255 and mask[0, 34] == mask[18, 0] == mask[25, 50] == 0
    assert np.asarray(Image.open(io.BytesIO(region_mask(101, 47, range(1, 10))))).min() == 255


def test_a_picture_without_faces_or_regions_is_refused(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        await ann.click(evening.messages[0], label="U1")
        studio.service.store.delete(studio.service.store.find()[0].id)
        asked = await ann.click(evening.messages[1], label="Vary (region)")
        assert "deleted to make room" in asked.followups[0].content

    play(scene)


def test_boxes_of_faces_are_in_pixels_of_the_photo(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(2048, 1024))
    shown = np.asarray(Image.open(io.BytesIO(numbered_faces(path, [(7, (1000, 400, 200, 200))], 10**7))), int)
    assert shown.shape == (512, 1024, 3)
    rows, columns = np.nonzero(abs(shown - ACCENT).sum(2) < 40)
    assert abs(rows.max() - 300) < 4 and abs(columns.min() - 500) < 4 and abs(columns.max() - 600) < 4


@pytest.mark.parametrize(
    "box", [(40, 0, 20, 20), (580, 200, 18, 18), (0, 290, 9, 9), (300, 2, 60, 60), (620, 0, 20, 30)]
)
def test_numbers_stand_beside_faces_not_in_them(tmp_path, box):
    path = tmp_path / "a.png"
    path.write_bytes(png(640, 300))
    shown = np.asarray(Image.open(io.BytesIO(numbered_faces(path, [(12, box)], 10**6))).convert("RGB"), int)
    is_accent = abs(shown - ACCENT).sum(2) < 60
    x, y, width, height = box
    assert not is_accent[y + 3 : y + height - 2, x + 3 : x + width - 2].any(), "the face is seen"
    assert (shown.min(2) > 150).sum() > 10, "and its number, in white"


def test_regions_of_a_small_picture_can_be_read(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(64, 64))
    shown = Image.open(io.BytesIO(numbered_regions(path, 10**6)))
    assert shown.size == (1024, 1024) and len(np.unique(np.asarray(shown.convert("L")))) > 50
