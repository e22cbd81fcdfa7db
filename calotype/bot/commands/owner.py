"""The owner's commands: /grant, /invite, /ban, /stats, /channel."""

import asyncio
import re
from typing import TYPE_CHECKING

import discord
from discord import app_commands

from calotype.bot.interactions import _, answering, as_person, language_for, place_of
from calotype.bot.message import filled
from calotype.bot.studio import Person
from calotype.bot.wording import WORDINGS, BotWording, escaped
from calotype.errors import CalotypeError, Message, plural
from calotype.jobs.account import TRIAL_SECONDS
from calotype.jobs.figures import UsageFigures, Use
from calotype.jobs.users import CHAT_NAME
from calotype.options import nearest

if TYPE_CHECKING:
    from calotype.bot.client import Bot

MAX_STATS = 1850  # characters of /stats, besides the line that counts the rest
ID = re.compile(r"[0-9]{16,19}")
LIMITED = ("imagine", "blend", "restore", "upscale", "describe", "train")  # commands that a channel may be without


def add(bot: "Bot") -> None:
    @bot.tree.command(name=_("grant"), description=_("Device seconds a day for a person or a role (owner)"))
    @app_commands.describe(
        whom=_("a person or a role"),
        seconds=_("device seconds a day; no limit where not given"),
        usual=_("instead, as much as the bot's settings give"),
    )
    @app_commands.rename(whom=_("whom"), seconds=_("seconds"), usual=_("usual"))
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.guild_only()
    async def grant(
        interaction: discord.Interaction,
        whom: discord.User | discord.Role,
        seconds: app_commands.Range[float, 0.0, 1e9] | None = None,
        usual: bool = False,
    ) -> None:
        async with answering(interaction):
            check_owner(bot, interaction)
            amount = await asyncio.to_thread(give, bot, whom, seconds, usual)
            line = Message("{whom}: {amount}", whom=whom.mention, amount=amount)
            await bot.say(interaction, filled(language_for(interaction), line))

    @bot.tree.command(name=_("invite"), description=_("An invitation for newcomers, who share a trial (owner)"))
    @app_commands.describe(people=_("how many may use it"), seconds=_("device seconds of all of them together"))
    @app_commands.rename(people=_("people"), seconds=_("seconds"))
    @app_commands.default_permissions(manage_guild=True)
    async def invite(
        interaction: discord.Interaction,
        people: app_commands.Range[int, 1, 1000] = 1,
        seconds: app_commands.Range[float, 0.0, 1e9] = TRIAL_SECONDS,
    ) -> None:
        async with answering(interaction):
            check_owner(bot, interaction)
            code = await asyncio.to_thread(bot.studio.service.accounts.invite, people, seconds)
            line = plural(
                people,
                "Send this to whom you invite: `/link {code}`. One newcomer has {seconds:g} device seconds with it.",
                "Send this to whom you invite: `/link {code}`. {count} newcomers have {seconds:g} device seconds with "
                "it, together.",
                code=code,
                seconds=seconds,
            )
            await bot.say(interaction, filled(language_for(interaction), line))

    @bot.tree.command(name=_("ban"), description=_("Close the bot for a person, or open it again (owner)"))
    @app_commands.describe(
        person=_("the person"), id=_("or the id of somebody who left the server"), off=_("open it again")
    )
    @app_commands.rename(person=_("person"), id=_("id"), off=_("off"))
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.guild_only()
    async def ban(
        interaction: discord.Interaction,
        person: discord.User | None = None,
        id: app_commands.Range[str, 1, 25] | None = None,
        off: bool = False,
    ) -> None:
        async with answering(interaction):
            check_owner(bot, interaction)
            whom = as_person(person) if person else somebody(id)
            await asyncio.to_thread(close, bot, whom, not off)
            bot.follower.wake()
            template = "the bot is open for {whom}" if off else "the bot is closed for {whom}"
            await bot.say(interaction, filled(language_for(interaction), Message(template, whom=f"<@{whom.id}>")))

    @bot.tree.command(name=_("stats"), description=_("Who used what (owner)"))
    @app_commands.describe(days=_("today, and so many days; 30 where not given"))
    @app_commands.rename(days=_("days"))
    @app_commands.default_permissions(manage_guild=True)
    async def stats(interaction: discord.Interaction, days: app_commands.Range[int, 2, 365] = 30) -> None:
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


def give(bot: "Bot", whom: discord.User | discord.Member | discord.Role, seconds: float | None, usual: bool) -> Message:
    """Gives device seconds a day to a person or a role. Returns what they have now."""
    studio = bot.studio
    if isinstance(whom, discord.Role):
        studio.chat.grant_role(str(whom.id), seconds, studio.terms(), is_usual=usual)
    else:
        member = studio.visit(as_person(whom))
        studio.chat.grant(str(whom.id), seconds, studio.terms(), is_usual=usual)
        if usual and not member.is_own:
            return Message(
                "what the settings of the bot give, once /unlink has ended the link to the account {name} of the page; "
                "that account stays as it is",
                name=member.account.name,
            )
    if usual:
        return Message("what the settings of the bot give")
    return Message("no limit") if seconds is None else Message("{seconds:g} device seconds a day", seconds=seconds)


def somebody(id: str | None) -> Person:
    """A person by the id, who may be on no server of the bot. Raises CalotypeError."""
    if id is None or not ID.fullmatch(id.strip()):
        raise CalotypeError("name a person, or the person's id, a number of about 18 digits")
    return Person(id.strip(), discord.utils.snowflake_time(int(id)).timestamp())


def close(bot: "Bot", person: Person, is_banned: bool) -> None:
    """Bans a person, whose jobs are cancelled, or opens the bot again. What the person may use, and has used, stays."""
    chat, store = bot.studio.chat, bot.studio.service.store
    bot.studio.visit(person)
    chat.change_member(person.id, is_banned=is_banned)
    if is_banned:
        for job in chat.open_jobs(person.id):
            store.cancel(job)


def stats_text(bot: "Bot", days: int, language: str) -> str:
    """Who used what today and in some days: as many people as a message has room for, the most used ones first."""
    wording = WORDINGS[language]
    found = bot.studio.chat.figures(1, days)
    if not found:
        return wording.translate("Nobody has used the bot in this time.")
    lines = [wording.fill(Message("{count} people", count=len(found))) if len(found) > 1 else ""]
    for count in (1, days):
        total = Use(sum(f.uses[count].seconds for f in found), sum(f.uses[count].pictures for f in found))
        for figure in found:
            for kind, number in figure.uses[count].jobs.items():
                total.jobs[kind] = total.jobs.get(kind, 0) + number
        lines.append(wording.fill(use_line(count, total, wording)))
    text = "\n".join(filter(None, lines))
    for number, figure in enumerate(found):
        block = "\n".join(
            [f"**{who(figure, wording)}**", *(wording.fill(use_line(n, figure.uses[n], wording)) for n in (1, days))]
        )
        rest = plural(len(found) - number, "and 1 more person", "and {count} more people")
        if len(text) + len(block) + 2 > MAX_STATS:
            return f"{text}\n{wording.fill(rest)}"
        text += f"\n{block}"
    return text


def who(figure: UsageFigures, wording: BotWording) -> str:
    """The names of an account, on Discord and on the page."""
    people = ", ".join(escaped(name) for name in figure.people)
    if not figure.name:
        return wording.translate("without login")
    if figure.name.startswith(CHAT_NAME):
        return people or escaped(figure.name)
    name = escaped(figure.name)
    return wording.fill(Message("{name} ({people} on Discord)", name=name, people=people)) if people else name


def use_line(days: int, use: Use, wording: BotWording) -> Message:
    span = plural(days, "today", "{count} days")
    pictures = plural(use.pictures, "1 picture", "{count} pictures")
    values = {"span": span, "seconds": use.seconds, "pictures": pictures}
    if not use.jobs:
        return Message("{span}: {seconds:.1f} device seconds, {pictures}", **values)
    jobs = ", ".join(f"{wording.task(kind)} {count}" for kind, count in sorted(use.jobs.items()))
    return Message("{span}: {seconds:.1f} device seconds, {pictures} ({jobs})", **values, jobs=jobs)


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
