"""Interactions are acknowledged at once, whatever the store, the other people and the connection do meanwhile."""

import asyncio
import contextlib
import threading

import discord
import pytest

from calotype.bot.settings import BotSettings
from calotype.jobs.database import Database
from tests.bot.double.conftest import eventually, seen
from tests.bot.double.interactions import FORM, SAY, WAIT, WAIT_QUIETLY

SECONDS = 1.0  # within which everything is acknowledged
CALLBACK = r"^/interactions/"


class Gate:
    """Holds transactions while it is closed."""

    def __init__(self):
        self.names, self._open = (), threading.Event()

    @contextlib.contextmanager
    def closed(self, *names):
        self.names = names
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def before(self, name, transaction):
        @contextlib.contextmanager
        def held(database):
            if name in self.names:
                assert self._open.wait(60), "it was never opened"
            with transaction(database) as db:
                yield db

        return held


@pytest.fixture
def gate(monkeypatch):
    gate = Gate()
    for name in ("reading", "writing"):
        monkeypatch.setattr(Database, name, gate.before(name, getattr(Database, name)))
    return gate


@contextlib.asynccontextmanager
async def lag():
    """How late this process wakes up at most, in seconds, in a list."""
    late, loop = [0.0], asyncio.get_running_loop()

    async def measure():
        while True:
            due = loop.time() + 0.02
            await asyncio.sleep(0.02)
            late.append(loop.time() - due)

    task = asyncio.create_task(measure())
    yield late
    task.cancel()


async def seconds_until(interaction):
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await interaction.wait_for_answer()
    return loop.time() - begin


@pytest.mark.parametrize("held", [("writing",), ("reading", "writing")])
def test_crowds_are_acknowledged_while_the_store_is_busy(perform, gate, held):
    commands = [("imagine", {"prompt": "fox"}), ("info", {}), ("queue", {}), ("cancel", {})]

    async def scene(stage):
        ann, people = stage.person("ann"), [stage.person(f"p{n}") for n in range(36)]
        await ann.slash(stage.channel, "settings", remix=True)
        await stage.imagine(ann, "fox")
        await stage.work()
        await stage.settled()
        (grid,) = stage.messages
        with gate.closed(*held):
            given = []
            for number, person in enumerate(people):
                name, options = commands[number % len(commands)]
                given.append(person.give(stage.channel, name, **options))
            await asyncio.sleep(0.1)
            pressed = [person.press(grid, label) for person, label in zip(people, ("U1", "V2", "ℹ️"), strict=False)]
            window = ann.press(grid, "V1")
            async with lag() as late:
                waits = [seconds_until(interaction) for interaction in (*given, *pressed, window)]
                times = await asyncio.gather(*waits)
            assert max(times) < SECONDS + max(late)
            assert {interaction.kind for interaction in given} == {WAIT}
            assert {interaction.kind for interaction in pressed} == {WAIT_QUIETLY}
            assert window.kind == (SAY if "reading" in held else FORM)
            names = asyncio.get_running_loop().getaddrinfo("localhost", 443)
            assert await asyncio.wait_for(names, 10), "addresses are looked up beside them"
        for interaction in given:
            await interaction.wait()
        if "reading" in held:
            assert window.text == "the queue is busy; press the button again"
            assert (await ann.click(grid, "V1")).kind == FORM

    perform(scene)


# The connection


@pytest.mark.parametrize("count", [1, 2])
def test_an_answer_that_was_lost_is_no_reason_to_leave_the_work(perform, count):
    async def scene(stage):
        ann = stage.person("ann")
        stage.discord.fail("POST", CALLBACK, is_lost=True, times=count)
        given = await ann.slash(stage.channel, "imagine", prompt="fox --s 250")
        if count == 2:  # as long as it takes to give the command again
            assert given.text == "Discord does not answer at present; try again in a minute"
            assert stage.store.find() == []
            return
        assert given.text == "--stylize 250 is a guidance scale of 6.3"
        await stage.work()
        await stage.settled()
        stage.discord.fail("POST", CALLBACK, is_lost=True)
        await ann.click(stage.messages[0], "V1")
        await eventually(lambda: len(stage.messages) == 2)

    perform(scene)


def test_a_window_whose_opening_was_lost_is_open(perform):
    async def scene(stage):
        ann = stage.person("ann")
        await ann.slash(stage.channel, "settings", remix=True)
        await stage.imagine(ann, "fox")
        await stage.work()
        await stage.settled()
        stage.discord.fail("POST", CALLBACK, is_lost=True)
        window = await ann.click(stage.messages[0], "V1")
        await eventually(lambda: sum("/callback" in path for _, path, _ in stage.discord.requests) == 4)
        assert window.kind == FORM and window.texts == []
        stage.discord.fail("POST", CALLBACK, is_lost=True)
        await ann.submit(window, prompt="cat")
        await eventually(lambda: len(stage.messages) == 2)
        assert stage.store.find()[0].task["prompt"] == "cat"

    perform(scene)


# Direct messages


@pytest.fixture
def asked(monkeypatch):
    """Discord tells who is on a server once this is set; `asked.count`: how often it was asked."""
    asked, fetch = asyncio.Event(), discord.Guild.fetch_member
    asked.count = 0

    async def late(guild, id):
        asked.count += 1
        await asked.wait()
        return await fetch(guild, id)

    monkeypatch.setattr(discord.Guild, "fetch_member", late)
    return asked


def test_who_writes_directly_is_looked_up_after_the_acknowledgement(perform, studio, asked):
    async def scene(stage):
        studio.settings = BotSettings(account_days=0, member_days=0, servers=(stage.guild.id,))
        ann, ben = stage.person("ann"), stage.person("ben")
        guest = stage.discord.person("guest")
        asked.set()
        await ann.slash(stage.channel, "settings", remix=True, private=True)
        await ann.slash(stage.channel, "imagine", prompt="fox")
        await stage.work()
        await stage.settled()
        direct = stage.world.direct(ann.id)
        (grid,) = seen(direct)
        asked.clear()
        window = ann.press(grid, "V1")
        press = ann.press(grid, "U1")
        commands = [who.give(stage.world.direct(who.id), "info") for who in (ann, ben, guest)]
        async with lag() as late:
            times = await asyncio.gather(*map(seconds_until, (window, press, *commands)))
        assert max(times) < SECONDS + max(late) and asked.count
        assert not asked.is_set() and window.kind == WAIT_QUIETLY
        asked.set()
        for interaction in (window, *commands):
            await eventually(lambda interaction=interaction: interaction.text)
        assert window.text == "the queue is busy; press the button again"
        assert "device seconds" in commands[0].text and "device seconds" in commands[1].text
        assert commands[2].text == "this bot serves the servers of its owner only"
        assert (await ann.click(grid, "V1")).kind == FORM
        await eventually(lambda: len(seen(direct)) == 2)

    perform(scene)
