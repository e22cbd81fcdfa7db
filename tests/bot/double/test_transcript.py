"""What every command of the bot says, in both languages, is what the transcripts have.

After a wording or a command was changed on purpose, this writes them anew; `git diff tests/bot/transcripts` shows what
people will read:

    WRITE_TRANSCRIPTS=1 pytest -m "slow or not slow" tests/bot/double/test_transcript.py

A new command needs a line in `script`: the test names those that have none.
"""

import asyncio
import os
import re
import time
from pathlib import Path

import pytest
from PIL import PngImagePlugin

from calotype.api.limiter import Rate, RateLimiter
from calotype.errors import CalotypeError
from calotype.jobs.account import Allowance
from calotype.jobs.jobs import BUG
from calotype.jobs.users import Accounts
from tests.api.conftest import png
from tests.bot.double.conftest import eventually, seen
from tests.bot.double.people import Person
from tests.bot.double.rules import MESSAGE_MENU, SLASH, USER_MENU
from tests.bot.double.world import shown

FOLDER = Path(__file__).parents[1] / "transcripts"
LOCALES = {"en": "en-US", "zh": "zh-CN"}
QUIET, SHORT = 0.15, 0.04  # seconds without a request, after which nothing more is said; after commands
LONGEST = 5.0  # seconds
VARIABLE = [
    (re.compile(r"https://discord\.com/channels/\S+?(?=\))"), "ADDRESS"),
    (re.compile(r"[0-9a-f]{32}"), "JOB"),
    (re.compile(r"(?<=/link )[\w-]{8,}|(?<=link code: )[\w-]{16}$"), "CODE"),
    (re.compile(r"discord-\d{17,}"), "discord-ID"),
]  # what differs from run to run
TIME = re.compile(r"\d+(?:\.\d+)? (?:hours?|minutes?|小时|分钟)")  # until midnight


HANDLERS = ("CommandTree", "discord-ui", "discord.py: on_interaction")  # names of tasks of discord.py


def is_at_work():
    """Whether the bot, in this process, works on a command, a press or a window."""
    return any(task.get_name().startswith(HANDLERS) for task in asyncio.all_tasks())


class Transcript:
    """Plays commands and notes what people read."""

    def __init__(self, stage, locale):
        self.stage, self.locale, self.lines = stage, locale, []
        self._people, self._known = {"maker": Person(stage.discord, stage.world.maker["id"], locale)}, {}
        self.used = set()

    def person(self, name):
        if name not in self._people:
            self._people[name] = self.stage.person(name, locale=self.locale)
        return self._people[name]

    def has(self, name):
        return any(command["name"] == name for command in self.stage.world.commands)

    async def slash(self, name, command, /, **options):
        """A command, and what comes of it. Values may be the names of people."""
        self.used.add(command)
        given = options.items()
        words = " ".join(f"{key}: {value[0] if isinstance(value, tuple) else value}" for key, value in given)
        self._note(f"\n> {name}: /{command} {words}".rstrip())
        values = {key: value if isinstance(value, tuple) else self._people.get(value, value) for key, value in given}
        await self._end(await self.person(name).slash(self.stage.channel, command, **values), SHORT)

    async def menu(self, name, command, message):
        self.used.add(command)
        self._note(f"\n> {name}: menu of a message: {command}")
        await self._end(await self.person(name).menu(command, message))

    async def click(self, name, label, message=None, **values):
        """A button of the latest message, or of another one; `values` for the form that it opens."""
        self._note(f"\n> {name}: [{label}]" + "".join(f" {key}: {value}" for key, value in values.items()))
        message = message or self.latest
        found = next(known for known in message.buttons if label in known)
        pressed = await self.person(name).click(message, found)
        if pressed.form:
            self._note(f"  form: {pressed.form['title']}")
            for row in pressed.form["components"]:
                child = row.get("component") or row["components"][0]
                self._note(f"    {child.get('label') or row.get('label')}: {child.get('value', '')}")
            pressed = await self.person(name).submit(pressed, **{key: values.get(key, "") for key in values})
        await self._end(pressed)

    async def work(self, **more):
        self._note("\n(the job ends)")
        job = (await self.stage.work(**more)).job
        await eventually(lambda: job.id not in {message.job for message in self.stage.chat.open_messages()})
        await self._end()

    @property
    def latest(self):
        return self.stage.messages[-1]

    async def _end(self, given=None, seconds=QUIET):
        """Notes what has changed since the last step."""
        await self._quiet(seconds)
        if given is not None:
            first = [given.original] if given.original and not given.is_deleted else []
            for message in [*first, *given.followups]:
                self._show("for this person alone", message)
        places = {f"#{self.stage.channel.name}": self.stage.channel}
        for name, person in self._people.items():
            places[f"direct message to {name}"] = self.stage.world.direct(person.id)
        for place, channel in places.items():
            for message in seen(channel):
                now = message.payload()
                if self._known.get(message.id) != now:
                    self._show(f"{place}, {'edited' if message.id in self._known else 'new'}", message)
                    self._known[message.id] = now

    async def _quiet(self, seconds):
        """Until all messages are up to date, and nothing was asked of Discord for so long."""
        discord, count = self.stage.discord, -1
        end = time.monotonic() + LONGEST
        while count != len(discord.requests) or discord.in_flight or is_at_work() or not self._is_shown():
            count = len(discord.requests)
            if time.monotonic() > end:
                break
            await asyncio.sleep(seconds)

    def _is_shown(self):
        return all(known.message and known.number == known.last_event for known in self.stage.chat.open_messages())

    def _show(self, where, message):
        self._note(f"  {where}:")
        for line in message.content.splitlines():
            self._note(f"    {line}")
        for file in message.attachments:
            self._note(f"    ({file['filename']})")
        for row in message.components:
            self._note("    " + " ".join(f"[{shown(child)}]" for child in row["components"]))

    def _note(self, line):
        for name, person in self._people.items():
            line = line.replace(f"<@{person.id}>", f"@{name}").replace(person.id, f"ID of {name}")
        for pattern, word in VARIABLE:
            line = pattern.sub(word, line)
        self.lines.append(re.sub(r"\d{17,}", "ID", line))

    def note_commands(self):
        """Names, descriptions and options as people of this language see them."""
        kinds = {SLASH: "/", USER_MENU: "menu of a person: ", MESSAGE_MENU: "menu of a message: "}
        for command in sorted(self.stage.world.commands, key=lambda command: (command["type"], command["name"])):
            name, description = self._local(command, "name"), self._local(command, "description")
            self._note(f"{kinds[command['type']]}{name}  {description}".rstrip())
            for option in command.get("options", ()):
                self._note(f"    {self._local(option, 'name')}: {self._local(option, 'description')}")
                for choice in option.get("choices", ()):
                    self._note(f"        {self._local(choice, 'name')}")

    def _local(self, data, name):
        return (data.get(f"{name}_localizations") or {}).get(self.locale, data[name])


async def script(play, accounts):
    """Every command, with what it says when all is well and when it is not."""
    # drawing
    await play.slash("ann", "imagine", prompt="red fox --ar 3:2 --seed 7")
    await play.slash("ann", "queue")
    await play.work()
    grid = play.latest
    await play.click("ann", "U2")
    await play.click("ben", "U2", grid)
    await play.click("ben", "ℹ️", grid)
    await play.click("ben", "V1", grid)
    await play.click("ben", "V1", grid)
    await play.work(fault=CalotypeError(BUG, kind="KeyError", bug="x"))
    await play.slash("ann", "imagine", prompt="{red, blue} apple --s 250 --sref 4")
    await play.slash("ann", "cancel")
    for mistake in ("fox --sead 7", "{a", "--tile", "fox --iw 2", "fox --ar 3", "fox --stop 5"):
        await play.slash("ann", "imagine", prompt=mistake)
    # photos
    await play.slash("ann", "restore", picture=("grandma.png", png()), strength=0.5)
    await play.work()
    await play.slash("ann", "upscale", picture=("grandma.png", png()), scale=3.0)
    await play.work()
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "red fox\nSteps: 3, Sampler: Euler, CFG scale: 4, Seed: 7, Size: 64x64")
    await play.slash("ann", "describe", picture=("fox.png", png(64, 64, pnginfo=text)))
    await play.slash("ann", "describe", picture=("bare.png", png()))
    await play.slash("ann", "upscale", picture=("broken.png", b"no picture"))
    job = play.stage.store.find(kinds=("imagine",), states=("done",))[-1]
    await play.slash("ann", "vary", job=job.id, number=2, strong=True)
    await play.work()
    await play.slash("ann", "show", job=job.id)
    await play.slash("ben", "show", job=job.id)
    for name in ("Info", "Restore faces", "Upscale 2x"):
        await play.menu("ann", name, grid)
    await play.slash("ann", "cancel")
    if play.has("blend"):
        await play.slash("ann", "blend", picture1=("a.png", png()), picture2=("b.png", png()))
        await play.slash("ann", "cancel")
    if play.has("train"):
        await play.slash("ann", "train", name="rex", photo1=("a.png", png()))
    # people
    await play.slash("ann", "info")
    await play.slash("ann", "settings", size="64", remix=True, presses="mine")
    await play.slash("ann", "settings", model="x")
    await play.slash("ann", "settings", size="big")
    await play.click("ann", "V1", grid, prompt="blue fox")
    await play.click("ben", "V1", grid)
    await play.slash("ann", "cancel")
    await play.slash("ann", "settings", remix=False, private=True)
    await play.slash("ann", "imagine", prompt="cat")
    await play.work()
    await play.slash("ben", "link", code="no such code")
    await play.slash("ben", "link", code=accounts.add_code(accounts.add("ben", Allowance(seconds=5))))
    await play.slash("ben", "info")
    if play.has("unlink"):
        await play.slash("ben", "unlink")
    # the owner
    await play.slash("ben", "stats")
    await play.slash("maker", "stats")
    if play.has("invite"):
        await play.slash("maker", "invite")
    await play.slash("maker", "grant", whom="ben", seconds=50.0)
    await play.slash("maker", "grant", whom="ben")
    await play.slash("maker", "channel", commands="upscale", spoiler=True)
    await play.slash("ben", "imagine", prompt="fox")
    await play.slash("maker", "channel", commands="imagin")
    await play.slash("maker", "channel", commands="all", models="emoji", spoiler=False)
    await play.slash("maker", "ban", person="ben")
    await play.slash("ben", "imagine", prompt="fox")
    await play.slash("maker", "ban", person="ben", off=True)
    # limits
    await play.slash("maker", "grant", whom="zoe", seconds=2.0)
    await play.slash("zoe", "imagine", prompt="fox")
    await play.work()
    await play.slash("zoe", "imagine", prompt="fox")
    await play.slash("zoe", "info")


LANGUAGES = [pytest.param(name, marks=[] if name == "en" else [pytest.mark.slow]) for name in LOCALES]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_bot_says_is_in_the_transcript(perform, studio, language):
    async def scene(stage):
        studio.flood = studio.crowd = RateLimiter(Rate(10**6, 10**6))
        play = Transcript(stage, LOCALES[language])
        for name in ("ann", "ben", "zoe"):
            play.person(name)
        play.note_commands()
        await script(play, Accounts(studio.service.store.database))
        missing = {command["name"] for command in stage.world.commands} - play.used
        assert not missing, f"the script has no line for {missing}"
        text = TIME.sub("TIME", "\n".join(play.lines)) + "\n"
        path = FOLDER / f"{language}.txt"
        if os.environ.get("WRITE_TRANSCRIPTS"):
            path.write_text(text, "utf-8")
        assert text == path.read_text("utf-8"), "what the bot says has changed; see the beginning of this file"

    perform(scene, rate=(50, 0.2))
