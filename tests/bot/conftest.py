"""The bot on a Discord of this process (simcord), over a real job store."""

import asyncio
import io
import re
import time

import numpy as np
import pytest

pytest.importorskip("discord")
pytest.importorskip("simcord")

import simcord
from PIL import Image

from calotype.api.service import Service
from calotype.api.settings import ServiceSettings
from calotype.bot.commands import new_bot
from calotype.bot.settings import MODELS_FILE, BotSettings
from calotype.bot.studio import Studio
from calotype.engine import Engine
from calotype.jobs.chat import Chat
from calotype.jobs.jobs import NewResult
from calotype.jobs.users import Accounts
from calotype.settings import Settings
from calotype.worker.worker import Worker
from calotype.worker.worker_options import WorkerOptions
from tests.api import conftest as api
from tests.api.conftest import Clock, png

empty_database, store = api.empty_database, api.store  # fixtures
BEGINNING = 1_767_225_600.0  # of simcord's time, in which messages are sent
NEVER = 1e6  # seconds between two looks into the store: tests look themselves
OLD = BotSettings(account_days=0, member_days=0)  # nobody is a newcomer


@pytest.fixture
def clock():
    clock = Clock()
    clock.now = BEGINNING
    return clock


@pytest.fixture
def studio(store, clock, tmp_path):
    settings = Settings.gather({"home": tmp_path / "home", "offline": True}, environ={})
    accounts = Accounts(store.database, clock)
    service = Service(store, settings, ServiceSettings(), accounts)
    return Studio(service, Chat(store.database, accounts, clock), OLD, clock)


class Evening:
    """A server with a channel, people, and the bot."""

    def __init__(self, env, bot, studio, timer):
        self.env, self.bot, self.studio, self.timer = env, bot, studio, timer
        self.guild = env.create_guild()
        self.channel = self.guild.create_text_channel("studio")

    def person(self, name, **more):
        return self.guild.add_member(self.env.create_user(name), **more)

    async def look(self, seconds=1000.0):
        """The follower looks into the store so much later; usually no edit has to wait then."""
        self.timer.now += seconds
        await self.bot.follower.look()

    async def work(self, **more):
        """Runs the next job as a worker would, and brings the messages up to date."""
        self.studio.clock.now += 1
        await asyncio.to_thread(work, self.studio.service.store, **more)
        await self.look()

    async def restart(self):
        self.bot = new_bot(self.studio, look_seconds=NEVER, clock=self.timer)
        await self.env.restart_bot(self.bot)

    @property
    def messages(self):
        """What everybody sees in the channel, oldest first."""
        found = [message for message in self.channel.history() if not message.flags.ephemeral]
        return sorted(found, key=lambda message: message.id)


@pytest.fixture
def small(studio):
    """Pictures of 64 pixels, in two steps, by the model that ships."""
    home = studio.service.settings.home
    home.mkdir()
    (home / MODELS_FILE).write_text('[default]\nmodel = "emoji"\nsize = 64\nsteps = 2\n')


@pytest.fixture
def play(studio):
    """Runs `play(scene)`, a coroutine function of an evening."""

    def run(scene, **more):
        async def whole():
            timer = Clock()
            bot = new_bot(studio, look_seconds=NEVER, clock=timer)
            async with simcord.run(bot, **more) as env:
                await scene(Evening(env, bot, studio, timer))

        asyncio.run(whole())

    return run


def work(store, fault=None, seconds=2.0, size=(64, 48), preview=None, content=None, faces=3, facts=None):
    """Runs the next job as a worker would; pictures with rising seeds and a grid, or a fault."""
    claim = store.claim("tester")
    assert claim is not None, "no job waits"
    store.add_event(claim, {"event": "progress", "done": 1, "total": 4, "what": "steps", "remaining": 6.0})
    if preview:
        store.add_preview(claim, preview)
        return claim
    if fault:
        store.fail(claim, fault, seconds)
        return claim
    if facts:  # of a text
        path = store.files.work(claim.job.id) / "photo.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
        store.finish(claim, [NewResult(path, path.name, "text/plain", facts)], seconds)
        return claim
    count = claim.job.task.get("count", 1)
    folder = store.files.work(claim.job.id)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for n in range(count + (1 if claim.job.task.get("grid") else 0)):
        path = folder / f"picture-{n}.png"
        path.write_bytes(content or png(*size))
        facts = {"width": size[0], "height": size[1], "sheet": n == count}
        facts |= {"seed": 7 + n} if claim.job.kind == "imagine" else {"faces": faces}
        results.append(NewResult(path, path.name, "image/png", facts))
    store.finish(claim, results, seconds)
    return claim


def buttons(message):
    """The custom ids of a message's buttons, by what they show."""
    rows = [row if isinstance(row, dict) else row.to_dict() for row in message.components]
    children = [child for row in rows for child in row["components"]]
    return {child.get("label") or child.get("emoji", {}).get("name"): child["custom_id"] for child in children}


@pytest.fixture(scope="session")
def shared_engine(settings):
    return Engine(settings)


@pytest.fixture
def run_all(studio, clock, shared_engine):
    """Runs all waiting jobs by a real worker, in a thread."""
    worker = Worker(studio.service.store, shared_engine, WorkerOptions(min_free=0, progress_every=0), "w")

    async def run(evening):
        clock.now = time.time()
        while await asyncio.to_thread(worker.run_next):
            pass
        await evening.look()

    return run


def plain(text):
    """A text without the ids in it."""
    return re.sub(r"\d{16,}|[0-9a-f]{32}", "N", text)


def noise(height, width=None):
    """A picture that PNG cannot make smaller: three bytes a pixel."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width or height, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


async def picture(message):
    (file,) = message.attachments
    return Image.open(io.BytesIO(await file.read()))
