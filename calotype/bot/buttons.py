"""The buttons below messages. Each carries its action, the job and the number of a picture in its `custom_id`, so that
it works after a restart and after a year."""

import re

import discord

from calotype.bot.studio import faces_of, pictures_of
from calotype.bot.wording import WORDINGS
from calotype.errors import Message
from calotype.jobs.jobs import CANCELLED, DONE, FAILED, Job

TEMPLATE = re.compile(r"cal:(?P<action>[a-z][a-z0-9]{0,5}):(?P<job>[0-9a-f]{32}):(?P<index>\d{1,3})")
DRAWN = (("vs", "Vary (subtle)"), ("vb", "Vary (strong)"), ("z15", "Zoom out 1.5x"), ("z2", "Zoom out 2x"))
MAX_ROW = 5  # buttons of a row
WORDS = ("Vary (subtle)", "Vary (strong)", "Zoom out 1.5x", "Zoom out 2x", "Upscale 4x")  # that nothing else has


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
    return picture_view(job, 1, language) if count else None


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
    if (count := faces_of(job)) > 1:
        label = WORDINGS[language].fill
        numbers = range(1, min(count, MAX_ROW) + 1)
        items += [JobButton("n", job.id, n, label(Message("Only face {number}", number=n)), row=3) for n in numbers]
    if is_drawn:
        items.append(JobButton("r", job.id, emoji="🔄", row=2))
    return _view(*items)


def _view(*items: JobButton) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for item in items:
        view.add_item(item)
    return view
