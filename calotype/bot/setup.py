"""Starting the bot, and what may be missing for it."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator

import discord

from calotype.api.service import Service
from calotype.api.settings import ServiceSettings
from calotype.bot.client import Bot
from calotype.bot.commands import new_bot
from calotype.bot.settings import BotSettings, read_rows
from calotype.bot.studio import Studio
from calotype.errors import CalotypeError, Message
from calotype.jobs.chat import Chat
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts
from calotype.settings import Settings

NEEDED = {
    "view_channel": Message("see the channel"),
    "send_messages": Message("send messages"),
    "attach_files": Message("attach files"),
    "read_message_history": Message("read older messages"),
}  # permissions, and what they are called
READY_SECONDS = 30.0


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
    asyncio.run(_run(new_bot(studio), token))


async def _run(bot: Bot, token: str) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, task.cancel)
    with _as_sentence():
        async with bot:
            with contextlib.suppress(asyncio.CancelledError):
                await bot.start(token)


def check(studio: Studio, token: str) -> list[Message]:
    """Connects, and says what is missing; nothing if all is well. Raises CalotypeError for a wrong token."""

    async def connect() -> list[Message]:
        bot = new_bot(studio)
        with _as_sentence():
            async with bot:
                running = asyncio.create_task(bot.start(token))
                ready = asyncio.create_task(bot.wait_until_ready())
                done, _ = await asyncio.wait((running, ready), timeout=READY_SECONDS, return_when="FIRST_COMPLETED")
                if running in done:
                    await running
                if not done:
                    raise CalotypeError("Discord did not answer within {seconds:g} s; try again", seconds=READY_SECONDS)
                return missing(bot)

    return asyncio.run(connect())


def missing(bot: discord.Client) -> list[Message]:
    """What a connected bot lacks."""
    if not bot.guilds:
        return [Message("the bot is on no server yet; open its invitation address: {address}", address=invitation(bot))]
    found = []
    for guild in bot.guilds:
        for name, words in NEEDED.items():
            if not getattr(guild.me.guild_permissions, name):
                template = "on {guild}, the bot may not {permission}; give its role that permission"
                found.append(Message(template, guild=guild.name, permission=words))
    return found


def invitation(bot: discord.Client) -> str:
    """The address that adds the bot to a server, with what it needs."""
    permissions = discord.Permissions(**dict.fromkeys(NEEDED, True))
    return discord.utils.oauth_url(
        bot.application_id or 0, permissions=permissions, scopes=("bot", "applications.commands")
    )


@contextlib.contextmanager
def _as_sentence() -> Iterator[None]:
    """What Discord refuses, without the token."""
    try:
        yield
    except discord.LoginFailure:
        raise CalotypeError("Discord does not accept the token; make a new one on the page of the app") from None
    except discord.PrivilegedIntentsRequired:
        raise CalotypeError("the bot asks for an intent that the page of the app does not allow; allow it") from None
    except (discord.HTTPException, discord.GatewayNotFound, OSError) as fault:
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
