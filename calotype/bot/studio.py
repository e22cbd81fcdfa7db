"""What commands and buttons do in the job store, without Discord. All of it may run in threads."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from sqlalchemy import Connection

from calotype.api.errors import Refusal
from calotype.api.limiter import Rate, RateLimiter
from calotype.api.orders import read_order
from calotype.api.service import Caller, Service
from calotype.bot.blocked import STEPS, check_words
from calotype.bot.prompt import COUNT, ImaginePrompt, ModelRow, read_prompts
from calotype.bot.settings import BotSettings, read_rows
from calotype.bot.wording import COMMANDS
from calotype.errors import CalotypeError, Message
from calotype.jobs.chat import Chat, ChatMember, ChatMessage, Terms
from calotype.jobs.files import open_stored
from calotype.jobs.jobs import DONE, Job, NotFound, StoredResult
from calotype.jobs.usage import DAY
from calotype.outputs.describe import describe_picture

MODEL = "emoji"  # that draws where a task names none
NOBODY = "nobody"  # owner of no job and no model
FLOOD = Rate(burst=10, per_minute=12)  # commands and presses of a person
CROWD = Rate(burst=60, per_minute=60)  # of everybody in a channel, whose messages Discord limits to one a second
INITIAL = 1.0  # weight of the initial picture where --iw is not given
HEAVIEST = 4.0  # weight of an initial picture that stays as it is
VARIATIONS = {"v": 0.65, "vs": 0.4, "vb": 0.85}  # strength of redrawing by button
REGION = 0.9  # strength of redrawing within a mask
ZOOMS = {"z15": 0.25, "z2": 0.5}  # margin on each side, of the picture's size
PANS = {"pl": (1, 0, 0, 0), "pu": (0, 1, 0, 0), "pr": (0, 0, 1, 0), "pd": (0, 0, 0, 1)}
MARGIN = 8  # margins are multiples of it
BUTTONS = {"x2": "upscale", "x4": "upscale", "f": "restore", "n": "restore"}  # that buttons stand for, if not imagine


@dataclass(frozen=True)
class Person:
    """Somebody on Discord. Times are seconds since 1970.

    Attributes:
        created: when the account on Discord was opened.
        joined: when the person joined a server of the bot; None: no such server is known.
        roles: ids of roles there; None: not known.
        name: as Discord shows it.
        server: its id.
    """

    id: str
    created: float
    joined: float | None = None
    roles: tuple[str, ...] | None = None
    name: str = ""
    server: str = ""


@dataclass(frozen=True)
class CommandPlace:
    """Where a command was given, and by which button.

    Attributes:
        channel: that its messages go to.
        parent: address of the message with the button.
        ruled_by: the channel whose rules hold, if another one: where the command was given, of a thread its parent.
    """

    channel: str
    parent: str = ""
    language: str = "en"
    ruled_by: str = ""

    @property
    def ruling_channel(self) -> str:
        return self.ruled_by or self.channel


@dataclass(frozen=True)
class Queued:
    """Jobs of one command. `refused`: why the rest of them is not in the queue."""

    jobs: tuple[Job, ...]
    is_new: bool
    notes: tuple[Message, ...] = ()
    refused: CalotypeError | None = None


@dataclass
class Studio:
    """The service as the bot uses it."""

    service: Service
    chat: Chat
    settings: BotSettings = BotSettings()
    clock: Callable[[], float] = time.time
    flood: RateLimiter = field(default_factory=lambda: RateLimiter(FLOOD))
    crowd: RateLimiter = field(default_factory=lambda: RateLimiter(CROWD))

    @property
    def rows(self) -> dict[str, ModelRow]:
        return read_rows(self.service.settings.home)

    # People

    def terms(self, person: Person | None = None) -> Terms:
        """What the settings give to a person, or to somebody who is no newcomer."""
        is_new = person is not None and self._is_newcomer(person)
        return Terms(self.settings.daily_seconds, self.settings.trial_seconds if is_new else None)

    def visit(self, person: Person) -> ChatMember:
        """A person with the account, which is opened at the first use, and kept to the settings; also a banned one."""
        known = {"name": person.name, "roles": person.roles, "server": person.server}
        return self.chat.visit(person.id, self.terms(person), **known)

    def member(self, person: Person) -> ChatMember:
        """A person with the account. Raises CalotypeError for banned people."""
        member = self.visit(person)
        if member.is_banned or member.account.is_disabled:
            raise CalotypeError("the owner of this bot has closed it for you")
        return member

    def _is_newcomer(self, person: Person) -> bool:
        """Whose account is young, or who joined no server of the bot long enough ago."""
        ends = self.trial_ends(person)
        return ends is None or self.clock() < ends

    def trial_ends(self, person: Person) -> float | None:
        """When somebody is no newcomer any more, in seconds since 1970; None if that is not known."""
        settings = self.settings
        if settings.member_days > 0 and person.joined is None:
            return None
        joined = person.joined + settings.member_days * DAY if settings.member_days > 0 else 0.0
        return max(person.created + settings.account_days * DAY, joined)

    def caller(self, member: ChatMember) -> Caller:
        return Caller(member.account.id, member.account)

    def models(self, member: ChatMember | None = None) -> list[str]:
        """The models that a person may draw with; those of everybody without one."""
        caller = self.caller(member) if member else Caller(NOBODY)
        return sorted(self.service.names_for(caller)("diffusion"))

    def admit(self, person: Person, command: str, channel: str) -> ChatMember:
        """Checks who it is, whether the command is allowed in the channel, and how fast person and channel are; this
        one counts. Raises CalotypeError."""
        member = self.member(person)
        allowed = self.chat.options(f"channel-{channel}").get("commands")
        if allowed and command not in allowed:
            names = ", ".join(f"/{name}" for name in allowed)
            raise CalotypeError("this channel takes {names} only; go to another one", names=names)
        self._check_flood(person)
        try:
            self.crowd.take(channel)
        except Refusal as fault:
            wait = fault.message.values["seconds"]
            raise CalotypeError("too much goes on in this channel; go on in {seconds} s", seconds=wait) from None
        return member

    def admit_alone(self, person: Person) -> ChatMember:
        """`admit` for what only the person sees: it is allowed everywhere, and no channel is busy with it."""
        member = self.member(person)
        self._check_flood(person)
        return member

    def _check_flood(self, person: Person) -> None:
        try:
            self.flood.take(person.id)
        except Refusal as fault:
            wait = fault.message.values["seconds"]
            raise CalotypeError("that is too fast; go on in {seconds} s", seconds=wait) from None

    # Jobs

    def imagine(
        self, member: ChatMember, text: str, key: str, place: CommandPlace, picture: BinaryIO | None = None
    ) -> Queued:
        """Queues the jobs of a prompt, over a picture if there is one.

        Raises:
            CalotypeError: no job is in the queue.
        """
        rows = self.rows
        prompts = read_prompts(text, rows, usual_row(rows, member))
        self.check_tasks("imagine", (prompt.task for prompt in prompts), place)
        files = {}
        if picture is not None:
            files = {"init": self.stored(member, picture, "init.png")}
        elif any(prompt.image_weight is not None for prompt in prompts):
            raise CalotypeError("--{name} weighs a picture; attach one to the command", name="iw")
        orders = [
            {"kind": "imagine", "task": self._task(prompt, member, bool(files)), "files": files} for prompt in prompts
        ]
        return self.submit_all(member, prompts, orders, key, place)

    def _task(self, prompt: ImaginePrompt, member: ChatMember, has_picture: bool) -> dict[str, Any]:
        task = {**prompt.task, "grid": True}
        if "size" not in task and member.options.get("size"):
            task["size"] = member.options["size"]
        if has_picture:
            task["strength"] = strength_of(INITIAL if prompt.image_weight is None else prompt.image_weight)
        return task

    def submit_all(
        self,
        member: ChatMember,
        prompts: Sequence[ImaginePrompt],
        orders: Sequence[Mapping[str, Any]],
        key: str,
        place: CommandPlace,
        parent: Job | None = None,
    ) -> Queued:
        """Queues the jobs of prompts, each as often as it says, as long as they are taken.

        Args:
            orders: of the prompts.
        Raises:
            CalotypeError: none is taken.
        """
        repeated = [pair for pair in zip(prompts, orders, strict=True) for _ in range(pair[0].repeat)]
        jobs: list[Job] = []
        is_new, refused = False, None
        try:
            for n, (prompt, order) in enumerate(repeated):
                job, is_first = self.submit(member, order, f"{key}.{n}", place, prompt.text, parent)
                is_new |= is_first
                jobs.append(job)
        except CalotypeError as fault:
            if not jobs:
                raise
            refused = fault
        return Queued(tuple(jobs), is_new, prompts[0].notes, refused)

    def check_tasks(self, command: str, tasks: Iterable[Mapping[str, Any]], place: CommandPlace) -> None:
        """Raises CalotypeError for a model that the channel does not take, and for a blocked word."""
        if command not in ("imagine", "train_lora"):  # the models of others restore and enlarge
            return
        allowed = self.chat.options(f"channel-{place.ruling_channel}").get("models")
        for task in tasks:
            if allowed and task.get("model", MODEL) not in allowed:
                raise CalotypeError(
                    "this channel takes the models {names} only", names=", ".join(allowed), option="model"
                )
            steps = task.get("steps", STEPS)
            check_words(task.get("prompt", ""), self.settings.blocked_words, self.settings.appeal, steps)

    def submit(
        self,
        member: ChatMember,
        order: Mapping[str, Any],
        key: str,
        place: CommandPlace,
        text: str = "",
        parent: Job | None = None,
    ) -> tuple[Job, bool]:
        """Queues a job and remembers its message. False: it was queued before, by the same command or button."""
        caller, service = self.caller(member), self.service
        if parent is not None and parent.owner == caller.owner:
            order = {**order, "parent": parent.id}
        shown = {"parent": place.parent, "text": text, "language": place.language}
        added = []

        def remember(db: Connection, job: str) -> None:
            added.append(self.chat.add_message(db, job, member.id, place.channel, **shown))

        order = read_order(order, service.names_for(caller), caller.limits)
        job = service.submit(caller, order, f"discord.{key}", remember)
        return job, added[0]

    def stored(self, member: ChatMember, file: BinaryIO, name: str) -> str:
        caller = self.caller(member)
        self.service.check_storage(caller)
        return f"{self.service.store.upload(caller.owner, file, self.service.max_upload).id}/{name}"

    def work_on(
        self,
        member: ChatMember,
        kind: str,
        task: Mapping[str, Any],
        picture: BinaryIO,
        name: str,
        key: str,
        place: CommandPlace,
    ) -> Queued:
        """Queues the restoring or enlarging of a picture. Raises CalotypeError."""
        order = {"kind": kind, "task": dict(task), "files": {"source": self.stored(member, picture, name)}}
        job, is_new = self.submit(member, order, key, place)
        return Queued((job,), is_new)

    def press(
        self,
        person: Person,
        action: str,
        message: ChatMessage,
        job: Job,
        index: int,
        key: str,
        place: CommandPlace,
        faces: str = "",
    ) -> Queued:
        """Queues what a button of a picture asks for, of a job and its message. Raises CalotypeError.

        Args:
            faces: their numbers, as "1,3", of the action n; face `index` alone where not given.
        """
        command = command_of(action, job)
        member = self.admit(person, command, place.ruling_channel)
        self.check_tasks(command, (job.task,), place)
        order = self.order(member, action, job, index, faces)
        queued, is_new = self.submit(member, order, key, place, message.text, job)
        return Queued((queued,), is_new)

    def order(self, member: ChatMember, action: str, job: Job, index: int, faces: str = "") -> dict[str, Any]:
        """The order that a button of a picture stands for, with files of this person. Raises CalotypeError."""
        if action in ("r", "n"):
            changes = {"seed": -1} if action == "r" else {"faces": faces or str(index)}
            return {"kind": job.kind, "task": {**job.task, **changes}, "files": self._same_files(member, job)}
        result = picture_of(job, index)
        with open_stored(self.service.store.files.result(result.id)) as file:
            return derived(action, job, result, self.stored(member, file, f"picture{suffix_of(result)}"))

    def _same_files(self, member: ChatMember, job: Job) -> dict[str, Any]:
        """The uploads of a job, also for somebody else who pressed its button."""
        files = {}
        for option, refs in job.files.items():
            own = [self._own(member, ref) for ref in ([refs] if isinstance(refs, str) else refs)]
            files[option] = own[0] if isinstance(refs, str) else own
        return files

    def _own(self, member: ChatMember, ref: str) -> str:
        upload, _, name = ref.partition("/")
        with open_stored(self.service.store.files.upload(upload)) as file:
            return self.stored(member, file, name or "picture.png")

    def pressed(self, person: Person, job_id: str, language: str = "en") -> tuple[ChatMessage, Job]:
        """A job whose button is pressed, and its message; that of a job of the page was never sent.

        Raises:
            CalotypeError: the job is not there any more, or this person may not press its buttons.
        """
        try:
            message, job = self.chat.message(job_id), self.service.store.get(job_id)
        except NotFound:
            member = self.chat.member(person.id)
            found = self.service.store.find(member.account.id, ids=(job_id,)) if member else []
            if not found:
                raise
            return ChatMessage.of_page(found[0], person.id, language), found[0]
        self.check_presser(message, person.id)
        return message, job

    def check_presser(self, message: ChatMessage, presser: str) -> None:
        """Raises CalotypeError if the person whose job it is keeps its buttons."""
        member = self.chat.member(message.member)
        if presser != message.member and member and member.options.get("presses") == "mine":
            raise CalotypeError("only the person who gave this command may press its buttons")

    def describe(self, member: ChatMember, picture: BinaryIO, name: str) -> dict[str, Any]:
        """The parameters that a picture was generated with, by A1111's names; empty if it has none.

        Raises:
            CalotypeError: it cannot be read.
        """
        upload = self.stored(member, picture, name).partition("/")[0]
        path = self.service.store.files.upload(upload)
        return describe_picture(path, self.service.settings.max_pixels)["parameters"]

    def retry(self, person: Person, job: Job, place: CommandPlace) -> Job:
        """Queues a job again that did not succeed; its owner stays. Raises CalotypeError."""
        member = self.admit(person, command_for(job.kind), place.ruling_channel)
        self.check_tasks(job.kind, (job.task,), place)
        if job.owner != member.account.id:  # such as one given before the person was linked to another account
            raise NotFound("this job belongs to another account; give the command again")
        return self.service.store.retry(job.id, job.owner, member.account.budget)


def usual_row(rows: Mapping[str, ModelRow], member: ChatMember) -> ModelRow:
    """The row of the model that a person draws with where the prompt names none."""
    model = member.options.get("model")
    return row_of(rows, model) if model else rows["default"]


def row_of(rows: Mapping[str, ModelRow], model: str) -> ModelRow:
    """The row of a model."""
    return next((row for row in rows.values() if row.model == model), ModelRow(model))


def strength_of(weight: float) -> float:
    """How far an initial picture of this weight is redrawn."""
    return round(1 - weight / HEAVIEST, 3)


def pictures_of(job: Job) -> Sequence[StoredResult]:
    """The pictures of a job, without its grid."""
    return [result for result in _images(job) if not result.facts.get("sheet")]


def grid_of(job: Job) -> StoredResult | None:
    """What the message of a job shows: the grid, or the only picture. None without pictures."""
    found = _images(job)
    return next((result for result in found if result.facts.get("sheet")), found[0] if found else None)


def _images(job: Job) -> list[StoredResult]:
    return [result for result in job.results if result.is_picture]


def faces_of(job: Job) -> int:
    """How many faces a restored picture has."""
    return int(job.results[0].facts.get("faces", 0)) if job.kind == "restore" and job.results else 0


def picture_of(job: Job, index: int) -> StoredResult:
    """Picture number `index`, from 1. Raises CalotypeError."""
    found = pictures_of(job)
    if job.state != DONE or not 1 <= index <= len(found):
        raise CalotypeError("this job has no picture {number}", number=index)
    return found[index - 1]


def suffix_of(result: StoredResult) -> str:
    return "." + result.name.rpartition(".")[2] if "." in result.name else ".png"


def command_of(action: str, job: Job) -> str:
    """The command that a button of a job stands for, so that the rules of the channel hold for it too."""
    return command_for(job.kind) if action == "r" else BUTTONS.get(action, "imagine")


def command_for(kind: str) -> str:
    return COMMANDS.get(kind, kind).removeprefix("/")


def derived(action: str, job: Job, result: StoredResult, upload: str) -> dict[str, Any]:
    """The order that a button of a picture stands for."""
    if action in ("x2", "x4"):
        return {"kind": "upscale", "task": {"scale": float(action[1:])}, "files": {"source": upload}}
    if action == "f":
        return {"kind": "restore", "task": {}, "files": {"source": upload}}
    if job.kind != "imagine":
        raise CalotypeError("this picture was not drawn from a prompt, so that it has no variations")
    dropped = ("seed", "size", "strength", "outpaint", "variation", "hires", "seed_resize", "mask")
    task = {name: value for name, value in job.task.items() if name not in dropped}
    width, height = int(result.facts["width"]), int(result.facts["height"])
    if action in VARIATIONS:
        task |= {"strength": VARIATIONS[action], "size": f"{width}x{height}", "count": COUNT, "grid": True}
        return {"kind": "imagine", "task": task, "files": {"init": upload}}
    if action == "g":  # the regions are the mask that comes with it
        task |= {"strength": REGION, "count": COUNT, "grid": True}
        return {"kind": "imagine", "task": task, "files": {"init": upload}}
    sides = tuple(ZOOMS[action] for _ in range(4)) if action in ZOOMS else tuple(n / 2 for n in PANS[action])
    lengths = (width, height, width, height)
    margins = [round(part * length / MARGIN) * MARGIN for part, length in zip(sides, lengths, strict=True)]
    task |= {"outpaint": ",".join(map(str, margins)), "strength": 0.85, "count": 1, "grid": False}
    return {"kind": "imagine", "task": task, "files": {"init": upload}}
