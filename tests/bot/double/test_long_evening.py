"""The scripted evening: 20 people and 200 commands on the double of Discord, with `calotype bot` as a process of its
own that is killed and restarted, drops of the gateway, and errors of the server in the middle.

`pytest -m slow -s tests/bot/double/test_long_evening.py` prints who used what.
"""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import discord
import pytest
from sqlalchemy import select

from calotype.bot.delivery import GONE
from calotype.errors import CalotypeError
from calotype.jobs.account import Allowance
from calotype.jobs.chat import Chat
from calotype.jobs.jobs import BUG, QUEUED
from calotype.jobs.schema import JOBS
from calotype.jobs.store import JobStore
from calotype.jobs.usage import DAY
from calotype.jobs.users import Accounts
from tests.api.conftest import png
from tests.bot.conftest import work
from tests.bot.double.conftest import eventually, seen
from tests.bot.double.people import Person
from tests.bot.double.program import Program
from tests.bot.double.server import Discord

COMMANDS = 200
DAILY, TRIAL, OF_ROLE, GRANTED, OF_PAGE, USED_ON_PAGE = 12.0, 4.0, 60.0, 40.0, 11.5, 9.5  # device seconds
TOOK = (0.25, 0.5, 1.1, 1.75, 2.5)  # device seconds of a job
PROMPTS = {"red fox": 1, "{red, blue} apple --s 250": 2, "cat::2 dog::-.5": 1, "house --ar 3:2 --seed 7": 1, "tree": 1}
MISTAKES = ("fox --sead 1", "{a", "--tile")
MINUTE, BOT_ROLE = 60.0, "patron"


@dataclass
class Guest:
    """One of the evening, and what the script expects of the bot. `limit`: device seconds, None: the owner's."""

    person: Person
    kind: str
    limit: float
    account: str = ""  # of the page, if it is not the bot's
    commands: int = 0
    refused: int = 0
    jobs: int = 0
    expected: float = 0.0  # device seconds


@dataclass
class Evening:
    """What happens, and the books that the script keeps beside those of the bot."""

    double: Discord
    store: JobStore
    program: Program
    rng: random.Random
    channels: list = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)
    given: set[str] = field(default_factory=set)  # keys of commands and presses
    shown: set[tuple[str, str]] = field(default_factory=set)  # grids and numbers of pictures that were shown
    deleted: set[str] = field(default_factory=set)  # messages that somebody deleted; they come again at the end
    happened: Counter = field(default_factory=Counter)

    @property
    def chat(self):
        return Chat(self.store.database, Accounts(self.store.database))

    @property
    def messages(self):
        direct = [channel for channel in self.double.world.channels.values() if channel.recipient]
        return [message for channel in [*self.channels, *direct] for message in seen(channel)]

    def job_keys(self):
        """The owners and keys of idempotency of all jobs of the bot: of a command or button, and a number."""
        with self.store.database.reading() as db:
            rows = db.execute(select(JOBS.c.owner, JOBS.c.key).where(JOBS.c.key.startswith("discord."))).all()
        return [(row.owner, row.key.removeprefix("discord.")) for row in rows]

    def count(self, command):
        """Jobs of a command."""
        return sum(key.startswith(f"{command.id}.") or key == command.id for _, key in self.job_keys())

    # What people do

    async def imagine(self, guest, text, count):
        given = guest.person.give(self.rng.choice(self.channels), "imagine", prompt=text)
        await self.book(guest, given, count, text)

    async def attach(self, guest, name):
        channel = self.rng.choice(self.channels)
        given = guest.person.give(channel, name, picture=("old photo.png", png(32, 24)))
        await self.book(guest, given, 1)

    async def book(self, guest, given, count, prompt=""):
        """A command makes all of its jobs, or the person is told why it does not."""
        guest.commands += 1
        self.given.add(given.id)
        await given.wait()
        found = self.count(given)
        assert not given.has_failed and found <= count
        if found < count:
            assert given.text, f"{guest.kind} was told nothing"
            guest.refused += 1
            self.check_reason(guest, given.text, prompt)

    def check_reason(self, guest, text, prompt):
        """Nobody is refused for a budget that has room."""
        if "device seconds" in text or "are used" in text:
            waiting = self.store.find(self.account_of(guest), states=(QUEUED,), limit=1000)
            needed = longest(prompt) + sum(longest(job.task.get("prompt", "")) for job in waiting)
            assert guest.expected + needed > guest.limit, text

    async def press(self, guest):
        grids = [message for message in self.messages if "V1" in message.buttons and "done in" in message.content]
        if not grids:
            await self.imagine(guest, "red fox", 1)
            return
        grid, label = self.rng.choice(grids), self.rng.choice(("U1", "U3", "V1", "V4"))
        action, job, index = grid.buttons[label].split(":")[1:]
        guest.commands += 1
        presses = [guest.person.press(grid, label) for _ in range(2)]
        for press in presses:
            await press.wait_for_answer()
            assert not press.has_failed
        if action == "u":
            await eventually(lambda: self.chat.pressed(f"u.{job}.{index}") or all(p.text for p in presses), 30)
            if self.chat.pressed(f"u.{job}.{index}"):
                self.shown.add((job, index))
            return
        self.given.add(job)

        def is_queued():
            return (self.account_of(guest), f"{job}.{action}.{index}") in self.job_keys()

        await eventually(lambda: is_queued() or any(press.text for press in presses), 30)
        if not is_queued():
            guest.refused += 1
            prompt = self.store.get(job).task["prompt"]
            self.check_reason(guest, presses[-1].text or presses[0].text, prompt)

    async def cancel(self, guest):
        guest.commands += 1
        given = await guest.person.slash(self.channels[0], "cancel")
        assert "cancelled" in given.text or given.text == "None of your jobs waits or runs.", given.text

    async def ask(self, guest):
        guest.commands += 1
        given = await guest.person.slash(self.rng.choice(self.channels), self.rng.choice(("queue", "info", "settings")))
        assert given.text, "a question was not answered"

    async def act(self, guest):
        number = self.rng.random()
        if number < 0.5:
            await self.imagine(guest, *self.rng.choice(list(PROMPTS.items())))
        elif number < 0.56:
            await self.imagine(guest, self.rng.choice(MISTAKES), 1)
        elif number < 0.64:
            await self.attach(guest, self.rng.choice(("restore", "upscale")))
        elif number < 0.88:
            await self.press(guest)
        elif number < 0.92:
            await self.cancel(guest)
        else:
            await self.ask(guest)

    # What the worker does

    def account_of(self, guest):
        member = self.chat.member(guest.person.id)
        return member.account.id if member else ""

    def finish_jobs(self, count):
        for _ in range(count):
            took, number, fault = self.rng.choice(TOOK), self.rng.random(), None
            if number < 0.08:
                fault = CalotypeError(BUG, kind="KeyError", bug="x")  # ours: not charged
            elif number < 0.14:
                fault = CalotypeError("the picture has no face")  # charged
            try:
                job = work(self.store, fault=fault, seconds=took).job
            except AssertionError:  # none may run
                return
            member = self.chat.message(job.id).member
            guest = next(guest for guest in self.guests if guest.person.id == member)
            guest.expected += 0.0 if fault and number < 0.08 else took

    # What goes wrong

    async def disturb(self, number):
        double, program = self.double, self.program
        if number % 10 == 3:
            double.fail("PATCH", r"^/channels/\d+/messages/\d+$", 503, times=2)
            double.fail("POST", r"^/channels/\d+/messages$", 500)
            self.happened["errors of the server"] += 3
        if number % 17 == 5:
            double.fail("POST", r"^/channels/\d+/messages$", is_lost=True)
            double.fail("PATCH", r"^/channels/\d+/messages/\d+$", is_lost=True)
            self.happened["lost answers"] += 2
        if number % 23 == 11:
            double.limit("PATCH", r"^/channels/\d+/messages/\d+$", 0.3)
            double.block("POST", r"^/channels/\d+/messages$")
            self.happened["429"] += 2
        if number % 15 == 7:
            double.gateway.drop()
            self.happened["drops"] += 1
        if number in (60, 130):
            await self.kill_within(self.rng.choice(self.guests))
        if number in (95, 165):
            assert await program.stop() == 0
            self.finish_jobs(3)
            await program.connect()
            self.happened["restarts"] += 1
        if number == 110:
            double.gateway.invalidate()
            await eventually(lambda: double.gateway.is_connected)
            self.happened["lost sessions"] += 1
        if number % 50 == 31 and (found := [message for message in self.messages if "Cancel" in message.buttons]):
            message = self.rng.choice(found)
            double.world.delete(message)
            self.deleted |= {message.id, GONE}
            self.happened["deleted messages"] += 1

    async def kill_within(self, guest):
        """Kills the program while a command is under way. Some minutes later it is started again."""
        guest.commands += 1
        given = guest.person.give(self.channels[1], "imagine", prompt="{red, blue, green} bird")
        self.given.add(given.id)
        await asyncio.sleep(self.rng.uniform(0.0, 0.3))
        await self.program.kill()
        assert self.count(given) <= 3
        self.finish_jobs(4)
        self.double.clock.move(10 * MINUTE)
        await self.program.connect()
        self.happened["kills"] += 1


def longest(prompt):
    """The device seconds that a job may be taken to need: two prompts in one are twice the work."""
    return max(TOOK) * (2 if "::" in prompt or " AND " in prompt else 1)


def new_guests(double, guild, role):
    """The people, with what each may use."""
    patrons = [double.person(f"patron{n}", guild, roles=[role]) for n in range(3)]
    guests = [Guest(person, "role", OF_ROLE) for person in patrons]
    guests += [Guest(double.person(f"young{n}", guild, age=5 * DAY), "trial", TRIAL) for n in range(3)]
    guests += [Guest(double.person("just here", guild, since=3600.0), "trial", TRIAL)]
    guests += [Guest(double.person("granted", guild), "granted", GRANTED)]
    guests += [Guest(double.person("linked", guild), "linked", OF_PAGE)]
    guests += [Guest(double.person(f"member{n}", guild), "member", DAILY) for n in range(11)]
    return guests


async def prepare(evening, guild, role):
    """The owner's commands, and the account of the page."""
    owner = Person(evening.double, evening.double.world.maker["id"])
    granted, linked = (next(g for g in evening.guests if g.kind == kind) for kind in ("granted", "linked"))
    for whom, seconds in ((role, OF_ROLE), (granted.person, GRANTED)):
        answer = await owner.slash(evening.channels[0], "grant", whom=whom, seconds=seconds)
        assert f"{seconds:g} device seconds" in answer.text
    accounts = Accounts(evening.store.database)
    page = accounts.add("maria", Allowance(seconds=OF_PAGE))
    evening.store.submit(page.id, "imagine", {"prompt": "on the page"}, budget=page.budget)
    work(evening.store, seconds=USED_ON_PAGE)
    linked.expected = USED_ON_PAGE
    answer = await linked.person.slash(evening.channels[0], "link", code=accounts.add_code(page))
    assert answer.text.startswith("linked to the account maria")


async def play(evening):
    order = []
    for number in range(COMMANDS):
        if not order:
            order = evening.rng.sample(evening.guests, len(evening.guests))
        await evening.disturb(number)
        await evening.act(order.pop())
        evening.finish_jobs(evening.rng.randrange(4))


def check(evening):
    """Nothing is lost, nothing doubled, and what was charged is what was used."""
    jobs = {job.id: job for job in evening.store.find(limit=1000) if job.task.get("prompt") != "on the page"}
    assert (
        len(evening.job_keys()) == len(jobs) and {key.split(".")[0] for _, key in evening.job_keys()} <= evening.given
    )
    at = {}
    for id, job in jobs.items():
        row = evening.chat.message(id)
        if job.state == QUEUED and row.message in evening.deleted:
            continue
        places = [message for message in evening.messages if message.id == row.message]
        assert len(places) == 1, f"a job that is {job.state} is shown {len(places)} times"
        at[id] = places[0]
        if job.state == "done":
            assert "done in" in at[id].content and at[id].attachments
        elif job.state == "failed":
            assert "failed: " in at[id].content and "Try again" in at[id].buttons
        else:
            assert job.state in ("cancelled", QUEUED)
    assert len({message.id for message in at.values()}) == len(at)
    single = [message for message in evening.messages if message.content.startswith("picture ")]
    assert len(single) == len(evening.shown)
    assert len(evening.messages) == len(at) + len(single), "something has two messages"
    for guest in evening.guests:
        member = evening.chat.member(guest.person.id)
        guest.jobs = sum(evening.chat.message(id).member == guest.person.id for id in jobs)
        charged = evening.store.spent(member.account.budget.account or member.account.id, False) if member else 0.0
        guest.charged = charged
        assert abs(charged - guest.expected) < 1e-6, f"{guest.kind}: {charged} and not {guest.expected}"
        assert charged < guest.limit + 2 * max(TOOK), f"{guest.kind} went on after the limit"


def table(evening):
    lines = [f"{'person':<12}{'limit':>7}{'commands':>10}{'refused':>9}{'jobs':>6}{'expected s':>12}{'charged s':>11}"]
    for guest in evening.guests:
        name = guest.person.user["username"]
        lines.append(
            f"{name:<12}{guest.limit:>7g}{guest.commands:>10}{guest.refused:>9}{guest.jobs:>6}"
            f"{guest.expected:>12.2f}{guest.charged:>11.2f}"
        )
    count = [sum(getattr(guest, name) for guest in evening.guests) for name in ("commands", "refused", "jobs")]
    seconds = [sum(getattr(guest, name) for guest in evening.guests) for name in ("expected", "charged")]
    lines.append(f"{'all':<19}{count[0]:>10}{count[1]:>9}{count[2]:>6}{seconds[0]:>12.2f}{seconds[1]:>11.2f}")
    lines.append(", ".join(f"{name}: {number}" for name, number in evening.happened.items()))
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [17])
def test_a_long_evening_loses_and_doubles_nothing_and_its_budgets_are_exact(tmp_path, seed):
    if not 300 < time.time() % DAY < DAY - 600:
        pytest.skip("the day of the budgets would end meanwhile")

    async def whole():
        store = JobStore("", tmp_path / "service")
        async with Discord(rate=(5, 0.5)) as double:
            options = ("--daily-seconds", f"{DAILY}", "--trial-seconds", f"{TRIAL}")
            evening = Evening(double, store, Program(double, tmp_path, "--no-worker", *options), random.Random(seed))
            guild = double.world.add_guild()
            role = double.world.add_role(guild, BOT_ROLE, discord.Permissions.none())
            evening.channels = [double.world.add_channel(guild, f"studio{n}") for n in range(4)]
            evening.guests = new_guests(double, guild, role)
            await evening.program.connect()
            try:
                await prepare(evening, guild, role)
                await play(evening)
                evening.finish_jobs(10**4)
                waiting = {job.id for job in store.find(states=(QUEUED,), limit=1000)}
                await eventually(lambda: {m.job for m in evening.chat.open_messages()} == waiting, 120)
            finally:
                await evening.program.kill()
            check(evening)
            print("\n" + table(evening))
            assert "Traceback" not in evening.program.errors
            assert sum(guest.commands for guest in evening.guests) >= COMMANDS and double.gateway.resumed >= 8
            assert {"trial", "member", "linked"} <= {guest.kind for guest in evening.guests if guest.refused}
        store.close()

    asyncio.run(whole())
