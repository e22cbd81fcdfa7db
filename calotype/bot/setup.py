"""Starting the bot."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator

import discord

from calotype.api.service import Service
from calotype.api.settings import ServiceSettings
from calotype.bot.channels import UNREACHED
from calotype.bot.check import Findings, findings
from calotype.bot.client import INTENTS, Bot
from calotype.bot.commands import new_bot
from calotype.bot.delivery import is_for_later
from calotype.bot.settings import BotSettings, read_rows
from calotype.bot.studio import Studio
from calotype.errors import CalotypeError, Message
from calotype.jobs.chat import Chat
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts
from calotype.settings import Settings

LOG = logging.getLogger("calotype.bot")
FIRST_WAIT, LONGEST_WAIT = 5.0, 300.0  # seconds between two tries to log in
CHECK_SECONDS = 60.0
REFUSED_TOKEN = 4004  # close code of the gateway


def new_studio(store: JobStore, settings: Settings, bot_settings: BotSettings, *, has_tagger: bool = False) -> Studio:
    """What the bot does in a job store. Raises CalotypeError if the table of models is not valid.

    Args:
        has_tagger: whether workers have one, for tags of pictures.
    """
    read_rows(settings.home)
    accounts = Accounts(store.database)
    service = Service(store, settings, ServiceSettings(), accounts, has_tagger)
    studio = Studio(service, Chat(store.database, accounts), bot_settings)
    studio.chat.settle(studio.terms())
    return studio


def run(studio: Studio, token: str) -> None:
    """Runs the bot until SIGINT or SIGTERM. Raises CalotypeError if Discord does not accept the token."""
    asyncio.run(_run(studio, token))


async def _run(studio: Studio, token: str) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, task.cancel)
    with _as_sentence(), contextlib.suppress(asyncio.CancelledError):
        bot = await _logged_in(studio, token)
        try:
            await bot.connect()
        finally:
            await bot.close()


async def _logged_in(studio: Studio, token: str) -> Bot:
    """A bot that Discord knows. While Discord cannot be reached, as after a power cut, it tries again."""
    wait = FIRST_WAIT
    while True:
        bot = new_bot(studio)
        try:
            await bot.login(token)
            return bot
        except BaseException as fault:
            await bot.close()
            if not is_for_later(fault):
                raise
            LOG.warning("Discord cannot be reached, the next try is in %g s: %s", wait, fault)
        await asyncio.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


def check(settings: Settings, token: str) -> Findings:
    """What is missing for the bot. Nothing is changed.

    Raises:
        CalotypeError: the token or the table of models is not valid, or Discord cannot be reached.
    """
    read_rows(settings.home)

    async def ask() -> Findings:
        async with discord.Client(intents=INTENTS) as client:
            await client.login(token)
            return await findings(client)

    async def ask_in_time() -> Findings:
        try:
            return await asyncio.wait_for(ask(), CHECK_SECONDS)
        except TimeoutError:
            reason = Message("no answer within {seconds:g} s", seconds=CHECK_SECONDS)
            raise CalotypeError("Discord cannot be reached: {reason}", reason=reason) from None

    with _as_sentence():
        return asyncio.run(ask_in_time())


@contextlib.contextmanager
def _as_sentence() -> Iterator[None]:
    """What Discord refuses, without the token."""
    refused = CalotypeError("Discord does not accept the token; make a new one on the page of the app")
    try:
        yield
    except discord.LoginFailure:
        raise refused from None
    except discord.PrivilegedIntentsRequired:
        raise CalotypeError("the bot asks for an intent that the page of the app does not allow; allow it") from None
    except discord.ConnectionClosed as fault:
        if fault.code == REFUSED_TOKEN:
            raise refused from None
        raise CalotypeError("Discord cannot be reached: {reason}", reason=str(fault)) from None
    except UNREACHED as fault:
        raise CalotypeError("Discord cannot be reached: {reason}", reason=str(fault)) from None


def set_up_log(quiet: bool) -> None:
    """Warnings on standard error, without prompts and tokens."""
    for name in ("calotype.bot", "discord"):
        log = logging.getLogger(name)
        log.setLevel(logging.ERROR if quiet else logging.WARNING)
        if not log.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            log.addHandler(handler)
