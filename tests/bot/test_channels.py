"""Rules of channels: they hold in threads, for buttons, and where results come as direct messages."""

from dataclasses import replace

import discord
import pytest

from calotype.bot.prompt import ModelRow
from calotype.bot.studio import Studio, command_of
from tests.bot.conftest import buttons


def rule(studio, evening, **options):
    studio.chat.set_options(f"channel-{evening.channel.id}", options)


def test_a_thread_has_the_rules_of_its_channel(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        channel = evening.bot.get_channel(evening.channel.id)
        await channel.create_thread(name="inside", type=discord.ChannelType.public_thread)
        (thread,) = evening.channel.threads
        rule(studio, evening, commands=["upscale"], spoiler=True)
        refused = await ann.slash(thread, "imagine", prompt="fox")
        assert refused.response.content == "this channel takes /upscale only; go to another one"
        rule(studio, evening, spoiler=True)
        await ann.slash(thread, "imagine", prompt="fox")
        await evening.work(preview=b"\xff\xd8\xff")
        (message,) = [message for message in thread.history() if not message.flags.ephemeral]
        assert [file.filename for file in message.attachments] == ["SPOILER_preview.jpg"]
        studio.service.store.worker_ended("tester")
        await evening.restart()  # a bot that has not seen the thread yet
        await evening.work()
        (message,) = [message for message in thread.history() if not message.flags.ephemeral]
        assert message.attachments[0].is_spoiler() and "U1" in buttons(message)

    play(scene)


def test_a_picture_waits_until_discord_says_whose_thread_it_is_in(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        channel = evening.bot.get_channel(evening.channel.id)
        await channel.create_thread(name="inside", type=discord.ChannelType.public_thread)
        (thread,) = evening.channel.threads
        rule(studio, evening, spoiler=True)
        await ann.slash(thread, "imagine", prompt="fox")
        await evening.restart()  # a bot that has not seen the thread yet
        evening.bot.get_channel = lambda _: None
        evening.env.inject_error("GET", f"/channels/{thread.id}", status=503, times=1)
        await evening.work()
        assert not [message for message in thread.history() if message.attachments]
        await evening.look()
        (message,) = [message for message in thread.history() if message.attachments]
        assert message.attachments[0].is_spoiler()

    play(scene)


def test_rules_that_are_given_in_a_thread_are_those_of_its_channel(play, studio):
    async def scene(evening):
        admin = evening.guild.create_role("admin", permissions=discord.Permissions(administrator=True))
        owner = evening.person("owner", roles=[admin])
        studio.settings = replace(studio.settings, owner=(str(owner.id),))
        channel = evening.bot.get_channel(evening.channel.id)
        await channel.create_thread(name="inside", type=discord.ChannelType.public_thread)
        (thread,) = evening.channel.threads
        await owner.slash(thread, "channel", commands="upscale")
        for place in (thread, evening.channel):
            refused = await owner.slash(place, "imagine", prompt="fox")
            assert "takes /upscale only" in refused.response.content

    play(scene)


def test_direct_messages_are_no_way_around_the_rules(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "settings", private=True)
        rule(studio, evening, commands=["upscale"])
        refused = await ann.slash(evening.channel, "imagine", prompt="fox")
        assert "takes /upscale only" in refused.response.content
        rule(studio, evening, models=["photoreal"])
        refused = await ann.slash(evening.channel, "imagine", prompt="fox")
        assert refused.response.content == "this channel takes the models photoreal only"

    play(scene)


@pytest.mark.parametrize(
    ("label", "command"),
    [("V1", "imagine"), ("🔄", "imagine"), ("Upscale 2x", "upscale"), ("Restore faces", "restore"), ("➡️", "imagine")],
)
def test_a_button_is_the_command_that_it_stands_for(play, studio, label, command):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        await ann.click(evening.messages[0], label="U1")
        message = next(message for message in evening.messages if label in buttons(message))
        others = [name for name in ("imagine", "upscale", "restore") if name != command]
        rule(studio, evening, commands=others)
        refused = await ann.click(message, custom_id=buttons(message)[label])
        assert refused.followups[0].content.startswith(f"this channel takes /{others[0]}, /{others[1]} only")
        rule(studio, evening, commands=[command])
        await ann.click(message, custom_id=buttons(message)[label])
        assert len(studio.service.store.find()) == 2

    play(scene)


def test_enlarging_needs_no_model_that_draws(play, studio, monkeypatch):
    monkeypatch.setattr(Studio, "rows", {"default": ModelRow("emoji", 64)})

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        await ann.click(evening.messages[0], label="U1")
        rule(studio, evening, models=["photoreal"])
        await ann.click(evening.messages[1], label="Upscale 2x")
        refused = await ann.click(evening.messages[0], label="V1")
        assert refused.followups[0].content == "this channel takes the models photoreal only"
        assert [job.kind for job in studio.service.store.find()] == ["upscale", "imagine"]

    play(scene)


def test_trying_again_is_the_command_again(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await ann.click(evening.messages[0], label="Cancel")
        rule(studio, evening, commands=["upscale"])
        refused = await ann.click(evening.messages[0], label="Try again")
        assert "takes /upscale only" in refused.followups[0].content
        (job,) = studio.service.store.find()
        assert job.state == "cancelled" and command_of("r", job) == "imagine"

    play(scene)
