"""The buttons and lists below messages. Each carries its action, the job and the number of a picture in its
`custom_id`, so that it works after a restart and after a year."""

import re
from collections.abc import Sequence

import discord

from calotype.bot.studio import faces_of, pictures_of
from calotype.bot.wording import WORDINGS
from calotype.errors import Message, Wording
from calotype.jobs.jobs import CANCELLED, DONE, FAILED, Job
from calotype.outputs.numbered import REGIONS

TEMPLATE = re.compile(r"cal:(?P<action>[a-z][a-z0-9]{0,5}):(?P<job>[0-9a-f]{32}):(?P<index>\d{1,3})")
DRAWN = (
    *(("vs", "Vary (subtle)"), ("vb", "Vary (strong)"), ("vr", "Vary (region)")),
    *(("z15", "Zoom out 1.5x"), ("z2", "Zoom out 2x")),
)
SELECT = re.compile(r"cals:(?P<action>[ng]):(?P<job>[0-9a-f]{32}):(?P<index>\d{1,3})")
DERIVED = ("imagine", "restore", "upscale")  # kinds of jobs whose pictures have buttons
MAX_ROW = 5  # buttons of a row
MAX_CHOICES = 25  # of a list
MAX_LISTS = 3  # of faces, below the buttons of a picture
WORDS = (  # that nothing else has
    "Vary (subtle)",
    "Vary (strong)",
    "Vary (region)",
    "Zoom out 1.5x",
    "Zoom out 2x",
    "Upscale 4x",
    "Choose the regions",
)


class JobButton(discord.ui.DynamicItem[discord.ui.Button], template=TEMPLATE):
    """One button. The bot's `press` does the rest."""

    def __init__(self, action: str, job: str, index: int = 0, label: str = "", emoji: str | None = None, row: int = 0):
        style = discord.ButtonStyle.danger if action == "c" else discord.ButtonStyle.secondary
        button = discord.ui.Button(
            label=label or None, emoji=emoji, style=style, custom_id=f"cal:{action}:{job}:{index}", row=row
        )
        super().__init__(button)
        self.action, self.job, self.index = action, job, index

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Button, match: re.Match[str], /
    ) -> "JobButton":
        return cls(match["action"], match["job"], int(match["index"]), item.label or "x")

    async def callback(self, interaction: discord.Interaction) -> None:
        await interaction.client.press(interaction, self.action, self.job, self.index)


class JobSelect(discord.ui.DynamicItem[discord.ui.Select], template=SELECT):
    """A list of numbers, of which several may be chosen: faces of a photo, or regions of picture `index`."""

    def __init__(
        self, action: str, job: str, index: int = 0, numbers: Sequence[int] = (1,), title: str = "", row: int = 0
    ):
        options = [discord.SelectOption(label=str(number), value=str(number)) for number in numbers]
        select = discord.ui.Select(
            custom_id=f"cals:{action}:{job}:{index}",
            placeholder=title or None,
            options=options,
            max_values=len(options),
            row=row,
        )
        super().__init__(select)
        self.action, self.job, self.index = action, job, index

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Select, match: re.Match[str], /
    ) -> "JobSelect":
        found = cls(match["action"], match["job"], int(match["index"]))
        found.item = item
        return found

    async def callback(self, interaction: discord.Interaction) -> None:
        numbers = sorted(int(value) for value in self.item.values)
        await interaction.client.choose(interaction, self.action, self.job, self.index, numbers)


def job_view(job: Job, language: str) -> discord.ui.View | None:
    """The buttons of a job's message: by how far the job is."""
    if not job.is_finished:
        return _view(JobButton("c", job.id, label=WORDINGS[language].translate("Cancel")))
    if job.state in (FAILED, CANCELLED):
        return _view(JobButton("t", job.id, label=WORDINGS[language].translate("Try again")))
    count = len(pictures_of(job))
    if job.state == DONE and job.kind == "imagine" and count > 1:
        numbers = range(1, min(count, 4) + 1)
        return _view(
            *(JobButton("u", job.id, n, f"U{n}", row=0) for n in numbers),
            JobButton("r", job.id, emoji="🔄", row=0),
            *(JobButton("v", job.id, n, f"V{n}", row=1) for n in numbers),
            JobButton("i", job.id, 1, emoji="ℹ️", row=1),
        )
    return picture_view(job, 1, language) if count and job.kind in DERIVED else None


def picture_view(job: Job, index: int, language: str) -> discord.ui.View:
    """The buttons of one picture."""
    word = WORDINGS[language].translate
    is_drawn = job.kind == "imagine"
    items = []
    if is_drawn:
        items += [JobButton(action, job.id, index, word(label), row=0) for action, label in DRAWN]
        arrows = {"pl": "⬅️", "pr": "➡️", "pu": "⬆️", "pd": "⬇️"}
        items += [JobButton(action, job.id, index, emoji=arrow, row=2) for action, arrow in arrows.items()]
    items += [
        JobButton("x2", job.id, index, word("Upscale 2x"), row=1),
        JobButton("x4", job.id, index, word("Upscale 4x"), row=1),
        JobButton("f", job.id, index, word("Restore faces"), row=1),
        JobButton("h", job.id, index, emoji="❤️", row=1),
        JobButton("i", job.id, index, word("Info"), row=1),
    ]
    items += _faces(job, WORDINGS[language])
    if is_drawn:
        items.append(JobButton("r", job.id, emoji="🔄", row=2))
    return _view(*items)


def _faces(job: Job, wording: Wording) -> list[JobButton | JobSelect]:
    """A button for each face of a photo, or lists of their numbers where there are many."""
    count = faces_of(job)
    if count < 2:
        return []
    if count <= MAX_ROW:
        numbers = range(1, count + 1)
        return [
            JobButton("n", job.id, n, wording.fill(Message("Only face {number}", number=n)), row=3) for n in numbers
        ]
    lists = []
    for page, first in enumerate(range(1, count + 1, MAX_CHOICES)[:MAX_LISTS]):
        last = min(first + MAX_CHOICES - 1, count)
        title = wording.fill(Message("Only some faces, of {first} to {last}", first=first, last=last))
        lists.append(JobSelect("n", job.id, page, range(first, last + 1), title, 2 + page))
    return lists


def region_view(job: Job, index: int, language: str) -> discord.ui.View:
    """The list of regions of a picture."""
    title = WORDINGS[language].translate("Choose the regions")
    return _view(JobSelect("g", job.id, index, range(1, REGIONS + 1), title))


def _view(*items: JobButton | JobSelect) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for item in items:
        view.add_item(item)
    return view
