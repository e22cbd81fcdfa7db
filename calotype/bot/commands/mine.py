"""What people ask about themselves: /queue, /cancel, /info, /show, /settings, /link."""

import asyncio
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from calotype.api.shown import without_paths
from calotype.bot.buttons import job_view
from calotype.bot.interactions import _, answering, language_for, person_of
from calotype.bot.message import filled, job_facts, state
from calotype.bot.studio import Person, grid_of
from calotype.bot.wording import WORDINGS, escaped
from calotype.errors import CalotypeError, Message, Wording, plural
from calotype.jobs.chat import ChatMessage
from calotype.jobs.jobs import Job, NotFound
from calotype.jobs.places import Place
from calotype.tasks.drawing import read_size

if TYPE_CHECKING:
    from calotype.bot.client import Bot

MAX_LISTED = 15  # jobs in a list
CHOICES = 25  # of a list, as Discord has them
SHORT_PROMPT = 80  # characters in a list
MAX_CANCELLED = 10_000  # jobs: more than any queue holds
OPEN = ("queued", "running", "paused")  # states of jobs that have not ended


def add(bot: "Bot") -> None:
    @bot.tree.command(name=_("queue"), description=_("Your jobs that wait or run"))
    async def queue(interaction: discord.Interaction) -> None:
        async with answering(interaction):
            await bot.say(interaction, await queue_text(bot, interaction))

    @bot.tree.command(name=_("cancel"), description=_("Cancel one of your jobs, or all of them"))
    @app_commands.describe(job=_("the job; all of yours where not given"))
    @app_commands.rename(job=_("job"))
    async def cancel(interaction: discord.Interaction, job: app_commands.Range[str, 1, 100] | None = None) -> None:
        async with answering(interaction):
            cancelled = await asyncio.to_thread(cancel_jobs, bot, person_of(interaction), job)
            await bot.say(interaction, cancelled_text(cancelled, WORDINGS[language_for(interaction)]))
            for known in cancelled:
                await bot.follower.update(known.id)

    @bot.tree.command(name=_("info"), description=_("What you may use, and what is used of it"))
    async def info(interaction: discord.Interaction) -> None:
        async with answering(interaction):
            await bot.say(interaction, await asyncio.to_thread(info_text, bot, interaction))

    @bot.tree.command(name=_("show"), description=_("One of your jobs again, with its buttons"))
    @app_commands.describe(job=_("the job"))
    @app_commands.rename(job=_("job"))
    async def show(interaction: discord.Interaction, job: app_commands.Range[str, 1, 100]) -> None:
        async with answering(interaction):
            known = await asyncio.to_thread(own_job, bot, person_of(interaction), job)
            files = []
            if (result := grid_of(known)) is not None:
                hides = await bot.follower.hides(interaction.channel_id)
                files = [(await bot.follower.file(result, interaction.channel_id, hides))[0]]
            text = await asyncio.to_thread(job_facts, known, 1, language_for(interaction))
            view = job_view(known, language_for(interaction)) or discord.utils.MISSING
            await bot.say(interaction, text, files=files, view=view)

    @bot.tree.command(name=_("settings"), description=_("Your model, size, and how buttons and results behave"))
    @app_commands.describe(
        model=_("the model where a prompt names none"),
        size=_("size such as 256 or 320x192; 0: the model's own"),
        remix=_("whether buttons ask for the prompt again"),
        private=_("whether results come as direct messages"),
        presses=_("who may press the buttons of your results"),
    )
    @app_commands.rename(model=_("model"), size=_("size"), remix=_("remix"), private=_("private"), presses=_("presses"))
    @app_commands.choices(
        presses=[
            app_commands.Choice(name=_("everybody"), value="all"),
            app_commands.Choice(name=_("only me"), value="mine"),
        ]
    )
    async def settings(
        interaction: discord.Interaction,
        model: app_commands.Range[str, 1, 100] | None = None,
        size: app_commands.Range[str, 1, 20] | None = None,
        remix: bool | None = None,
        private: bool | None = None,
        presses: str | None = None,
    ) -> None:
        given = {"model": model, "size": size, "remix": remix, "private": private, "presses": presses}
        async with answering(interaction):
            await bot.say(interaction, await asyncio.to_thread(change_settings, bot, interaction, given))

    @bot.tree.command(name=_("link"), description=_("Use the account that you have on the page: one budget for both"))
    @app_commands.describe(code=_("the code from the owner"))
    @app_commands.rename(code=_("code"))
    async def link(interaction: discord.Interaction, code: app_commands.Range[str, 1, 100]) -> None:
        async with answering(interaction):
            text = await asyncio.to_thread(link_account, bot, interaction, code)
            await bot.say(interaction, text)

    @settings.autocomplete("model")
    async def models(interaction: discord.Interaction, current: str) -> list[app_commands.Choice[str]]:
        member = await asyncio.to_thread(bot.studio.chat.member, str(interaction.user.id))
        names = await asyncio.to_thread(bot.studio.models, member)
        found = [name for name in names if current.lower() in name.lower()]
        return [app_commands.Choice(name=name[:100], value=name[:100]) for name in found[:CHOICES]]

    cancel.autocomplete("job")(suggest_jobs(bot))
    show.autocomplete("job")(suggest_jobs(bot))


def suggest_jobs(bot: "Bot") -> Any:
    """Suggests the latest jobs of the person while an option is typed."""

    async def jobs(interaction: discord.Interaction, current: str) -> list[app_commands.Choice[str]]:
        found = await asyncio.to_thread(latest, bot, person_of(interaction), current)
        wording = WORDINGS[language_for(interaction)]
        return [app_commands.Choice(name=title(job, wording)[:100], value=job.id) for job in found]

    return jobs


def title(job: Job, wording: Wording) -> str:
    """A job in a few words."""
    prompt = job.task.get("prompt", job.kind)[:SHORT_PROMPT]
    return f"{prompt} – {without_paths(wording.fill(state(job)))}"


def latest(bot: "Bot", person: Person, text: str) -> list[Job]:
    """The latest jobs of a person with these words."""
    member = bot.studio.chat.member(person.id)
    if member is None:
        return []
    return bot.studio.service.store.find(member.account.id, limit=CHOICES, text=text)


def own_job(bot: "Bot", person: Person, job_id: str) -> Job:
    """A job of this person. Raises NotFound."""
    member = bot.studio.member(person)
    return bot.studio.service.store.get(job_id.strip(), member.account.id)


async def queue_text(bot: "Bot", interaction: discord.Interaction) -> str:
    wording = WORDINGS[language_for(interaction)]
    found = await asyncio.to_thread(waiting_jobs, bot, person_of(interaction))
    lines = []
    for job, place, message in found:
        prompt = short_prompt(job)
        if message is not None and message.message.isdecimal():
            prompt = f"[{prompt}]({await bot.channels.address(message.channel, message.message)})"
        lines.append(f"{prompt} – {without_paths(wording.fill(state(job, place)))}")
    return "\n".join(lines) or wording.translate("None of your jobs waits or runs.")


def waiting_jobs(bot: "Bot", person: Person) -> list[tuple[Job, Place | None, ChatMessage | None]]:
    """The jobs of a person that have not ended, in their order; a job of the page has no message."""
    studio = bot.studio
    owner, store = studio.member(person).account.id, studio.service.store
    places = {place.job: place for place in store.places(owner)}
    jobs = store.find(owner, OPEN, limit=MAX_LISTED)
    jobs.sort(key=lambda job: places[job.id].ahead if job.id in places else -1)
    return [(job, places.get(job.id), message_of(bot, job)) for job in jobs]


def message_of(bot: "Bot", job: Job) -> ChatMessage | None:
    try:
        return bot.studio.chat.message(job.id)
    except NotFound:
        return None


def short_prompt(job: Job) -> str:
    return escaped(job.task.get("prompt", job.kind)[:SHORT_PROMPT])


def cancel_jobs(bot: "Bot", person: Person, job_id: str | None) -> list[Job]:
    """Cancels one job of a person, or all that have not ended. Raises NotFound."""
    member, store = bot.studio.member(person), bot.studio.service.store
    jobs = [own_job(bot, person, job_id)] if job_id else store.find(member.account.id, OPEN, limit=MAX_CANCELLED)
    return [store.cancel(job.id, member.account.id) for job in reversed(jobs) if not job.is_finished]


def cancelled_text(jobs: list[Job], wording: Wording) -> str:
    """How many jobs were cancelled, and which, oldest first."""
    if not jobs:
        return wording.translate("None of your jobs waits or runs.")
    lines = [wording.fill(plural(len(jobs), "1 job is cancelled", "{count} jobs are cancelled"))]
    lines += [short_prompt(job) for job in jobs[:MAX_LISTED]]
    if (rest := len(jobs) - MAX_LISTED) > 0:
        lines.append(wording.fill(plural(rest, "and 1 more", "and {count} more")))
    return "\n".join(lines)


def info_text(bot: "Bot", interaction: discord.Interaction) -> str:
    studio, wording = bot.studio, WORDINGS[language_for(interaction)]
    member = studio.member(person_of(interaction))
    caller = studio.caller(member)
    budget, counts = caller.budget, studio.service.store.counts(caller.owner)
    used = studio.service.spent(caller)
    values = {"used": used, "limit": budget.seconds}
    if budget.seconds is None:
        line = Message("{used:.0f} device seconds used today, without limit", used=used)
    elif budget.is_daily:
        line = Message("{used:.0f} of {limit:g} device seconds used today", **values)
    else:
        line = Message("{used:.0f} of {limit:g} device seconds of your trial used", **values)
    jobs = Message(
        "{waiting} of {queued} jobs wait, {running} of {most} run",
        waiting=counts.get("queued", 0) + counts.get("paused", 0),
        queued=budget.queued,
        running=counts.get("running", 0),
        most=budget.running,
    )
    account = Message("account {name}", name=member.account.name)
    return "\n".join(wording.fill(part) for part in (account, line, jobs))


def change_settings(bot: "Bot", interaction: discord.Interaction, given: dict[str, Any]) -> str:
    """Changes what is given, and lists all settings. Raises CalotypeError."""
    studio, wording = bot.studio, WORDINGS[language_for(interaction)]
    person = person_of(interaction)
    member = studio.member(person)
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("size") == "0":
        given["size"] = ""
    read_size(given.get("size", ""), "size")
    if "model" in given and given["model"] not in studio.models(member):
        raise CalotypeError("no model is named {name}", name=given["model"], option="model")
    options = {**member.options, **given}
    if given:
        studio.chat.change_member(person.id, options=options)
    row = studio.rows["default"]
    switch = {True: wording.translate("yes"), False: wording.translate("no")}
    presses = {"mine": wording.translate("only me")}.get(options.get("presses"), wording.translate("everybody"))
    values = {
        "model": options.get("model") or row.model,
        "size": options.get("size") or str(row.size),
        "remix": switch[bool(options.get("remix"))],
        "private": switch[bool(options.get("private"))],
        "presses": presses,
    }
    return "\n".join(f"{wording.translate(name)}: **{value}**" for name, value in values.items())


def link_account(bot: "Bot", interaction: discord.Interaction, code: str) -> str:
    studio, person = bot.studio, person_of(interaction)
    studio.admit(person)
    member = studio.chat.link(person.id, code)
    return filled(language_for(interaction), Message("linked to the account {name}", name=member.account.name))
