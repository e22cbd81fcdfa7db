"""What goes wrong on Discord's side: nothing is lost or doubled, and the person learns of it."""

import io

import aiohttp
import discord
import pytest
from PIL import Image

from calotype.bot import delivery
from calotype.bot.delivery import HEADROOM, Delivery
from calotype.errors import CalotypeError
from calotype.outputs.publish import fitting
from tests.api.conftest import png
from tests.bot.conftest import buttons, noise


@pytest.mark.parametrize("status", [500, 503, 429])
def test_an_edit_that_fails_for_the_moment_is_tried_again(play, status):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        evening.env.inject_error("PATCH", "/channels/*/messages/*", status=status)
        await evening.work()
        assert "Cancel" in buttons(evening.messages[0])
        await evening.look()
        assert len(evening.messages) == 1 and "U1" in buttons(evening.messages[0])

    play(scene)


def test_a_lost_connection_stops_neither_the_loop_nor_other_messages(play, monkeypatch):
    async def scene(evening):
        ann = evening.person("ann")
        for prompt in ("fox", "cat"):
            await ann.slash(evening.channel, "imagine", prompt=prompt)
        edit, failed = discord.PartialMessage.edit, []

        async def lost_once(self, **content):
            if not failed:
                failed.append(self.id)
                raise aiohttp.ServerDisconnectedError
            return await edit(self, **content)

        monkeypatch.setattr(discord.PartialMessage, "edit", lost_once)
        await evening.work()
        await evening.work()
        await evening.look()
        assert failed and all("U1" in buttons(message) for message in evening.messages)

    play(scene)


def test_an_error_of_the_bot_in_a_button_is_said(play, studio, monkeypatch):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        monkeypatch.setattr(studio, "press", lambda *_: 1 / 0)
        result = await ann.click(evening.messages[0], label="V1")
        assert "an error in Calotype itself" in result.followups[0].content

    play(scene)


@pytest.mark.parametrize("fault", [aiohttp.ServerDisconnectedError(), discord.RateLimited(60.0)])
def test_a_lost_connection_in_a_button_is_no_error_of_the_bot(play, studio, monkeypatch, fault):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        send = discord.PartialMessageable.send

        async def failing(*args, **more):
            raise fault

        monkeypatch.setattr(delivery, "PAUSES", (0.0,))  # simcord does not wait for longer ones
        monkeypatch.setattr(discord.PartialMessageable, "send", failing)
        result = await ann.click(evening.messages[0], label="U1")
        assert result.followups[0].content == "Discord does not answer at present; try again in a minute"
        monkeypatch.setattr(discord.PartialMessageable, "send", send)
        await ann.click(evening.messages[0], label="U1")
        assert len(evening.messages) == 2

    play(scene)


def test_a_reason_in_a_message_names_no_path_of_the_machine(play):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(fault=CalotypeError("can't read {path}", path="/home/maria/secret/fox.png"))
        assert "fox.png" in evening.messages[0].content and "/home/maria" not in evening.messages[0].content

    play(scene)


def test_a_message_that_was_deleted_is_sent_again_at_the_end(play):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.bot.get_channel(evening.channel.id).get_partial_message(evening.messages[0].id).delete()
        await evening.work(preview=b"\xff\xd8\xff")
        assert evening.messages == []
        store = evening.studio.service.store
        store.worker_ended("tester")
        await evening.work()
        (message,) = evening.messages
        assert "U1" in buttons(message)
        await evening.look()
        assert len(evening.messages) == 1

    play(scene)


@pytest.mark.parametrize(("status", "code"), [(404, 10003), (403, 50001), (403, 50013)])
def test_where_the_channel_is_gone_or_closed_the_person_gets_a_direct_message(play, status, code):
    async def scene(evening):
        user = evening.env.create_user("ann")
        ann = evening.guild.add_member(user)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        path = f"/channels/{evening.channel.id}/*"
        evening.env.inject_error("*", path, status=status, code=code, times=None)
        await evening.work()
        assert "U1" in buttons(user.dm_channel.last_message)
        assert evening.studio.chat.open_messages() == []

    play(scene)


def test_where_nobody_can_be_reached_the_bot_gives_up_and_the_pictures_stay(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        evening.env.inject_error("*", f"/channels/{evening.channel.id}/*", status=403, code=50001, times=None)
        evening.env.inject_error("POST", "/users/@me/channels", status=403, code=50007, times=None)
        await evening.work()
        assert studio.chat.open_messages() == [] and len(studio.service.store.find()[0].results) == 5

    play(scene)


def test_an_interaction_that_has_expired_loses_no_job(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        evening.env.inject_error("*", "/webhooks/*", status=401, code=50027, times=None)
        await ann.slash(evening.channel, "imagine", prompt="fox --s 250")
        await evening.work()
        assert "U1" in buttons(evening.messages[0]) and len(studio.service.store.find()) == 1

    play(scene)


def test_a_picture_over_the_limit_is_sent_smaller_and_that_is_said(play, monkeypatch):
    limit = 60_000
    monkeypatch.setattr(Delivery, "limit", lambda self, channel: limit + HEADROOM)

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(content=noise(300))
        (message,) = evening.messages
        (file,) = message.attachments
        content = await file.read()
        assert file.filename == "picture.jpg" and len(content) <= limit
        assert "too large for this server and was sent smaller" in message.content

    play(scene)


def test_a_copy_that_fits_is_as_large_as_it_can_be(tmp_path):
    path = tmp_path / "noise.png"
    path.write_bytes(noise(256))
    whole = fitting(path, 10**6, 10**6)
    small = fitting(path, 20_000, 10**6)
    assert Image.open(io.BytesIO(whole)).size == (256, 256) and len(small) <= 20_000


def test_an_attachment_that_is_gone_is_named(play, studio):
    async def scene(evening):
        import discord

        async def gone(self, **_):
            raise discord.NotFound(type("Response", (), {"status": 404, "reason": "Not Found"})(), "gone")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(discord.Attachment, "read", gone)
            ann = evening.person("ann")
            result = await ann.slash(evening.channel, "upscale", picture=("old.png", png()))
        assert result.response.content == "old.png is not there any more; attach it again"
        assert studio.service.store.find() == []

    play(scene)


def test_a_button_of_a_deleted_job_says_so(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        studio.service.store.delete(studio.service.store.find()[0].id)
        result = await ann.click(evening.messages[0], label="U1")
        (answer,) = result.followups
        assert "deleted to make room" in answer.content and answer.flags.ephemeral

    play(scene)


def test_an_error_of_the_bot_itself_is_said(play, studio, monkeypatch):
    async def scene(evening):
        ann = evening.person("ann")
        monkeypatch.setattr(type(studio), "imagine", lambda *args, **more: 1 / 0)
        result = await ann.slash(evening.channel, "imagine", prompt="fox")
        assert "an error in Calotype itself" in result.response.content

    play(scene, check_errors=False)


def test_what_fails_after_jobs_are_queued_asks_nobody_to_give_the_command_again(play, studio, monkeypatch):
    def busy(job):
        raise CalotypeError("the store is busy; try again")

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "settings", private=True)
        with monkeypatch.context() as patch:
            patch.setattr(studio.chat, "message", busy)
            answer = await ann.slash(evening.channel, "imagine", prompt="fox")
        assert len(studio.service.store.find()) == 1
        said = [answer.response.message, *answer.followups]
        assert not any("try again" in message.content for message in said if message)

    play(scene)


def test_a_lost_connection_while_a_sender_is_looked_up_is_no_error(play, monkeypatch):
    async def scene(evening):
        async def broken(guild, user_id):
            raise aiohttp.ClientConnectionError("reset")

        monkeypatch.setattr(discord.Guild, "fetch_member", broken)
        assert await evening.bot.guests.meet(123) is None
        answer = await evening.person("ann").user.slash("info")
        assert "of 600 device seconds used today" in answer.response.content

    play(scene)
