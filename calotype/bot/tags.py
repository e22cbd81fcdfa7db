"""Tags of pictures that were not drawn from a prompt."""

from typing import BinaryIO

from calotype.bot.studio import CommandPlace, Queued, Studio
from calotype.dialects.a1111_api import prompt_of
from calotype.errors import CalotypeError
from calotype.jobs.chat import ChatMember
from calotype.jobs.jobs import Job
from calotype.tasks.captions import INSTALLED


def tag(studio: Studio, member: ChatMember, picture: BinaryIO, key: str, place: CommandPlace) -> Queued:
    """Queues a job that finds the tags of a picture. Raises CalotypeError where no tagger is installed."""
    if not studio.service.has_tagger:
        raise CalotypeError(
            "this picture says nothing about how it was drawn, and there is no tagger here to tell what it shows; the "
            "owner of this bot can name a WD14 tagger by {option:tagger} when it is started"
        )
    upload = studio.stored(member, picture, "picture.png")
    order = {"kind": "caption", "task": {"tagger": INSTALLED}, "files": {"photos": [upload]}}
    job, is_new = studio.submit(member, order, key, place)
    return Queued((job,), is_new)


def tags_of(job: Job) -> str:
    """The tags that a job has found, as a prompt; empty if it was no such job."""
    found = next((str(result.facts.get("text", "")) for result in job.results), "") if job.kind == "caption" else ""
    return prompt_of(found, "clip") if found else ""
