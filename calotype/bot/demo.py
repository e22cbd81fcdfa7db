"""An evening of the bot in the terminal: the real queue, worker and messages, without Discord."""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from discord.utils import time_snowflake, utcnow

from calotype.bot.follow import Follower
from calotype.bot.prompt import ModelRow
from calotype.bot.settings import BotSettings
from calotype.bot.setup import new_studio
from calotype.bot.studio import CommandPlace, Person, Queued, Studio
from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.jobs.store import JobStore
from calotype.languages import language_of_environment
from calotype.settings import Settings
from calotype.worker.worker import Worker
from calotype.worker.worker_options import WorkerOptions

CHANNEL = "1"
LOOK_SECONDS = 0.2
LOW_BITS = 2**22 - 1  # of an id; those above are a time
ANN, BEN = Person("101", 0.0), Person("102", 0.0)
NAMES = {ANN.id: "ann", BEN.id: "ben"}
SMALL = ModelRow("emoji", 64, 8)


@dataclass
class TerminalChannel:
    """Stands for a channel: what is sent or edited is printed."""

    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(time_snowflake(utcnow()) + 1))
    id: int = int(CHANNEL)

    async def send(self, content: str = "", files: Any = (), **_: Any) -> "TerminalMessage":
        message = TerminalMessage(next(self.numbers), content, tuple(files))
        await message.edit(content, files)
        return message

    def get_partial_message(self, number: int) -> "TerminalMessage":
        return TerminalMessage(number)


@dataclass(frozen=True)
class TerminalMessage:
    """Stands for a message."""

    id: int
    content: str = ""
    attachments: tuple[Any, ...] = ()

    async def edit(self, content: str = "", attachments: Any = (), view: Any = None) -> None:
        for person, name in NAMES.items():
            content = content.replace(f"<@{person}>", f"@{name}")
        lines = [*content.splitlines(), *(f"[{file.filename}]" for file in attachments)]
        print(f"  {self.id & LOW_BITS:>3} | " + "\n      | ".join(lines), flush=True)


class TerminalClient:
    """Stands for the connection to Discord, as far as the follower needs it."""

    def __init__(self) -> None:
        self._channel = TerminalChannel()

    def get_partial_messageable(self, channel: int) -> TerminalChannel:
        return self._channel

    def get_channel(self, channel: int) -> TerminalChannel:
        return self._channel


class DemoStudio(Studio):
    """Small pictures in few steps."""

    @property
    def rows(self) -> dict[str, ModelRow]:
        return {"default": SMALL}


def demo(settings: Settings) -> int:
    """Plays the evening. Its queue is in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="calotype-demo-") as folder:
        store = JobStore("", Path(folder) / "service")
        found = new_studio(store, settings, BotSettings(account_days=0, member_days=0))
        engine = Engine(replace(settings, offline=True))
        with contextlib.closing(store), Worker(store, engine, WorkerOptions(poll=0.05, min_free=0), "demo").in_thread():
            asyncio.run(_evening(DemoStudio(**vars(found))))
    return 0


async def _evening(studio: Studio) -> None:
    follower = Follower(TerminalClient(), studio, LOOK_SECONDS)
    numbers = itertools.count(1)
    language = language_of_environment()

    async def give(person: Person, text: str) -> Queued | None:
        print(f"@{NAMES[person.id]}: /imagine {text}", flush=True)
        try:
            place = CommandPlace(CHANNEL, language=language)
            return studio.imagine(studio.member(person), text, f"demo{next(numbers)}", place)
        except CalotypeError as fault:
            print(f"      | {fault}")
        return None

    first = await give(ANN, "red fox face, noto —ar 3:2 —seed 7")
    await give(BEN, "{green, blue} apple, noto —stylize 250")
    await give(BEN, "apple —sead 7")
    await _follow(follower, studio)
    if first:
        print("@ben: [V1]", flush=True)
        studio.press(BEN, "v", *studio.pressed(BEN, first.jobs[0].id), 1, "demo.v", CommandPlace(CHANNEL))
        print("@ann: [Upscale 2x]", flush=True)
        studio.press(ANN, "x2", *studio.pressed(ANN, first.jobs[0].id), 2, "demo.x", CommandPlace(CHANNEL))
        await _follow(follower, studio)


async def _follow(follower: Follower, studio: Studio) -> None:
    """Until all messages show the end of their jobs."""
    while studio.chat.open_messages():
        await follower.look()
        await asyncio.sleep(LOOK_SECONDS)
