"""The window in which a prompt is changed before a button draws it. Its `custom_id` says what is drawn, so that what
was typed counts after a restart of the bot too."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import discord

from calotype.bot.prompt import COUNT, ImaginePrompt, literal, read_prompt, read_prompts
from calotype.bot.studio import (
    INITIAL,
    VARIATIONS,
    CommandPlace,
    Queued,
    Studio,
    picture_of,
    row_of,
    strength_of,
)
from calotype.errors import CalotypeError
from calotype.jobs.chat import ChatMember, ChatMessage
from calotype.jobs.jobs import Job
from calotype.languages import translate
from calotype.outputs.numbered import region_mask

REMIXED = ("r", *VARIATIONS)  # actions that draw with a changed prompt
REGIONAL = "g"  # action that draws regions anew
MAX_LENGTH = 4000  # of Discord's text fields
WINDOW = re.compile(r"calw:(?P<action>[a-z][a-z0-9]{0,5}):(?P<job>[0-9a-f]{32}):(?P<index>\d{1,3}):(?P<regions>[1-9]*)")
FIELD = "prompt"


@dataclass(frozen=True)
class Redrawing:
    """What a window draws: a button's action, the job, the number of its picture, and regions of that."""

    action: str
    job: str
    index: int
    regions: tuple[int, ...] = ()

    @property
    def custom_id(self) -> str:
        return f"calw:{self.action}:{self.job}:{self.index}:{''.join(map(str, self.regions))}"

    @classmethod
    def of(cls, custom_id: str) -> "Redrawing | None":
        """Of a window; None for one of something else."""
        if not (match := WINDOW.fullmatch(custom_id)) or match["action"] not in (*REMIXED, REGIONAL):
            return None
        return cls(match["action"], match["job"], int(match["index"]), tuple(map(int, match["regions"])))


class PromptWindow(discord.ui.Modal):
    """Asks for the prompt of a picture. The bot's `redraw` does the rest."""

    def __init__(self, redrawing: Redrawing, message: ChatMessage, job: Job, language: str):
        title = translate("Change the prompt", language)
        if redrawing.action == REGIONAL:
            title = translate("What these regions show", language)
        super().__init__(title=title, custom_id=redrawing.custom_id)
        text = literal(prompt_text(message, job))[:MAX_LENGTH]
        style = discord.TextStyle.paragraph
        self.add_item(
            discord.ui.TextInput(
                label=translate("Prompt", language), style=style, default=text, max_length=MAX_LENGTH, custom_id=FIELD
            )
        )
        self.stop()  # discord.py keeps no window, and so hands none of them to itself


def typed(interaction: discord.Interaction) -> str:
    """The prompt that somebody has typed into a window."""
    return next((field.get("value", "") for field in _fields(interaction.data) if field.get("custom_id") == FIELD), "")


def _fields(component: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield component
    inner = component.get("component")
    for child in [*component.get("components", ()), *([inner] if inner else ())]:
        yield from _fields(child)


def prompt_text(message: ChatMessage, job: Job) -> str:
    """The prompt of a job as it was written."""
    return message.text or job.task.get("prompt", "")


def redraw(
    studio: Studio,
    member: ChatMember,
    redrawing: Redrawing,
    text: str,
    key: str,
    place: CommandPlace,
    message: ChatMessage,
    job: Job,
) -> Queued:
    """Queues what a button draws, by a changed prompt; all that the prompt does not say stays. Raises CalotypeError."""
    action, rows = redrawing.action, studio.rows
    usual = row_of(rows, job.task["model"]) if "model" in job.task else rows["default"]
    prompts = read_prompts(text, rows, usual)
    try:
        before = read_prompt(prompt_text(message, job), rows, usual)
    except CalotypeError:  # of the page, whose prompts have no parameters, or by a table of models that was changed
        before = ImaginePrompt("", {"count": COUNT})
    if action == "r" and "init" not in job.files and any(prompt.image_weight is not None for prompt in prompts):
        raise CalotypeError("--{name} weighs a picture; attach one to the command", name="iw")
    studio.check_tasks("imagine", (changed(job.task, before, prompt, action) for prompt in prompts), place)
    order = _order(studio, member, redrawing, job)
    orders = [{**order, "task": changed(order["task"], before, prompt, action)} for prompt in prompts]
    return studio.submit_all(member, prompts, orders, key, place, job)


def _order(studio: Studio, member: ChatMember, redrawing: Redrawing, job: Job) -> dict[str, Any]:
    """The order of the button, or of the regions that were chosen."""
    order = studio.order(member, redrawing.action, job, redrawing.index)
    if redrawing.action == REGIONAL:
        facts = picture_of(job, redrawing.index).facts
        mask = io.BytesIO(region_mask(int(facts["width"]), int(facts["height"]), redrawing.regions))
        order["files"]["mask"] = studio.stored(member, mask, "mask.png")
    return order


def changed(task: Mapping[str, Any], before: ImaginePrompt, prompt: ImaginePrompt, action: str) -> dict[str, Any]:
    """The options of a job by another prompt: what that says as before, or says nothing of, stays as it is."""
    names = {name for name in (*before.task, *prompt.task) if before.task.get(name) != prompt.task.get(name)}
    kept = {name: value for name, value in task.items() if name not in names and name != "seed"}
    task = kept | {name: prompt.task[name] for name in (*names, "seed") if name in prompt.task}
    if action == REGIONAL:
        task.pop("size", None)  # it is that of the picture
        return task
    weight = prompt.image_weight
    if weight is None and before.image_weight is not None and action == "r":
        weight = INITIAL
    is_given = weight is not None and weight != before.image_weight  # as before, it weighed the picture attached then
    return task | ({"strength": strength_of(weight)} if is_given else {})
