"""Buttons: who may press them, what a second press brings, and those of /show."""

import pytest

from calotype.bot.delivery import MAX_NONCE
from calotype.bot.studio import Person
from calotype.jobs.account import Allowance
from calotype.jobs.jobs import NotFound
from calotype.jobs.users import Accounts
from tests.api.conftest import png
from tests.bot.conftest import buttons, noise


async def grid(evening, person):
    await person.slash(evening.channel, "imagine", prompt="fox")
    await evening.work()
    return evening.messages[-1]


def nonces(evening):
    sent = [entry for entry in evening.env.http_requests if entry.method == "POST" and entry.path.endswith("/messages")]
    return [entry.json["nonce"] for entry in sent if entry.json.get("enforce_nonce")]


@pytest.mark.parametrize("reason", ["banned", "too fast", "channel"])
def test_u_is_for_those_whom_the_bot_admits(play, studio, reason):
    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")
        message = await grid(evening, ann)
        if reason == "banned":
            studio.chat.visit(str(ben.id), studio.terms())
            studio.chat.change_member(str(ben.id), is_banned=True)
        elif reason == "channel":
            studio.chat.set_options(f"channel-{evening.channel.id}", {"commands": ["upscale"]})
        else:
            for _ in range(10):
                studio.flood.take(str(ben.id))
        said = (await ben.click(message, label="U1")).followups[0].content
        words = {"banned": "has closed it", "too fast": "that is too fast", "channel": "takes /upscale only"}
        assert words[reason] in said and len(evening.messages) == 1

    play(scene)


def test_u_sends_a_picture_again_whose_message_was_deleted(play):
    async def scene(evening):
        ann = evening.person("ann")
        message = await grid(evening, ann)
        await ann.click(message, label="U2")
        first = evening.messages[1]
        await evening.bot.get_channel(evening.channel.id).get_partial_message(first.id).delete()
        await ann.click(message, label="U2")
        again = evening.messages[1]
        assert again.id != first.id and again.content.startswith("picture 2 of [this grid]")
        known = await ann.click(message, label="U2")
        assert str(again.id) in known.followups[0].content and len(evening.messages) == 2
        used = nonces(evening)
        assert len(used) == len(set(used)) == 3 and all(len(nonce) <= MAX_NONCE for nonce in used)

    play(scene)


def test_u_whose_answer_was_lost_is_sent_with_the_same_nonce_again(play, studio, monkeypatch):
    async def scene(evening):
        ann = evening.person("ann")
        message = await grid(evening, ann)
        press = studio.chat.press
        monkeypatch.setattr(studio.chat, "press", lambda *_: 1 / 0)  # the process ends after it was sent
        await ann.click(message, label="U2")
        monkeypatch.setattr(studio.chat, "press", press)
        await evening.restart()
        await ann.click(message, label="U2")
        *_, before, after = nonces(evening)
        assert before == after

    play(scene, check_errors=False)


def test_u_comes_as_a_direct_message_where_the_channel_takes_none(play):
    async def scene(evening):
        user = evening.env.create_user("ann")
        ann = evening.guild.add_member(user)
        message = await grid(evening, ann)
        evening.env.inject_error("POST", "/channels/*/messages", status=403, code=50013)
        await ann.click(message, label="U1")
        assert "Vary (subtle)" in buttons(user.dm_channel.last_message)

    play(scene)


def test_a_job_of_a_button_whose_message_was_deleted_is_shown_again(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        message = await grid(evening, ann)
        await ann.click(message, label="V1")
        await evening.work()
        await evening.bot.get_channel(evening.channel.id).get_partial_message(evening.messages[1].id).delete()
        again = await ann.click(message, label="V1")
        assert "on the way" in again.followups[0].content
        assert "U1" in buttons(evening.messages[1]) and len(studio.service.store.find()) == 2

    play(scene)


def test_a_second_press_before_the_message_is_sent_says_so(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        message = await grid(evening, ann)
        evening.env.inject_error("POST", "/channels/*/messages", status=503, times=None)
        await ann.click(message, label="V1")
        again = await ann.click(message, label="V1")
        assert again.followups[0].content == "this was pressed before: its message is on the way"
        evening.env.backend.faults.clear()
        await evening.look()
        assert len(evening.messages) == 2 and len(studio.service.store.find()) == 2

    play(scene)


def test_buttons_of_show_are_those_of_the_job(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        message = await grid(evening, ann)
        job = studio.service.store.find()[0]
        other = evening.guild.create_text_channel("other")
        shown = (await ann.slash(other, "show", job=job.id)).response.message
        await ann.click(shown, label="V1")
        await ann.click(message, label="V1")
        await ann.click(shown, label="V1")
        variation, _ = studio.service.store.find()
        await evening.work()
        (posted,) = (found for found in other.history() if not found.flags.ephemeral)
        assert f"/{evening.channel.id}/{message.id})" in posted.content, "its parent is the grid"
        one = (await ann.click(shown, label="U1")).followups[0]
        assert one.flags.ephemeral and one.attachments and "Vary (subtle)" in buttons(one)
        assert len([found for found in other.history() if not found.flags.ephemeral]) == 1
        assert f"/{message.id})" in one.content and not studio.chat.pictures(job.id)
        assert studio.chat.message(job.id).message == str(message.id)
        assert variation.parent == job.id and len(studio.service.store.find()) == 2

    play(scene)


def test_a_job_that_is_cancelled_in_show_says_so_there(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        job = studio.service.store.find()[0]
        shown = (await ann.slash(evening.channel, "show", job=job.id)).response.message
        pressed = await ann.click(shown, label="Cancel")
        assert pressed.followups[0].content == "cancelled"
        assert evening.messages[0].content.endswith("cancelled")

    play(scene)


def test_show_has_the_buttons_of_a_job_of_the_page_for_its_owner(play, studio, clock):
    accounts = Accounts(studio.service.store.database, clock)
    page = accounts.add("ann", Allowance())

    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")
        await ann.slash(evening.channel, "link", code=accounts.add_code(page))
        task = {"prompt": "fox", "count": 4, "grid": True}
        job = studio.service.store.submit(page.id, "imagine", task, budget=page.budget)
        await evening.work()
        shown = (await ann.slash(evening.channel, "show", job=job.id)).response.message
        one = (await ann.click(shown, label="U3")).followups[0]
        assert f"picture 3 of job `{job.id}`" in one.content and one.flags.ephemeral and evening.messages == []
        await ann.click(shown, label="V2")
        variation = studio.service.store.find()[0]
        assert variation.parent == job.id and "From" not in evening.messages[0].content
        with pytest.raises(NotFound, match="not there any more"):
            studio.pressed(Person(str(ben.id), 0.0), job.id)

    play(scene)


def direct_messages(user):
    return sorted(user.dm_channel.history(), key=lambda message: message.id)


async def private_grid(evening, user, **options):
    """A person who wants private results, and a grid of theirs in the channel from before."""
    ann = evening.guild.add_member(user)
    message = await grid(evening, ann)
    await ann.slash(evening.channel, "settings", private=True, **options)
    return ann, message


@pytest.mark.parametrize("label", ["V1", "🔄", "Upscale 2x", "Zoom out 2x", "⬅️", "Restore faces"])
def test_what_a_button_makes_for_who_wants_it_private_comes_directly(play, studio, label):
    async def scene(evening):
        user = evening.env.create_user("ann")
        ann, message = await private_grid(evening, user)
        shown = (await ann.slash(evening.channel, "show", job=studio.service.store.find()[0].id)).response.message
        if label not in buttons(shown):
            shown = (await ann.click(shown, label="U2")).followups[0]
        said = await ann.click(shown, custom_id=buttons(shown)[label])
        assert said.followups[0].content == "The pictures come as direct messages."
        await evening.work()
        (result,) = direct_messages(user)
        assert "done in" in result.content and f"/{message.id})" in result.content
        further = await user.click(
            result, custom_id=buttons(result)["Upscale 2x" if "U1" not in buttons(result) else "V1"]
        )
        assert not further.followups, "it is plain where that goes"
        await evening.work()
        assert len(direct_messages(user)) == 2 and evening.messages == [message]

    play(scene)


def test_u_of_who_wants_it_private_comes_directly_and_hides_it_from_nobody_else(play):
    async def scene(evening):
        user, ben = evening.env.create_user("ann"), evening.person("ben")
        ann, message = await private_grid(evening, user)
        said = await ann.click(message, label="U1")
        assert said.followups[0].content == "The pictures come as direct messages." and evening.messages == [message]
        (one,) = direct_messages(user)
        assert "picture 1 of [this grid]" in one.content
        again = await ann.click(message, label="U1")
        assert str(one.id) in again.followups[0].content
        await ben.click(message, label="U1")
        assert len(evening.messages) == 2 and len(direct_messages(user)) == 1
        evening.env.inject_error("POST", f"/channels/{user.dm_channel.id}/messages", status=403, code=50007, times=None)
        said = await ann.click(message, label="U2")
        assert said.followups[0].content.startswith("Discord does not let the bot send you direct messages.")
        assert len(evening.messages) == 2

    play(scene)


def test_a_changed_prompt_of_who_wants_it_private_is_drawn_directly(play):
    async def scene(evening):
        user = evening.env.create_user("ann")
        ann, message = await private_grid(evening, user, remix=True)
        shown = await ann.click(message, label="V1")
        said = await ann.submit_modal(shown, {"prompt": "blue fox --s 250"})
        assert said.followups[0].content.splitlines() == [
            "The pictures come as direct messages.",
            "--stylize 250 is a guidance scale of 6.3",
        ]
        assert "**blue fox" in direct_messages(user)[0].content and evening.messages == [message]

    play(scene)


def test_tags_of_who_wants_it_private_come_directly(play, studio):
    studio.service.has_tagger = True

    async def scene(evening):
        user = evening.env.create_user("ann")
        ann, message = await private_grid(evening, user)
        said = await ann.slash(evening.channel, "describe", picture=("a.png", png()))
        assert said.response.content.splitlines()[1:] == ["It says nothing of a prompt; its tags follow."]
        assert "Tags of a picture" in direct_messages(user)[0].content and evening.messages == [message]

    play(scene)


def test_the_turns_of_buttons_are_forgotten(play):
    async def scene(evening):
        ann = evening.person("ann")
        message = await grid(evening, ann)
        for label in ("U1", "U2", "V1"):
            await ann.click(message, label=label)
        assert len(evening.bot._turns) == 0

    play(scene)


def test_an_interaction_that_can_no_longer_be_acknowledged_loses_no_job_and_its_notes_come_directly(play, studio):
    async def scene(evening):
        user = evening.env.create_user("ann")
        ann = evening.guild.add_member(user)
        message = await grid(evening, ann)
        evening.env.inject_error("POST", "/interactions/*", status=404, code=10062, times=None)
        await ann.slash(evening.channel, "imagine", prompt="fox --s 250")
        assert user.dm_channel.last_message.content == "--stylize 250 is a guidance scale of 6.3"
        await ann.click(message, label="V1")
        await ann.click(message, label="V1")
        assert "this was pressed before" in user.dm_channel.last_message.content
        assert len(studio.service.store.find()) == 3 == len(evening.messages)
        job = studio.service.store.find(states=("done",))[0]
        await ann.slash(evening.channel, "show", job=job.id)
        assert "U1" in buttons(user.dm_channel.last_message) and user.dm_channel.last_message.attachments

    play(scene)


def test_a_picture_of_show_that_is_too_large_is_shown_smaller(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(content=noise(900))
        evening.env.inject_error("PATCH", "/webhooks/*", status=413, code=40005)
        evening.env.inject_error("POST", "/webhooks/*", status=413, code=40005)
        shown = await ann.slash(evening.channel, "show", job=studio.service.store.find()[0].id)
        assert "sent smaller" in shown.response.content and shown.response.attachments[0].filename == "picture.jpg"

    play(scene)
