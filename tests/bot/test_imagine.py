"""/imagine from the command to the grid and its buttons, on a Discord of this process."""

import re

import pytest

from calotype.bot.buttons import job_view, picture_view
from calotype.errors import CalotypeError
from calotype.jobs.jobs import BUG
from tests.bot.conftest import buttons, work


def test_a_command_is_acknowledged_queued_and_becomes_a_grid(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        result = await ann.slash(evening.channel, "imagine", prompt="red fox --seed 7 --ar 3:2")
        assert result.acknowledged and result.ephemeral
        (message,) = evening.messages
        assert message.content == f"**red fox \\-\\-seed 7 \\-\\-ar 3:2** – {ann.mention}\nnext in the queue"
        assert list(buttons(message)) == ["Cancel"]
        (job,) = studio.service.store.find()
        assert job.task == {
            "prompt": "red fox",
            "seed": 7,
            "size": "320x224",
            "model": "emoji",
            "count": 4,
            "grid": True,
        }
        await evening.work(preview=b"\xff\xd8\xff")
        (message,) = evening.messages
        assert message.content.endswith("25 %, about 6 seconds left")
        assert [file.filename for file in message.attachments] == ["preview.jpg"]

    play(scene)


def test_a_finished_job_is_a_grid_with_buttons_and_u_shows_one_picture_once(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="red fox")
        await evening.work()
        (message,) = evening.messages
        assert message.content.endswith("seed 7, done in 2 seconds")
        assert list(buttons(message)) == ["U1", "U2", "U3", "U4", "🔄", "V1", "V2", "V3", "V4", "ℹ️"]
        assert all(len(custom_id) <= 100 for custom_id in buttons(message).values())
        await ann.click(message, label="U2")
        _, picture = evening.messages
        assert picture.content.startswith("picture 2 of [this grid](https://discord.com/channels/")
        assert ann.mention in picture.content
        assert "Vary (subtle)" in buttons(picture) and len(picture.attachments) == 1
        again = await ann.click(message, label="U2")
        assert len(evening.messages) == 2 and str(picture.id) in again.followups[0].content
        assert len(studio.service.store.find()) == 1

    play(scene)


def test_buttons_work_after_a_restart_and_a_second_press_charges_once(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="red fox")
        await evening.work()
        await evening.restart()
        (grid,) = evening.messages
        await ann.click(grid, label="V3")
        await ann.click(grid, label="V3")
        await evening.work()
        await ann.click(grid, custom_id=buttons(grid)["🔄"])
        await evening.work()
        jobs = studio.service.store.find()
        assert [job.kind for job in jobs] == ["imagine"] * 3
        reroll, variation, first = jobs
        assert (variation.parent, variation.task["strength"], list(variation.files)) == (first.id, 0.65, ["init"])
        assert reroll.task == {**first.task, "seed": -1}
        assert studio.service.store.spent(first.account) == 6
        assert len(evening.messages) == 3 and f"/{grid.id})" in evening.messages[1].content

    play(scene)


def test_messages_missed_while_the_bot_was_away_are_mended(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="red fox")
        await ann.slash(evening.channel, "imagine", prompt="blue fox")
        work(studio.service.store)
        await evening.restart()
        await evening.look()
        first, second = evening.messages
        assert "U1" in buttons(first) and "Cancel" in buttons(second)
        assert not await evening.look()

    play(scene)


@pytest.mark.parametrize(
    ("action", "kind", "task"),
    [
        ("Upscale 4x", "upscale", {"scale": 4.0}),
        ("Restore faces", "restore", {}),
        ("Vary (strong)", "imagine", {"strength": 0.85, "size": "128x64"}),
        ("Zoom out 2x", "imagine", {"outpaint": "64,32,64,32", "count": 1}),
        ("⬅️", "imagine", {"outpaint": "64,0,0,0"}),
    ],
)
def test_one_picture_can_be_worked_on(play, studio, action, kind, task):

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="red fox")
        await evening.work(size=(128, 64))
        await ann.click(evening.messages[0], label="U1")
        await ann.click(evening.messages[1], custom_id=buttons(evening.messages[1])[action])
        job = studio.service.store.find()[0]
        assert job.kind == kind and task.items() <= job.task.items() and len(job.files) == 1
        await evening.work()
        assert "From [this message]" in evening.messages[2].content and evening.messages[2].attachments

    play(scene)


def test_somebody_else_who_presses_pays_and_is_named(play, studio):
    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")
        await ann.slash(evening.channel, "imagine", prompt="red fox")
        await evening.work()
        await ben.click(evening.messages[0], label="V1")
        await evening.work(seconds=5)
        second, first = studio.service.store.find()
        assert second.owner != first.owner and studio.service.store.spent(second.account) == 5
        assert ben.mention in evening.messages[1].content
        await ann.slash(evening.channel, "settings", presses="mine")
        refused = await ben.click(evening.messages[0], label="V2")
        assert "only the person who gave this command" in refused.followups[0].content
        assert len(studio.service.store.find()) == 2

    play(scene)


def test_permutations_are_jobs_of_their_own(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        result = await ann.slash(evening.channel, "imagine", prompt="{red, blue} fox --s 250")
        assert len(evening.messages) == 2
        assert result.response.content == "--stylize 250 is a guidance scale of 6.3"
        assert sorted(job.task["prompt"] for job in studio.service.store.find()) == ["blue fox", "red fox"]

    play(scene)


def test_a_mistake_is_named_to_the_person_alone(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        result = await ann.slash(evening.channel, "imagine", prompt="fox --sead 7")
        assert result.response.ephemeral
        assert result.response.content == "there is no parameter --sead, did you mean seed?"
        assert [message for message in evening.messages if not message.flags.ephemeral] == []
        assert studio.service.store.find() == []

    play(scene)


def test_a_failed_job_says_why_and_can_be_tried_again(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(fault=CalotypeError(BUG, kind="KeyError", bug="x"))
        (message,) = evening.messages
        assert "failed: an error in Calotype itself" in message.content and "not charged" in message.content
        (job,) = studio.service.store.find()
        assert studio.service.store.spent(job.account) == 0
        await ann.click(message, label="Try again")
        await evening.work()
        assert "U1" in buttons(evening.messages[0]) and len(studio.service.store.find()) == 1

    play(scene)


def test_remix_asks_for_the_prompt(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "settings", remix=True)
        await ann.slash(evening.channel, "imagine", prompt="red fox --seed 7")
        await evening.work()
        shown = await ann.click(evening.messages[0], label="V1")
        assert shown.modal["title"] == "Change the prompt" and "red fox --seed 7" in str(shown.modal)
        await ann.submit_modal(shown, {"prompt": "blue fox --seed 8"})
        variation = studio.service.store.find()[0]
        assert (variation.task["prompt"], variation.task["strength"]) == ("blue fox", 0.65)

    play(scene)


def test_a_job_can_be_cancelled_by_its_button(play, studio):
    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")
        await ann.slash(evening.channel, "imagine", prompt="red fox")
        refused = await ben.click(evening.messages[0], label="Cancel")
        assert "somebody else" in refused.followups[0].content
        await ann.click(evening.messages[0], label="Cancel")
        assert evening.messages[0].content.endswith("cancelled")
        assert studio.service.store.counts() == {"cancelled": 1}

    play(scene)


def test_buttons_are_in_the_language_of_the_command(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        view = job_view(studio.service.store.find()[0], "zh")
        await ann.click(evening.messages[0], label="U1")
        single = picture_view(studio.service.store.find()[0], 1, "zh")
        labels = [item.item.label for item in (*view.children, *single.children) if item.item.label]
        words = [label for label in labels if re.search("[a-z]{3}", label)]
        assert len(labels) > 12 and words == []

    play(scene)
