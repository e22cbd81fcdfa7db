"""Commands and buttons are acknowledged before any work, and what they say shows and calls nothing else."""

import time

import discord
import pytest

from calotype.bot import client
from calotype.bot.message import job_facts
from calotype.bot.settings import BotSettings
from tests.api.conftest import png
from tests.bot.conftest import buttons, work


@pytest.fixture
def order(monkeypatch, studio):
    """What happens, in order: "acknowledged" and "store"."""
    found = []
    for name in ("defer", "send_message", "send_modal"):
        method = getattr(discord.InteractionResponse, name)

        async def acknowledged(self, *args, method=method, **more):
            found.append("acknowledged")
            return await method(self, *args, **more)

        monkeypatch.setattr(discord.InteractionResponse, name, acknowledged)
    member = studio.chat.member
    monkeypatch.setattr(studio.chat, "member", lambda *args: found.append("store") or member(*args))
    return found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("queue", {}), ("info", {}), ("settings", {}), ("cancel", {}), ("show", {"job": "x"})),
        *(("imagine", {"prompt": "fox"}), ("vary", {"job": "x"}), ("link", {"code": "x"})),
        *((name, {"picture": ("a.png", png())}) for name in ("restore", "upscale", "describe")),
        ("blend", {"picture1": ("a.png", png()), "picture2": ("b.png", png())}),
        ("train", {"name": "fox", "photo1": ("a.png", png())}),
    ],
)
def test_a_command_is_acknowledged_first(play, order, name, options):
    async def scene(evening):
        ann = evening.person("ann")
        result = await ann.slash(evening.channel, name, **options)
        assert result.ephemeral and order[0] == "acknowledged" and order.count("acknowledged") == 1

    play(scene)


@pytest.mark.parametrize("name", ["Info", "Restore faces", "Upscale 2x"])
def test_a_menu_of_a_message_is_acknowledged_first(play, order, name):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        order.clear()
        await ann.context_menu(evening.channel, name, evening.messages[0])
        assert order[0] == "acknowledged" and order.count("acknowledged") == 1

    play(scene)


@pytest.mark.parametrize("label", ["U1", "V1", "🔄", "ℹ️", "Upscale 2x", "Vary (region)", "❤️"])
def test_a_button_is_acknowledged_first(play, order, label):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        await ann.click(evening.messages[0], label="U1")
        message = next(message for message in evening.messages if label in buttons(message))
        order.clear()
        await ann.click(message, custom_id=buttons(message)[label])
        assert order[0] == "acknowledged" and "store" in order

    play(scene)


def test_a_slow_store_opens_no_window_but_says_so(play, studio, monkeypatch):
    monkeypatch.setattr(client, "WINDOW_SECONDS", 0)  # the time of this Discord stands still

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "settings", remix=True)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        monkeypatch.setattr(studio, "pressed", lambda *_: time.sleep(0.2))
        result = await ann.click(evening.messages[0], label="V1")
        assert result.response.content == "the queue is busy; press the button again" and result.ephemeral
        assert len(studio.service.store.find()) == 1

    play(scene)


def test_addresses_show_no_pages_and_mentions_call_nobody(play, studio):
    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")
        text = f"fox https://example.com/page.png @everyone {ben.mention}"
        await ann.slash(evening.channel, "imagine", prompt=text)
        await evening.work()
        await ann.click(evening.messages[0], label="U1")
        for message in evening.messages:
            assert message.flags.suppress_embeds and not message.embeds and ben.id not in message.raw_mentions
        shown = await ann.slash(evening.channel, "show", job=studio.service.store.find()[0].id)
        assert shown.response.message.flags.suppress_embeds
        sent = evening.env.backend.messages[evening.channel.id].values()
        policies = [(message.allowed_mentions.everyone, message.allowed_mentions.users) for message in sent]
        assert policies == [(False, frozenset())] * len(sent) and len(sent) > 2

    play(scene)


def test_links_lead_to_the_server_of_the_message(play, studio):
    async def scene(evening):
        user = evening.env.create_user("ann")
        ann = evening.guild.add_member(user)
        elsewhere = evening.env.create_guild()
        there = elsewhere.add_member(user)
        channel = elsewhere.create_text_channel("other")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await there.slash(channel, "settings", private=True)
        await there.slash(channel, "imagine", prompt="cat")
        listed = (await there.slash(channel, "queue")).response.content
        (message,) = evening.messages
        assert f"[fox](https://discord.com/channels/{evening.guild.id}/{evening.channel.id}/{message.id})" in listed
        direct = user.dm_channel
        assert f"[cat](https://discord.com/channels/@me/{direct.id}/{direct.last_message.id})" in listed

    play(scene)


def test_facts_of_a_picture_are_in_the_language_of_the_reader(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox --no cat --stylize 100")
        await evening.work()
        lines = job_facts(studio.service.store.find()[0], 1, "zh").splitlines()
        facts = ["宽：64", "高：48", "种子：7", "模型：emoji", "引导系数：7"]
        assert lines[2:] == ["不要：cat", *facts, "2.0 设备秒"]

    play(scene)


def test_cancel_ends_all_jobs_and_names_them(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        for number in range(3):
            studio.clock.now += 1
            await ann.slash(evening.channel, "imagine", prompt=f"fox {number} --repeat 20")
        assert studio.service.store.counts() == {"queued": 50}
        studio.clock.now += 1
        claimed = work(studio.service.store, preview=b"\xff\xd8\xff")
        text = (await ann.slash(evening.channel, "cancel")).response.content
        assert (
            text.startswith("50 jobs are cancelled\nfox 0\n")
            and text.splitlines()[-1] == f"and {50 - text.count('fox')} more"
        )
        counts = studio.service.store.counts()
        assert counts == {"cancelled": 49, "running": 1}
        assert studio.service.store.get(claimed.job.id).requested == "cancel"

    play(scene)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("imagine", {"prompt": "fox"}),
        ("restore", {"picture": ("a.png", png())}),
        ("blend", {"picture1": ("a.png", png()), "picture2": ("b.png", png()), "prompt": "fox"}),
        ("train", {"name": "fox", "photo1": ("a.png", png())}),
    ],
)
def test_who_gives_a_command_is_looked_up_once(play, studio, monkeypatch, name, options):
    studio.settings = BotSettings(account_days=0, member_days=0, training=True)
    looked_up, visit = [], studio.chat.visit
    monkeypatch.setattr(studio.chat, "visit", lambda *args, **more: looked_up.append(args[0]) or visit(*args, **more))

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, name, **options)
        assert looked_up == [str(ann.id)] and len(studio.service.store.find()) == 1

    play(scene)
