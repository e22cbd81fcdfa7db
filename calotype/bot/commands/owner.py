"""The owner's commands: /grant, /ban, /stats, /channel."""

import asyncio
from typing import TYPE_CHECKING

import discord
from discord import app_commands

from calotype.bot.interactions import _, answering, language_for, place_of
from calotype.bot.message import filled
from calotype.bot.wording import WORDINGS
from calotype.errors import CalotypeError, Message, plural
from calotype.jobs.account import Allowance
from calotype.options import nearest

if TYPE_CHECKING:
    from calotype.bot.client import Bot

MAX_LISTED = 20  # people in the figures
LIMITED = ("imagine", "blend", "restore", "upscale", "describe", "train")  # commands that a channel may be without


def add(bot: "Bot") -> None:
    @bot.tree.command(name=_("grant"), description=_("Device seconds a day for a person or a role (owner)"))
    @app_commands.describe(whom=_("a person or a role"), seconds=_("device seconds a day; no limit where not given"))
    @app_commands.rename(whom=_("whom"), seconds=_("seconds"))
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.guild_only()
    async def grant(
        interaction: discord.Interaction,
        whom: discord.Member | discord.Role,
        seconds: app_commands.Range[float, 0.0, 1e9] | None = None,
    ) -> None:
        async with answering(interaction):
            check_owner(bot, interaction)
            await asyncio.to_thread(give, bot, whom, seconds)
            amount = (
                Message("no limit") if seconds is None else Message("{seconds:g} device seconds a day", seconds=seconds)
            )
            line = Message("{whom}: {amount}", whom=whom.mention, amount=amount)
            await bot.say(interaction, filled(language_for(interaction), line))

    @bot.tree.command(name=_("ban"), description=_("Close the bot for a person, or open it again (owner)"))
    @app_commands.describe(person=_("the person"), off=_("open it again"))
    @app_commands.rename(person=_("person"), off=_("off"))
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.guild_only()
    async def ban(interaction: discord.Interaction, person: discord.Member, off: bool = False) -> None:
        async with answering(interaction):
            check_owner(bot, interaction)
            cancelled = await asyncio.to_thread(close, bot, str(person.id), not off)
            for job in cancelled:
                await bot.follower.update(job)
            line = Message("the bot is open for {whom}" if off else "the bot is closed for {whom}", whom=person.mention)
            await bot.say(interaction, filled(language_for(interaction), line))

    @bot.tree.command(name=_("stats"), description=_("Who used what (owner)"))
    @app_commands.describe(days=_("of how many days; 1 where not given"))
    @app_commands.rename(days=_("days"))
    @app_commands.default_permissions(manage_guild=True)
    async def stats(interaction: discord.Interaction, days: app_commands.Range[int, 1, 365] = 1) -> None:
        async with answering(interaction):
            check_owner(bot, interaction)
            await bot.say(interaction, await asyncio.to_thread(stats_text, bot, days, language_for(interaction)))

    @bot.tree.command(name=_("channel"), description=_("Which commands and models this channel takes (owner)"))
    @app_commands.describe(
        commands=_("names such as imagine,upscale; all: every command"),
        models=_("names of models, separated by commas; all: every model"),
        spoiler=_("whether pictures are covered until they are clicked"),
    )
    @app_commands.rename(commands=_("commands"), models=_("models"), spoiler=_("spoiler"))
    @app_commands.default_permissions(manage_guild=True)
    async def channel(
        interaction: discord.Interaction,
        commands: app_commands.Range[str, 1, 200] | None = None,
        models: app_commands.Range[str, 1, 1000] | None = None,
        spoiler: bool | None = None,
    ) -> None:
        async with answering(interaction):
            check_owner(bot, interaction)
            text = await asyncio.to_thread(set_channel, bot, interaction, commands, models, spoiler)
            await bot.say(interaction, text)


def check_owner(bot: "Bot", interaction: discord.Interaction) -> None:
    if not bot.is_owner(interaction):
        raise CalotypeError("this command is for the owner of the bot")


def give(bot: "Bot", whom: discord.Member | discord.Role, seconds: float | None) -> None:
    chat = bot.studio.chat
    if isinstance(whom, discord.Role):
        chat.set_options(f"role-{whom.id}", {"seconds": seconds})
        return
    member = chat.open_account(str(whom.id), Allowance(seconds=seconds))
    chat.grant(member, seconds)


def close(bot: "Bot", person: str, is_banned: bool) -> list[str]:
    """Bans a person, whose jobs are cancelled. Returns the ids of these jobs."""
    chat, store = bot.studio.chat, bot.studio.service.store
    member = chat.open_account(person, Allowance(seconds=bot.studio.settings.daily_seconds))
    chat.change_member(person, is_banned=is_banned)
    if not is_banned:
        return []
    jobs = store.find(member.account.id, ("queued", "running", "paused"), limit=1000) if member.is_own else []
    return [store.cancel(job.id).id for job in jobs]


def stats_text(bot: "Bot", days: int, language: str) -> str:
    wording = WORDINGS[language]
    rows = bot.studio.chat.figures(days)
    if not rows:
        return wording.translate("Nobody has used the bot in this time.")
    lines = []
    for person, count, seconds in rows[:MAX_LISTED]:
        jobs = plural(count, "1 job", "{count} jobs")
        line = Message("{whom}: {jobs}, {seconds:.1f} device seconds", whom=f"<@{person}>", jobs=jobs, seconds=seconds)
        lines.append(wording.fill(line))
    count, seconds = sum(row[1] for row in rows), sum(row[2] for row in rows)
    jobs = plural(count, "1 job", "{count} jobs")
    total = Message("all: {jobs}, {seconds:.1f} device seconds", jobs=jobs, seconds=seconds)
    return "\n".join([*lines, wording.fill(total)])


def set_channel(
    bot: "Bot", interaction: discord.Interaction, commands: str | None, models: str | None, spoiler: bool | None
) -> str:
    """Changes what is given, and says what holds in the channel. Raises CalotypeError."""
    chat, id = bot.studio.chat, f"channel-{place_of(interaction).ruling_channel}"
    options = chat.options(id)
    if commands is not None:
        options["commands"] = chosen(commands, LIMITED)
    if models is not None:
        options["models"] = chosen(models, bot.studio.models())
    if spoiler is not None:
        options["spoiler"] = spoiler
    chat.set_options(id, options)
    wording = WORDINGS[language_for(interaction)]
    every = wording.translate("all")
    switch = wording.translate("yes") if options.get("spoiler") else wording.translate("no")
    values = {
        "commands": ", ".join(options.get("commands") or ()) or every,
        "models": ", ".join(options.get("models") or ()) or every,
        "spoiler": switch,
    }
    return "\n".join(f"{wording.translate(name)}: **{value}**" for name, value in values.items())


def chosen(text: str, known: "tuple[str, ...] | list[str]") -> list[str]:
    """Names separated by commas; none of them for "all". Raises CalotypeError for one that is not known."""
    names = [name.strip().lstrip("/") for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return []
    for name in names:
        if name not in known:
            raise CalotypeError("there is no {name}{hint}", name=name, hint=nearest(name, known))
    return names
