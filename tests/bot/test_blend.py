"""/blend: one picture of several."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from calotype.bot.settings import BotSettings
from calotype.errors import CalotypeError
from calotype.inference.diffusion.canvas import blended_files
from calotype.inference.diffusion.generate import mean_of_length
from calotype.outputs.reproduce import drawing_task
from calotype.outputs.sidecar import StoredRecord
from calotype.record import Record
from calotype.tasks import Imagine
from tests.api.conftest import png
from tests.bot.conftest import buttons, picture


def drawn(prompt):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", f"{prompt}\nSteps: 3, Sampler: Euler, CFG scale: 4, Seed: 7, Size: 64x64")
    return prompt.replace(" ", "-")[:20] + ".png", png(64, 64, pnginfo=text)


def test_pictures_are_drawn_anew_by_their_prompts_together(play, studio, small):
    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")
        pictures = {
            "picture1": drawn("red fox <lora:x:1>"),
            "picture2": drawn("blue apple"),
            "picture3": ("p.png", png()),
        }
        await ann.slash(evening.channel, "blend", shape="landscape", **pictures)
        (job,) = studio.service.store.find()
        assert job.task["prompt"] == "red fox :0.5 AND blue apple :0.5"
        assert (job.task["strength"], job.task["size"]) == (0.55, "80x48") and len(job.files["blend"]) == 2
        await evening.work()
        assert "U1" in buttons(evening.messages[0])
        await ben.click(evening.messages[0], custom_id=buttons(evening.messages[0])["🔄"])
        again = next(found for found in studio.service.store.find() if found.id != job.id)
        assert again.owner != job.owner and again.files == job.files

    play(scene)


def test_without_prompts_only_colours_and_outlines_are_blended_and_that_is_said(play, studio, small):
    async def scene(evening):
        ann = evening.person("ann")
        pictures = {"picture1": ("a.png", png()), "picture2": ("b.png", png(30, 40))}
        answer = await ann.slash(evening.channel, "blend", **pictures)
        assert "only colours and outlines are blended" in answer.response.content
        assert evening.messages[0].content.startswith("**Blended pictures**")
        answer = await ann.slash(evening.channel, "blend", prompt="a fox", **pictures)
        assert evening.messages[1].content.startswith("**a fox**")

    play(scene)


def test_what_cannot_be_blended_is_said(play, studio, small, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("naked\n")
    studio.settings = BotSettings(account_days=0, member_days=0, blocked_words=words)

    async def scene(evening):
        ann = evening.person("ann")

        async def text(**options):
            return (await ann.slash(evening.channel, "blend", **options)).response.content

        assert "the word naked" in await text(picture1=drawn("fox"), picture2=drawn("na_ked man"))
        assert "the word naked" in await text(picture1=drawn("fox"), picture2=drawn("cat"), prompt="(na:1)ked")
        assert "/" not in await text(picture1=drawn("fox"), picture2=("b.png", b"no picture"))
        studio.chat.set_options(f"channel-{evening.channel.id}", {"commands": ["imagine"]})
        assert "takes /imagine only" in await text(picture1=drawn("fox"), picture2=drawn("cat"))
        assert studio.service.store.find() == []

    play(scene)


def test_the_mean_of_latents_is_as_long_as_they_are():
    generator = torch.Generator().manual_seed(0)
    latents = [torch.randn(1, 4, 8, 8, generator=generator) for _ in range(5)]
    mean = mean_of_length(latents)
    assert torch.isclose(mean.norm(), sum(part.norm() for part in latents) / 5)
    assert torch.allclose(mean_of_length([latents[0]] * 3), latents[0], atol=1e-5)
    first, second = (part / part.norm() for part in latents[:2])
    angle = torch.acos((first * second).sum())
    slerp = torch.sin(angle / 2) / torch.sin(angle) * (first + second)
    assert torch.allclose(mean_of_length([first, second]), slerp, atol=1e-6)


def test_a_blend_has_something_of_each_picture(play, studio, small, run_all):
    def plain(color):
        file = io.BytesIO()
        Image.new("RGB", (64, 64), color).save(file, "PNG")
        return f"{color}.png", file.getvalue()

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "blend", picture1=plain("red"), picture2=plain("blue"))
        await run_all(evening)
        (job,) = studio.service.store.find()
        assert job.state == "done" and len(job.results) == 5
        await ann.click(evening.messages[0], label="U1")
        red, green, blue = np.asarray((await picture(evening.messages[1])).convert("RGB"), float).mean((0, 1))
        print(red, green, blue)
        assert red > green and blue > green

    play(scene)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"blend": Path("x")}, "needs an initial picture"),
        ({"blend": Path("x"), "init": Path("a.png"), "outpaint": "64"}, "are blended whole"),
    ],
)
def test_a_blend_needs_an_initial_picture_and_takes_whole_ones(options, part):
    with pytest.raises(CalotypeError, match=part):
        Imagine(**options)


@pytest.mark.parametrize("count", [0, 8])
def test_a_blend_is_of_two_to_eight_pictures(tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number}.png").write_bytes(png())
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(CalotypeError, match=f"1 to 7 pictures, not {count}"):
        blended_files(tmp_path)


def test_a_blend_is_not_made_again_from_its_file(tmp_path):
    record = Record("imagine", {"prompt": "fox", "init": "a.png", "blend": "blend"})
    with pytest.raises(CalotypeError, match="blend them again"):
        drawing_task(StoredRecord(record, tmp_path / "a.json"), None)
