"""What Discord refuses or answers late: rates, tokens that have ended, closed places, sizes."""

import asyncio
import contextlib
import sqlite3

import discord
import pytest

from calotype.bot.buttons import JobButton
from tests.bot.conftest import noise
from tests.bot.double.conftest import eventually, seen
from tests.bot.double.rules import MAX_CONTENT, Refused, check_commands, check_components, check_message
from tests.bot.double.world import USUAL

MESSAGE = r"^/channels/\d+/messages/\d+$"
QUARTER, HOUR = 15 * 60.0, 3600.0


# Rates


def test_many_jobs_of_one_channel_stay_within_its_rate(perform):
    async def scene(stage):
        ann, ben = stage.person("ann"), stage.person("ben")
        given = [who.give(stage.channel, "imagine", prompt=f"{n} cats") for who in (ann, ben) for n in range(6)]
        for one in given:
            await one.wait()
        assert [one.texts for one in given] == [[]] * 12
        for _ in range(12):
            await stage.work()
        await stage.settled()
        assert len(stage.messages) == 12 and all("U1" in message.buttons for message in stage.messages)
        statuses = [status for *_, status in stage.discord.requests]
        assert statuses.count(429) <= 2, "the client waits before Discord has to refuse"

    perform(scene, rate=(5, 0.5))


@pytest.mark.parametrize("is_global", [False, True])
def test_a_429_of_discord_is_waited_for(perform, is_global):
    async def scene(stage):
        ann = stage.person("ann")
        await stage.imagine(ann, "fox")
        stage.discord.limit("PATCH", MESSAGE, 0.3, times=2, is_global=is_global)
        await stage.work()
        await stage.settled()
        (message,) = stage.messages
        assert "U1" in message.buttons and len(message.attachments) == 1 and stage.discord.invalid == 2

    perform(scene)


def test_a_429_of_the_network_before_discord_is_not_answered_by_a_storm(perform):
    async def scene(stage):
        ann = stage.person("ann")
        await stage.imagine(ann, "fox")
        await stage.imagine(ann, "cat")
        fault = stage.discord.block("PATCH", MESSAGE, times=float("inf"))
        await stage.work()
        await stage.work()
        await asyncio.sleep(2.5)
        assert stage.discord.invalid <= 8, "Discord closes to whoever goes on asking"
        fault.times = 0
        await stage.settled()
        assert len(stage.messages) == 2 and all("U1" in message.buttons for message in stage.messages)

    perform(scene)


def test_edits_of_messages_older_than_an_hour_have_a_rate_of_their_own(perform):
    async def scene(stage):
        ann = stage.person("ann")
        for n in range(5):
            await stage.imagine(ann, f"{n} cats")
        stage.discord.clock.move(2 * HOUR)
        for _ in range(5):
            await stage.work()
        await stage.settled()
        assert stage.discord.invalid and sum("U1" in message.buttons for message in stage.messages) == 5

    perform(scene)


@pytest.mark.slow
def test_errors_of_the_server_in_the_middle_of_a_command_neither_lose_nor_double_it(perform):
    async def scene(stage):
        ann = stage.person("ann")
        stage.discord.fail("POST", r"^/channels/\d+/messages$", 503)
        stage.discord.fail("POST", r"^/channels/\d+/messages$", is_lost=True)
        await stage.imagine(ann, "fox")
        stage.discord.fail("PATCH", MESSAGE, 502)
        stage.discord.fail("PATCH", MESSAGE, is_lost=True)
        await stage.work()
        await stage.settled()
        (message,) = stage.messages
        assert "U1" in message.buttons and len(message.attachments) == 1

    perform(scene)


@pytest.mark.slow
def test_a_picture_whose_answer_was_lost_and_then_refused_is_one_and_remembered(perform):
    async def scene(stage):
        ann = stage.person("ann")
        await stage.imagine(ann, "fox")
        await stage.work()
        await stage.settled()
        stage.discord.fail("POST", r"^/channels/\d+/messages$", is_lost=True)
        stage.discord.block("POST", r"^/channels/\d+/messages$", times=2)
        presses = [ann.press(stage.messages[0], "U1") for _ in range(2)]
        for press in presses:
            await press.wait_for_answer()
        (job,) = stage.store.find()
        await eventually(lambda: stage.chat.pressed(f"u.{job.id}.1"))
        await eventually(lambda: presses[1].text)
        assert sum(message.content.startswith("picture ") for message in stage.messages) == 1
        assert not presses[0].text and "pressed before" in presses[1].text

    perform(scene)


# Interactions


@contextlib.contextmanager
def busy(store, seconds):
    """Another process writes into the job store for so long."""
    path = store.database._engine.url.database
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    asyncio.get_running_loop().call_later(seconds, other.execute, "ROLLBACK")
    yield
    other.close()


def test_commands_are_answered_in_time_while_the_store_is_busy(perform):
    commands = {
        "imagine": {"prompt": "fox"},
        "info": {},
        "settings": {"remix": True},
        "link": {"code": "no code"},
        "queue": {},
        "cancel": {},
    }

    async def scene(stage):
        with busy(stage.store, 3.6):
            given = {
                name: stage.person(name).give(stage.channel, name, **options) for name, options in commands.items()
            }
            for interaction in given.values():
                await interaction.wait_for_answer()
            assert [name for name, interaction in given.items() if interaction.has_failed] == []
            for interaction in given.values():
                await interaction.wait()
        await eventually(lambda: stage.messages)
        assert all(interaction.text for name, interaction in given.items() if name != "imagine")

    perform(scene)


@pytest.mark.slow
def test_a_press_is_answered_in_time_while_the_store_is_busy(perform):
    async def scene(stage):
        ann = stage.person("ann")
        await stage.imagine(ann, "fox")
        await stage.work()
        await stage.settled()
        with busy(stage.store, 3.6):
            press = await ann.click(stage.messages[0], "V1")
            assert not press.has_failed
            await eventually(lambda: len(stage.messages) == 2)
        assert len(stage.store.find()) == 2

    perform(scene)


def test_an_interaction_older_than_a_quarter_of_an_hour_is_answered_directly(perform, studio, monkeypatch):
    imagine = studio.imagine

    def late(*args, **more):
        stage_of_test.discord.clock.move(QUARTER + 60)
        return imagine(*args, **more)

    async def scene(stage):
        nonlocal stage_of_test
        stage_of_test = stage
        ann = stage.person("ann")
        monkeypatch.setattr(studio, "imagine", late)
        given = ann.give(stage.channel, "imagine", prompt="fox --sead 7")
        direct = await eventually(lambda: seen(stage.world.direct(ann.id)))
        assert "--sead" in direct[0].content and given.texts == [] and stage.store.find() == []
        ann.give(stage.channel, "imagine", prompt="fox --s 250")
        await eventually(lambda: stage.messages)
        await stage.work()
        await stage.settled()
        assert "U1" in stage.messages[0].buttons and len(stage.messages) == 1

    stage_of_test = None
    perform(scene)


# Places


def test_a_message_that_was_deleted_comes_again_at_the_end(perform):
    async def scene(stage):
        ann = stage.person("ann")
        await stage.imagine(ann, "fox")
        stage.world.delete(stage.messages[0])
        await stage.work()
        await stage.settled()
        (message,) = stage.messages
        assert "U1" in message.buttons and message.attachments

    perform(scene)


def deny(stage, **names):
    stage.channel.overwrites[stage.guild.id] = (0, discord.Permissions(**names).value)


@pytest.mark.parametrize(
    "close",
    [
        lambda stage: stage.world.delete_channel(stage.channel),
        lambda stage: deny(stage, view_channel=True),
        lambda stage: (stage.world.delete(stage.messages[0]), deny(stage, send_messages=True)),
        lambda stage: (stage.world.delete(stage.messages[0]), deny(stage, attach_files=True)),
    ],
    ids=["deleted", "hidden", "no messages", "no files"],
)
def test_where_the_channel_is_closed_the_result_comes_directly(perform, close):
    async def scene(stage):
        ann = stage.person("ann")
        await stage.imagine(ann, "fox")
        close(stage)
        await stage.work()
        await stage.settled()
        (direct,) = seen(stage.world.direct(ann.id))
        assert "U1" in direct.buttons and direct.attachments
        await ann.click(direct, "U1")
        await eventually(lambda: len(seen(direct.channel)) == 2)

    perform(scene)


def test_each_gets_a_picture_directly_where_the_channel_takes_none(perform):
    async def scene(stage):
        people = [stage.person("ann"), stage.person("ben")]
        await stage.imagine(people[0], "fox")
        await stage.work()
        await stage.settled()
        deny(stage, send_messages=True)
        for person in people:
            await person.click(stage.messages[0], "U1")
            direct = stage.world.direct(person.id)
            (message,) = await eventually(lambda there=direct: seen(there))
            assert message.attachments and message.content.startswith("picture 1 of ")

    perform(scene)


def test_who_takes_no_direct_messages_keeps_the_pictures(perform):
    async def scene(stage):
        ann = stage.person("ann")
        await stage.imagine(ann, "fox")
        stage.world.closed_to.add(ann.id)
        stage.world.delete_channel(stage.channel)
        await stage.work()
        await stage.settled()
        assert len(stage.store.find()[0].results) == 5
        await asyncio.sleep(0.3)
        assert stage.discord.invalid <= 4

    perform(scene)


def test_the_result_reaches_a_thread_that_was_archived_meanwhile(perform):
    async def scene(stage):
        ann, thread = stage.person("ann"), stage.world.add_thread(stage.channel)
        await stage.imagine(ann, "fox", thread)
        thread.is_archived = True
        await stage.work()
        await stage.settled()
        messages = seen(thread)
        assert "U1" in messages[-1].buttons and sum("U1" in message.buttons for message in messages) == 1

    perform(scene)


def test_the_result_of_a_locked_thread_comes_directly(perform):
    async def scene(stage):
        ann, thread = stage.person("ann"), stage.world.add_thread(stage.channel)
        await stage.imagine(ann, "fox", thread)
        thread.is_archived = thread.is_locked = True
        await stage.work()
        await stage.settled()
        (direct,) = seen(stage.world.direct(ann.id))
        assert "U1" in direct.buttons

    perform(scene)


# Sizes


def test_a_picture_over_ten_mebibytes_is_sent_smaller(perform):
    async def scene(stage):
        ann = stage.person("ann")
        await ann.slash(stage.channel, "upscale", picture=("small.png", noise(8, 8)))
        await stage.work(content=noise(1800, 2000))
        await stage.settled()
        (message,) = stage.messages
        (file,) = message.attachments
        assert file["size"] <= 10 * 2**20 and "sent smaller" in message.content

    perform(scene)


def test_a_long_prompt_and_a_long_answer_fit_into_a_message(perform):
    async def scene(stage):
        ann = stage.person("ann")
        for text in ("😀*_`" * 1200, "长" * 5900):
            await stage.imagine(ann, text)
        for _ in range(3):
            await stage.imagine(ann, "{a,b} " + "_*" * 500)
        queue = await ann.slash(stage.channel, "queue")
        assert stage.messages and 0 < len(queue.text) <= MAX_CONTENT
        assert all(message.content.count("\n") >= 1 for message in stage.messages)

    perform(scene)


# The double itself


@pytest.mark.parametrize(
    "body",
    [
        {"content": "x" * 2001},
        {"content": "x", "nonce": "1" * 26},
        {"content": "x", "embeds": [{"description": "x" * 6001}]},
        {"content": "x", "attachments": [{"id": 0}]},
        {"content": ""},
        {"content": "x", "components": [{"type": 1, "components": []}] * 6},
    ],
)
def test_the_double_refuses_what_discord_refuses(body):
    with pytest.raises(Refused):
        check_message(body, 0)
    check_message({"content": "x" * 2000, "nonce": "1" * 25}, 0)


def test_the_double_refuses_buttons_that_discord_refuses():
    button = {"type": 2, "label": "x", "custom_id": "x" * 100}
    for row in (
        [button] * 2,
        [{**button, "custom_id": str(n)} for n in range(6)],
        [{**button, "custom_id": "x" * 101}],
    ):
        with pytest.raises(Refused):
            check_components([{"type": 1, "components": row}])
    with pytest.raises(Refused):
        check_commands([{"name": "Imagine", "description": "x"}])
    check_components([{"type": 1, "components": [button]}])
    assert len(JobButton("z15", "f" * 32, 999, "x").item.custom_id) <= 100


def test_the_double_computes_permissions_as_discord_does(perform):
    async def scene(stage):
        me, guild = stage.world.bot["id"], stage.guild
        known = stage.bot.get_guild(int(guild.id))
        role = guild.members[me]["roles"][0]
        for overwrites in (
            {guild.id: (0, USUAL.value)},
            {guild.id: (0, USUAL.value), role: (USUAL.value, 0)},
            {role: (0, USUAL.value), me: (discord.Permissions(view_channel=True).value, 0)},
        ):
            channel = stage.world.add_channel(guild, "x", overwrites)
            await eventually(lambda channel=channel: known.get_channel(int(channel.id)))
            ours = guild.permissions(me, channel)
            theirs = known.get_channel(int(channel.id)).permissions_for(known.me)
            names = [name for name, is_usual in USUAL if is_usual] if ours.view_channel else ["view_channel"]
            assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]

    perform(scene)
