"""What people ask about themselves: /queue, /cancel, /info, /show, /settings, /link, /unlink."""

import asyncio
import math
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from calotype.api.shown import without_paths
from calotype.bot.interactions import _, answering, language_for, person_of
from calotype.bot.message import filled, heading, state, waiting
from calotype.bot.studio import Person, Studio
from calotype.bot.wording import WORDINGS, BotWording, escaped, listed
from calotype.errors import CalotypeError, Message, duration, plural
from calotype.jobs.chat import ChatMember, ChatMessage
from calotype.jobs.jobs import PAUSED, QUEUED, RUNNING, Job, NotFound
from calotype.jobs.places import Place
from calotype.jobs.usage import DAY, renewed
from calotype.tasks.drawing import read_size

if TYPE_CHECKING:
    from calotype.bot.client import Bot

MAX_FOUND = 1000  # jobs
CHOICES = 25  # of a list, as Discord has them
MAX_NAMES = 300  # characters of the names of cancelled jobs
SHORT_PROMPT = 80  # characters in a list
OPEN = (QUEUED, RUNNING, PAUSED)  # states of jobs that have not ended


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
            bot.follower.wake()
            await bot.say(interaction, cancelled_text(cancelled, WORDINGS[language_for(interaction)]))

    @bot.tree.command(name=_("info"), description=_("What you may use, and what is used of it"))
    async def info(interaction: discord.Interaction) -> None:
        async with answering(interaction):
            await bot.say(interaction, await asyncio.to_thread(info_text, bot, interaction))

    @bot.tree.command(name=_("show"), description=_("One of your jobs again, with its buttons"))
    @app_commands.describe(job=_("the job"))
    @app_commands.rename(job=_("job"))
    async def show(interaction: discord.Interaction, job: app_commands.Range[str, 1, 100]) -> None:
        async with answering(interaction):
            await asyncio.to_thread(bot.studio.admit_alone, person_of(interaction))
            known = await asyncio.to_thread(own_job, bot, person_of(interaction), job)
            await bot.show(interaction, known)

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

    @bot.tree.command(
        name=_("link"), description=_("Use your account of the page: one budget for both; or take an invitation")
    )
    @app_commands.describe(code=_("the code or the invitation from the owner"))
    @app_commands.rename(code=_("code"))
    async def link(interaction: discord.Interaction, code: app_commands.Range[str, 1, 100]) -> None:
        async with answering(interaction):
            text = await asyncio.to_thread(link_account, bot, interaction, code)
            await bot.say(interaction, text)

    @bot.tree.command(name=_("unlink"), description=_("Use your own account on Discord again, not that of the page"))
    async def unlink(interaction: discord.Interaction) -> None:
        async with answering(interaction):
            await bot.say(interaction, await asyncio.to_thread(unlink_account, bot, interaction))

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


def title(job: Job, wording: BotWording) -> str:
    """A job in a few words."""
    prompt = str(job.task.get("prompt", ""))[:SHORT_PROMPT] or heading(job, wording)
    return f"{prompt} – {without_paths(wording.fill(state(job)))}"


def latest(bot: "Bot", person: Person, text: str) -> list[Job]:
    """The latest jobs of a person with these words."""
    member = bot.studio.chat.member(person.id)
    if member is None:
        return []
    return bot.studio.service.store.find(member.account.id, limit=CHOICES, text=text)


def own_job(bot: "Bot", person: Person, job_id: str) -> Job:
    """A job of this person: of the account, or given on Discord while another account was linked. Raises NotFound."""
    studio, member = bot.studio, bot.studio.member(person)
    job = studio.service.store.get(job_id.strip())
    if job.owner != member.account.id:
        message = studio.chat.messages((job.id,)).get(job.id)
        if message is None or message.member != person.id:
            raise NotFound("there is no such job")
    return job


async def queue_text(bot: "Bot", interaction: discord.Interaction) -> str:
    """The jobs of a person that have not ended, those that run or are next first: as many as a message has room for."""
    wording = WORDINGS[language_for(interaction)]
    found = await asyncio.to_thread(waiting_jobs, bot, person_of(interaction))
    lines = []
    for job, place, message in found:
        prompt = short_prompt(job, wording)
        if message is not None and (where := await bot.address_of(message.channel, message.message)):
            prompt = f"[{prompt}]({where})"
        lines.append(f"{prompt} – {without_paths(wording.fill(state(job, place)))}")
    return listed(lines, wording.language) if lines else wording.translate("None of your jobs waits or runs.")


def waiting_jobs(bot: "Bot", person: Person) -> list[tuple[Job, Place | None, ChatMessage | None]]:
    """The jobs of a person that have not ended, in their order; a job of the page has no message."""
    studio = bot.studio
    owner, store = studio.admit_alone(person).account.id, studio.service.store
    places = {place.job: place for place in store.places(owner)}
    jobs = store.find(owner, OPEN, limit=MAX_FOUND)
    jobs.sort(key=lambda job: (places[job.id].ahead if job.id in places else -1, job.created))
    messages = studio.chat.messages([job.id for job in jobs])
    return [(job, places.get(job.id), messages.get(job.id)) for job in jobs]


def short_prompt(job: Job, wording: BotWording) -> str:
    """A job in few words: its prompt, or what it is."""
    prompt = str(job.task.get("prompt", ""))
    return escaped(prompt, SHORT_PROMPT) if prompt else heading(job, wording)


def cancel_jobs(bot: "Bot", person: Person, job_id: str | None) -> list[Job]:
    """Cancels one job of a person, or all that were given on Discord and have not ended. Oldest first.

    Raises:
        NotFound: the person has no such job.
    """
    studio = bot.studio
    studio.admit_alone(person)
    ids = [own_job(bot, person, job_id).id] if job_id else studio.chat.open_jobs(person.id)
    jobs = studio.service.store.find(ids=ids, limit=len(ids))
    return [studio.service.store.cancel(job.id) for job in reversed(jobs) if not job.is_finished]


def cancelled_text(jobs: list[Job], wording: BotWording) -> str:
    """How many jobs were cancelled, and which, oldest first."""
    if not jobs:
        return wording.translate("None of your jobs waits or runs.")
    lines = [wording.fill(plural(len(jobs), "1 job is cancelled", "{count} jobs are cancelled"))]
    return listed(lines + [short_prompt(job, wording) for job in jobs], wording.language, MAX_NAMES)


def info_text(bot: "Bot", interaction: discord.Interaction) -> str:
    """The budget of a person, and the queue."""
    studio, wording = bot.studio, WORDINGS[language_for(interaction)]
    person = person_of(interaction)
    member = studio.admit_alone(person)
    account = Message("your own account for Discord")
    if not member.is_own:
        account = Message("account {name} of the page", name=member.account.name)
    lines = [account, *budget_lines(bot.studio, person, member), *queue_lines(bot.studio, member)]
    return "\n".join(wording.fill(line) for line in lines)


def budget_lines(studio: Studio, person: Person, member: ChatMember) -> list[Message]:
    """What a person may use and has used, and when there is more."""
    caller, now = studio.caller(member), studio.clock()
    budget, used = caller.budget, studio.service.spent(caller)
    if budget.seconds is None:
        return [Message("{used:.0f} device seconds used today, without limit", used=used)]
    if budget.is_daily:
        return [
            Message(
                "{used:.0f} of {limit:g} device seconds used today; a new budget begins in {time}",
                used=used,
                limit=budget.seconds,
                time=duration(renewed(now) - now),
            )
        ]
    limit = budget.seconds
    lines = [Message("{used:.0f} of {limit:g} device seconds of your trial used", used=used, limit=limit)]
    count = studio.service.accounts.sharing(member.account.invitation)
    if count > 1:
        lines[0] = Message(
            "{used:.0f} of {limit:g} device seconds used, of a trial that {count} accounts share",
            used=used,
            limit=limit,
            count=count,
        )
    if member.is_own and (ends := studio.trial_ends(person)) is not None:
        days = plural(max(1, math.ceil((ends - now) / DAY)), "1 day", "{count} days")
        daily = studio.settings.daily_seconds
        template = "your trial ends in {time}; then you have {seconds:g} device seconds a day"
        lines.append(Message(template, time=days, seconds=daily))
    return lines


def queue_lines(studio: Studio, member: ChatMember) -> list[Message]:
    """How many jobs a person has, and how long the next one waits."""
    store, budget = studio.service.store, member.account.budget
    counts, places = store.counts(member.account.id), store.places(member.account.id)
    values = {"waiting": counts.get("queued", 0) + counts.get("paused", 0), "running": counts.get("running", 0)}
    template = "{waiting} of {queued} jobs wait, {running} of {most} run"
    lines = [Message(template, **values, queued=budget.queued, most=budget.running)]
    if places:
        lines.append(Message("your next job: {state}", state=waiting(places[0])))
    return lines


def change_settings(bot: "Bot", interaction: discord.Interaction, given: dict[str, Any]) -> str:
    """Changes what is given, and lists all settings. Raises CalotypeError."""
    studio, wording = bot.studio, WORDINGS[language_for(interaction)]
    person = person_of(interaction)
    member = studio.admit_alone(person)
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("size") == "0":
        given["size"] = ""
    read_size(given.get("size", ""), "size")
    if "model" in given and given["model"] not in studio.models(member):
        raise CalotypeError("no model is named {name}", name=given["model"], option="model")
    options = {**member.options, **given}
    if given:
        studio.chat.change_member(person.id, options=options)
        bot.choices[person.id] = options
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
    """Links to the account of a code, or takes an invitation."""
    studio, person = bot.studio, person_of(interaction)
    studio.admit_alone(person)
    if code.strip().startswith("inv_"):
        member = studio.chat.join(person.id, code)
        values = {"used": studio.service.spent(studio.caller(member)), "limit": member.account.budget.seconds}
        line = Message("the invitation is yours: {used:.0f} of its {limit:g} device seconds are used", **values)
    else:
        member = studio.chat.link(person.id, code)
        line = Message("linked to the account {name}: one budget for both", name=member.account.name)
    return filled(language_for(interaction), line)


def unlink_account(bot: "Bot", interaction: discord.Interaction) -> str:
    studio, person = bot.studio, person_of(interaction)
    name = studio.admit_alone(person).account.name
    studio.chat.unlink(person.id)
    line = Message("no longer linked to the account {name}; pictures made meanwhile stay with it", name=name)
    return filled(language_for(interaction), line)
