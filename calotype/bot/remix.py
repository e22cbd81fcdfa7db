"""The window in which a prompt is changed before a button draws it."""

import asyncio

import discord

from calotype.bot.interactions import answering, person_of, place_of
from calotype.bot.studio import VARIATIONS, CommandPlace, Queued, picture_of
from calotype.jobs.chat import ChatMessage
from calotype.jobs.files import open_stored
from calotype.jobs.jobs import Job
from calotype.languages import translate

REMIXED = ("r", "v", "vs", "vb")  # actions that draw with a changed prompt
MAX_LENGTH = 4000  # of Discord's text fields
WEIGHT = 4.0  # --iw of strength 0


class RemixModal(discord.ui.Modal):
    """Asks for the prompt; what comes back is a command of its own, over the picture for a variation."""

    def __init__(self, message: ChatMessage, job: Job, action: str, index: int, language: str):
        super().__init__(title=translate("Change the prompt", language))
        self._message, self._job, self._action, self._index = message, job, action, index
        text = (message.text or job.task.get("prompt", ""))[:MAX_LENGTH]
        style = discord.TextStyle.paragraph
        self.prompt = discord.ui.TextInput(
            label=translate("Prompt", language), style=style, default=text, max_length=MAX_LENGTH, custom_id="prompt"
        )
        self.add_item(self.prompt)

    async def on_submit(self, interaction: discord.Interaction) -> None:
        async with answering(interaction, is_button=True):
            parent = await interaction.client.channels.address(self._message.channel, self._message.message)
            place = place_of(interaction, parent=parent)
            queued = await asyncio.to_thread(self._queue, interaction, place)
            await interaction.client.show_queued(interaction, queued)

    def _queue(self, interaction: discord.Interaction, place: CommandPlace) -> Queued:
        studio, person, text = interaction.client.studio, person_of(interaction), self.prompt.value
        if self._action not in VARIATIONS:
            return studio.imagine(person, text, f"{interaction.id}", place, parent=self._job)
        result = picture_of(self._job, self._index)
        if "--iw" not in text:
            text = f"{text} --iw {WEIGHT * (1 - VARIATIONS[self._action]):.2g}"
        with open_stored(studio.service.store.files.result(result.id)) as file:
            return studio.imagine(person, text, f"{interaction.id}", place, file, self._job)
