"""What the message of a job says."""

from collections.abc import Mapping, Sequence
from typing import Any

from calotype.api.shown import without_paths
from calotype.bot.studio import pictures_of
from calotype.bot.tags import tags_of
from calotype.bot.wording import WORDINGS, BotWording, escaped, shortened
from calotype.errors import CalotypeError, Message, duration, plural
from calotype.jobs.chat import ChatMessage
from calotype.jobs.jobs import CANCELLED, DONE, FAILED, PAUSED, QUEUED, Job, is_our_fault
from calotype.jobs.places import Place

MAX_NEGATIVE = 500  # characters of a negative prompt
MAX_TAGS = 1200  # characters
WORDS = {
    "width": "width",
    "height": "height",
    "seed": "seed",
    "model": "model",
    "steps": "steps",
    "guidance": "guidance scale",
    "sampler": "sampler",
}  # of a picture, for /info and its button


def job_text(
    job: Job,
    message: ChatMessage,
    place: Place | None = None,
    notes: Sequence[Message] = (),
    kept: str | CalotypeError = "",
) -> str:
    """The whole text of a message.

    Args:
        place: in the queue, of a waiting job.
        notes: of the picture below.
        kept: the name of the LoRA that was trained, or why it was not kept.
    """
    wording = WORDINGS[message.language]
    lines = [f"{head(job, message, wording)} – <@{message.member}>", filled(message.language, state(job, place))]
    lines += [filled(message.language, note) for note in notes]
    if tags := tags_of(job):
        lines.append(f"```{shortened(tags.replace('`', ''), MAX_TAGS)}```")
    if isinstance(kept, CalotypeError):
        lines.append(filled(message.language, Message("The LoRA is not kept: {reason}", reason=kept)))
    elif kept:
        lines.append(wording.fill(Message("In prompts of yours it is {call}", call=f"`<lora:{kept}:1>`")))
    if message.parent:
        lines.append(wording.fill(Message("From [this message]({address})", address=message.parent)))
    return "\n".join(lines)


def head(job: Job, message: ChatMessage, wording: BotWording) -> str:
    """In bold, what was asked for."""
    text = message.text or str(job.task.get("prompt", ""))
    if job.kind == "imagine":
        return f"**{escaped(text) or heading(job, wording)}**"
    name = f" {escaped(job.task.get('output_name', ''))}" if job.kind == "train_lora" else ""
    return f"**{heading(job, wording)}{name}**"


def heading(job: Job, wording: BotWording) -> str:
    """What a job does, where no prompt says it."""
    return wording.translate("Blended pictures") if "blend" in job.files else wording.title(job.kind)


def state(job: Job, place: Place | None = None) -> Message:
    """How far a job is, or how it ended."""
    if job.requested == "cancel" and not job.is_finished:
        return Message("is being cancelled")
    if job.state == QUEUED:
        return waiting(place)
    if job.state == PAUSED:
        return Message("paused")
    if job.state == DONE:
        return done(job)
    if job.state == FAILED:
        return failed(job)
    if job.state == CANCELLED:
        return Message("cancelled")
    return running(job.progress)


def waiting(place: Place | None) -> Message:
    if place is not None and place.is_over_budget:
        if place.renewed_in is None:
            return Message("waits: the budget is used up; ask the owner for more")
        template = "waits: the budget of today is used up; goes on in {time}"
        return Message(template, time=duration(place.renewed_in))
    if place is None or place.ahead == 0:
        return Message("next in the queue")
    ahead = plural(place.ahead, "1 job before it", "{count} jobs before it")
    if place.seconds is None:
        return ahead
    return Message("{ahead}, about {time}", ahead=ahead, time=duration(place.seconds))


def running(progress: Mapping[str, Any] | None) -> Message:
    if not progress or not progress.get("total"):
        return Message("starting")
    percent = min(99, int(100 * progress["done"] / progress["total"]))
    if progress.get("remaining") is None:
        return Message("{percent} %", percent=percent)
    return Message("{percent} %, about {time} left", percent=percent, time=duration(progress["remaining"]))


def done(job: Job) -> Message:
    found = pictures_of(job)
    if not found:
        return Message("done in {time}", time=duration(job.cost))
    if "seed" not in found[0].facts:
        facts = found[0].facts
        return Message(
            "{width} × {height} pixels, done in {time}",
            width=facts.get("width", "?"),
            height=facts.get("height", "?"),
            time=duration(job.cost),
        )
    return Message("seed {seed}, done in {time}", seed=found[0].facts["seed"], time=duration(job.cost))


def failed(job: Job) -> Message:
    fault = CalotypeError.from_data(job.error)
    template = "failed: {reason}. This is not charged." if is_our_fault(job.error) else "failed: {reason}"
    return Message(template, reason=fault)


def filled(language: str, sentence: Message | CalotypeError | str) -> str:
    """A sentence in a language of the bot, without paths of this computer."""
    return without_paths(WORDINGS[language].fill(sentence))


def short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def job_facts(job: Job, index: int, language: str) -> str:
    """One picture of a job in a few lines: options, seed, cost."""
    wording = WORDINGS[language]
    found = pictures_of(job)
    facts = dict(found[index - 1].facts) if 1 <= index <= len(found) else {}
    known = {**{name: job.task[name] for name in WORDS if name in job.task}, **facts}
    lines = [f"`{job.id}`"]
    if prompt := job.task.get("prompt"):
        lines.append(f"**{escaped(prompt)}**")
    if negative := job.task.get("negative"):
        lines.append(wording.fill(Message("without: {negative}", negative=escaped(negative, MAX_NEGATIVE))))
    for name, word in WORDS.items():
        if (value := known.get(name)) not in (None, ""):
            lines.append(wording.fill(Message("{name}: {value}", name=wording.translate(word), value=short(value))))
    lines.append(wording.fill(Message("{seconds:.1f} device seconds", seconds=job.cost)))
    return "\n".join(lines)
