"""The window in which a prompt is changed before a button draws it."""

import asyncio

import discord

from calotype.bot.interactions import answering, person_of
from calotype.bot.regions import vary_region
from calotype.bot.studio import VARIATIONS, CommandPlace, Person, Queued, Studio, picture_of
from calotype.jobs.chat import ChatMessage
from calotype.jobs.files import open_stored
from calotype.jobs.jobs import Job
from calotype.languages import translate

REMIXED = ("r", "v", "vs", "vb")  # actions that draw with a changed prompt
MAX_LENGTH = 4000  # of Discord's text fields
WEIGHT = 4.0  # --iw of strength 0


class PromptModal(discord.ui.Modal):
    """Asks for the prompt of a picture; what comes back is a command of its own."""

    def __init__(self, title: str, message: ChatMessage, job: Job, index: int, language: str):
        super().__init__(title=title)
        self._message, self._job, self._index = message, job, index
        text = (message.text or job.task.get("prompt", ""))[:MAX_LENGTH]
        style = discord.TextStyle.paragraph
        self.prompt = discord.ui.TextInput(
            label=translate("Prompt", language), style=style, default=text, max_length=MAX_LENGTH, custom_id="prompt"
        )
        self.add_item(self.prompt)

    def queue(self, studio: Studio, person: Person, key: str, place: CommandPlace) -> Queued:
        raise NotImplementedError

    async def on_submit(self, interaction: discord.Interaction) -> None:
        async with answering(interaction, is_button=True):
            client = interaction.client
            place = await client.place_for(interaction, self._message)
            person, key = person_of(interaction), str(interaction.id)
            await client.admit(interaction, "imagine")
            queued = await asyncio.to_thread(self.queue, client.studio, person, key, place)
            await client.respond(interaction, queued, place)


class RemixModal(PromptModal):
    """For a grid anew, or over the picture for a variation."""

    def __init__(self, message: ChatMessage, job: Job, action: str, index: int, language: str):
        super().__init__(translate("Change the prompt", language), message, job, index, language)
        self._action = action

    def queue(self, studio: Studio, person: Person, key: str, place: CommandPlace) -> Queued:
        text = self.prompt.value
        if self._action not in VARIATIONS:
            return studio.imagine(person, text, key, place, parent=self._job)
        result = picture_of(self._job, self._index)
        if "--iw" not in text:
            text = f"{text} --iw {WEIGHT * (1 - VARIATIONS[self._action]):.2g}"
        with open_stored(studio.service.store.files.result(result.id)) as file:
            return studio.imagine(person, text, key, place, file, self._job)


class RegionModal(PromptModal):
    """For the regions of a picture that were chosen."""

    def __init__(self, message: ChatMessage, job: Job, index: int, regions: list[int], language: str):
        super().__init__(translate("What these regions show", language), message, job, index, language)
        self._regions = regions

    def queue(self, studio: Studio, person: Person, key: str, place: CommandPlace) -> Queued:
        return vary_region(studio, person, self.prompt.value, key, place, self._job, self._index, self._regions)
