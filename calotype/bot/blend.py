"""/blend: one picture of several. Their latents are averaged, and drawn anew by their prompts together."""

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from calotype.bot.blocked import check_words
from calotype.bot.prompt import COUNT, size_of
from calotype.bot.studio import CommandPlace, Queued, Studio, usual_row
from calotype.errors import Message
from calotype.jobs.chat import ChatMember
from calotype.outputs.describe import describe_picture
from calotype.tasks.prompts import extras

STRENGTH = 0.55  # of redrawing: below, it is a double exposure; above, little is left of the pictures
RATIOS = {"portrait": Fraction(2, 3), "square": Fraction(1), "landscape": Fraction(3, 2)}


def blend(
    studio: Studio,
    member: ChatMember,
    pictures: Sequence[bytes],
    shape: str,
    prompt: str,
    key: str,
    place: CommandPlace,
) -> Queued:
    """Queues a job that blends pictures.

    Args:
        shape: a key of RATIOS.
        prompt: by which they are drawn anew; their own prompts together where it is empty.
    Raises:
        CalotypeError: a file is no picture, a word is blocked, or the queue takes no more.
    """
    check_words(prompt, studio.settings.blocked_words, studio.settings.appeal)
    names = [f"picture-{number}.png" for number in range(1, len(pictures) + 1)]
    first, *further = [
        studio.stored(member, io.BytesIO(content), name) for name, content in zip(names, pictures, strict=True)
    ]
    row, notes = usual_row(studio.rows, member), ()
    if not prompt:
        prompt = _together([_prompt(studio, upload) for upload in (first, *further)])
        if not prompt:
            notes = (Message("the pictures say nothing of a prompt, so that only colours and outlines are blended"),)
    task: dict[str, Any] = {"prompt": prompt, "strength": STRENGTH, "count": COUNT, "grid": True}
    task |= {"size": size_of(RATIOS[shape], row.size)} | ({"model": row.model} if row.model else {})
    studio.check_tasks("imagine", (task,), place)
    order = {"kind": "imagine", "task": task, "files": {"init": first, "blend": further}}
    job, is_new = studio.submit(member, order, key, place, prompt)
    return Queued((job,), is_new, notes)


def _prompt(studio: Studio, upload: str) -> str:
    """The prompt that a picture was drawn with, without LoRAs; empty if it says nothing. Raises CalotypeError."""
    service = studio.service
    path = service.store.files.upload(upload.partition("/")[0])
    facts = describe_picture(path, service.settings.max_pixels)
    return extras(str(facts["parameters"].get("Prompt", "")))[0].replace("AND", "and").strip()


def _together(prompts: Sequence[str]) -> str:
    """Different prompts as sub-prompts of the same weight."""
    found = list(dict.fromkeys(filter(None, prompts)))
    if len(found) < 2:
        return "".join(found)
    return " AND ".join(f"{prompt} :{1 / len(found):.4g}" for prompt in found)
