"""/train: a LoRA of one's own, from photos that are attached to the command."""

import io
import re
from collections.abc import Sequence

from calotype.api.trained import keep_trained
from calotype.bot.blocked import check_words
from calotype.bot.settings import BotSettings
from calotype.bot.studio import MODEL, CommandPlace, Queued, Studio, usual_row
from calotype.errors import CalotypeError
from calotype.jobs.chat import ChatMember, ChatMessage
from calotype.jobs.jobs import Job
from calotype.suffixes import SUFFIXES

NAME = re.compile(r"[a-zA-Z0-9][\w-]{0,39}", re.ASCII)  # of a LoRA, as prompts call it


def check_training(settings: BotSettings, name: str) -> None:
    """Raises CalotypeError if training is not open, or no LoRA can have this name."""
    if not settings.training:
        raise CalotypeError("training is not open here; ask the owner of this bot")
    if not NAME.fullmatch(name):
        raise CalotypeError("{option} is up to 40 letters, digits, - and _, without spaces", option="name")


def train(
    studio: Studio,
    member: ChatMember,
    name: str,
    about: str,
    photos: Sequence[tuple[str, bytes]],
    key: str,
    place: CommandPlace,
) -> Queued:
    """Queues the training of a LoRA on photos, each with its file name.

    Args:
        name: of the LoRA, which `check_training` has let pass, and the word that stands for what it learns.
        about: what the photos show; each caption is the name and this.
    Raises:
        CalotypeError: a word is blocked, a file is no photo, or the queue takes no more.
    """
    settings = studio.settings
    caption = " ".join(f"{name} {about}".split())
    check_words(caption, settings.blocked_words, settings.appeal)
    steps = settings.training_steps
    task = {
        "model": usual_row(studio.rows, member).model or MODEL,
        "output_name": name,
        "caption_prefix": caption,
        "max_train_epochs": 1,
        "max_train_steps": steps,
        "sample_every_n_steps": steps,
        "sample_at_first": False,
    }
    studio.check_tasks("train_lora", (task,), place)
    names = [f"photo-{number}{_suffix(file)}" for number, (file, _) in enumerate(photos, 1)]
    files = [studio.stored(member, io.BytesIO(photo), name) for name, (_, photo) in zip(names, photos, strict=True)]
    order = {"kind": "train_lora", "task": task, "files": {"photos": files}}
    job, is_new = studio.submit(member, order, key, place, name)
    return Queued((job,), is_new)


def _suffix(file: str) -> str:
    suffix = "." + file.rpartition(".")[2].lower()
    if suffix not in SUFFIXES:
        raise CalotypeError("{name} is no photo; attach JPEG, PNG or WebP files", name=file)
    return suffix


def kept_name(studio: Studio, message: ChatMessage, job: Job) -> str | CalotypeError:
    """The name by which the prompts of its owner call a LoRA that was trained, kept at the first call; or why not.

    It is its owner's alone. An administrator shares it with everybody by keeping it on the page.
    """
    result = next((result for result in job.results if result.name.endswith(".safetensors")), None)
    member = studio.chat.member(message.member)
    if result is None or member is None:
        return CalotypeError("the training has made no file")
    try:
        caller = studio.caller(member)
        return keep_trained(studio.service, caller, job, result, caller.owner)
    except CalotypeError as fault:  # too many files, or none any more
        return fault
