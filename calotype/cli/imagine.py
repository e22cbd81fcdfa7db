"""`calotype imagine`: pictures from words."""

import contextlib
import dataclasses
import math
import shlex
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.album import readable
from calotype.album.drawn import Output, Places, write
from calotype.cli import threads
from calotype.cli.batch import ALL_DONE, INTERRUPTED, SOME_FAILED, terminable
from calotype.cli.flags import TELL, argument, flag, flags, given, shape
from calotype.cli.show import Quiet, listener
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError
from calotype.options import read
from calotype.settings import Settings
from calotype.tasks import Imagine, Note, Progress, read_task

if TYPE_CHECKING:
    from calotype.engine import Engine

OWN_PROCESS: list[bool] = []  # not empty where nobody else will want what the quick import leaves out
FEW = 8  # pictures: a job of seconds
LARGEST_LIST = 16 << 20  # bytes of a file of prompts
A1111_NAMES = {  # options of its "prompts from file", where they differ
    "negative_prompt": "negative",
    "cfg_scale": "guidance",
    "sampler_name": "sampler",
    "scheduler": "schedule",
    "subseed": "variation_seed",
    "subseed_strength": "variation",
    "sd_model": "model",
    "denoising_strength": "strength",
    "styles": "style",
}


def imagine(**values: Any) -> int:
    """Make pictures from words.

    Pictures go to the folder "out", or to what -o says; none takes the place of another. Each carries its prompt and
    parameters as A1111 writes them, and the record from which `calotype again` makes it once more.
    """
    settings, output = Settings.gather(given(Settings, values)), read(Output, given(Output, values))
    asked = {name: value for name, value in given(Imagine, values).items() if name != "prompt"}
    if values["from_file"]:
        if values["prompt"]:
            raise CalotypeError("give a prompt or {option:from_file}, not both")
        tasks = list(_listed(values["from_file"], asked))
    else:
        tasks = [read_task("imagine", {**asked, "prompt": values["prompt"] or ""})]
    _check_output(tasks, given(Output, values))
    show = listener(values)
    prepare(tasks, settings)
    return Drawings(tasks, output, settings, show, is_list=bool(values["from_file"])).run()


shape(
    imagine,
    argument("prompt", str | None, "what to draw; may be left out", "PROMPT", None),
    flag(
        "from_file",
        "draw each line of a text file; a line may be '--prompt \"...\" --steps 20', and one with # is passed over",
        kind=Path | None,
    ),
    *flags(Output, Imagine, Settings),
    *TELL,
)


def _check_output(tasks: list[Imagine], asked: dict[str, Any]) -> None:
    """Raises CalotypeError for what only single pictures have a use for, where there is none."""
    idle = [f"--{name}" for name in ("format", "quality", "sidecar") if name in asked]
    if idle and all(task.interpolate for task in tasks):
        told = "leave them out" if len(idle) > 1 else "leave it out"
        raise CalotypeError(
            "{option:interpolate} writes a GIF and an MP4, so {names} would change nothing; {told}",
            names=" and ".join(idle),
            told=told,
        )


def prepare(tasks: list[Imagine], settings: Settings) -> None:
    """Refuses an unknown model before anything is imported, and imports quickly where the model allows it."""
    from calotype.checkpoints.catalog import INDEX, Shelf

    shelf = Shelf(settings)
    names = {task.model for task in tasks}
    found = [shelf.find(name, "diffusion") for name in sorted(names)]
    is_plain = all(one.path.name == INDEX for one in found) and not any(task.vae for task in tasks)
    words = " ".join(f"{task.sampler} {task.schedule} {task.x} {task.y}" for task in tasks).lower()
    is_plain = is_plain and "lms" not in words and "beta" not in words  # these need scipy, which is left out then
    if OWN_PROCESS and sum(task.count for task in tasks) <= FEW and not any(task.x or task.y for task in tasks):
        threads.spin_if_quiet()
    if is_plain and OWN_PROCESS and settings.device in ("auto", "cpu"):
        from calotype.models.lean import import_quickly

        import_quickly()


class Drawings:
    """A run over tasks; in a list one bad line does not stop the others."""

    def __init__(
        self,
        tasks: list[Imagine],
        output: Output,
        settings: Settings,
        show: Quiet,
        is_list: bool = False,
        last_only: bool = False,
    ):
        self._tasks, self._output, self._settings, self._show = tasks, output, settings, show
        self._is_list = is_list
        self._last_only = last_only  # of a sheet made again: not its single pictures
        self._engine: Engine | None = None
        self._failures: list[dict[str, str]] = []
        self._tracebacks: list[str] = []
        self.made: list[Path] = []

    def run(self) -> int:
        """The exit status. Raises CalotypeError for what the person can mend, outside a list."""
        begun, interrupted = time.monotonic(), False
        count = sum(task.count for task in self._tasks)
        has_sheet = any(task.x or task.y or task.matrix for task in self._tasks)
        places = Places(self._output, count, is_many=count > 1 or (has_sheet and not self._last_only))
        self._show.tell("begin", pictures=count, out=str(self._output.out))
        try:
            with terminable():
                for task in self._tasks:
                    self._one(task, places)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self._show.close()
        self._show.tell(
            "summary",
            pictures=count,
            done=len(self.made),
            skipped=0,
            failed=len(self._failures),
            failures=self._failures,
            seconds=round(time.monotonic() - begun, 2),
            interrupted=interrupted,
            report=None,
            is_drawn=True,
        )
        for text in self._tracebacks:
            self._show.line(text)
        return INTERRUPTED if interrupted else SOME_FAILED if self._failures else ALL_DONE

    def _one(self, task: Imagine, places: Places) -> None:
        name = " ".join(task.prompt.split()) or "(no words)"
        self._show.tell("picture", source=name, target=str(self._output.out))
        try:
            self._draw(task, places, name)
        except CalotypeError as fault:
            if not self._is_list:
                raise
            self._failed(name, WORDING.fill(fault))
        except Exception as bug:
            if not self._is_list:
                raise
            self._tracebacks.append(traceback.format_exc())
            self._failed(name, f"an error in Calotype itself: {type(bug).__name__}: {bug}")

    def _failed(self, name: str, cause: str) -> None:
        self._failures.append({"source": name, "cause": cause})
        self._show.tell("failed", source=name, cause=cause)

    def _draw(self, task: Imagine, places: Places, name: str) -> None:
        from calotype.record import Film

        begun, waiting = time.monotonic(), None
        with contextlib.closing(self._engine_now().run(task)) as steps:
            for step in steps:
                if isinstance(step, Progress):
                    facts = {spec.name: getattr(step, spec.name) for spec in dataclasses.fields(Progress)}
                    self._show.tell("progress", source=name, **facts)
                elif isinstance(step, Note):
                    self._show.tell("said", source=name, text=WORDING.fill(step.message))
                elif isinstance(step, Film):
                    self._filmed(step, places, name, begun)
                elif self._last_only:
                    waiting = step
                else:
                    self._keep(step, places, name, begun)
                    begun = time.monotonic()
        if waiting is not None:
            self._keep(waiting, places, name, begun)

    def _keep(self, result: Any, places: Places, name: str, begun: float) -> None:
        target, sha256, said = write(result, places, self._output)
        for sentence in (*result.record.said, *said):
            self._show.tell("said", source=name, text=sentence)
        self.made.append(target)
        height, width = result.picture.pixels.shape[:2]
        facts = {"sha256": sha256, "width": width, "height": height, "seconds": round(time.monotonic() - begun, 2)}
        seed = None if result.is_sheet else result.record.options["seed"]
        self._show.tell("done", source=name, target=str(target), seed=seed, sheet=result.is_sheet, **facts)

    def _filmed(self, film: Any, places: Places, name: str, begun: float) -> None:
        target, said = places.filmed(film)
        for sentence in said:
            self._show.tell("said", source=name, text=sentence)
        self.made.append(target)
        height, width = film.frames[0].shape[:2]
        facts = {"width": width, "height": height, "seconds": round(time.monotonic() - begun, 2)}
        self._show.tell("done", source=name, target=str(target), seed=film.seed, sheet=False, **facts)

    def _engine_now(self) -> "Engine":
        if self._engine is None:
            from calotype.engine import Engine

            self._engine = Engine(self._settings)
        return self._engine


def _listed(path: Path, asked: dict[str, Any]) -> Iterator[Imagine]:
    """One task for each line that says something. Raises CalotypeError, naming the line."""
    try:
        if path.stat().st_size > LARGEST_LIST:
            raise CalotypeError("{path} is too large for a list of prompts", path=readable(path))
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=readable(path), reason=fault.strerror) from None
    except UnicodeDecodeError:
        raise CalotypeError("{path} is no text in UTF-8; save it as such", path=readable(path)) from None
    found = False
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            found = True
            try:
                yield read_task("imagine", {**asked, **_line(line.strip())})
            except CalotypeError as fault:
                raise CalotypeError(
                    "{path}, line {number}: {fault}", path=readable(path), number=number, fault=fault
                ) from None
    if not found:
        raise CalotypeError("{path} has no prompts in it; write one a line", path=readable(path))


def _line(line: str) -> dict[str, Any]:
    """A prompt, or A1111's form: --prompt "..." --negative_prompt "..." --steps 20 --width 512."""
    if not line.startswith("--"):
        return {"prompt": line}
    try:
        words = shlex.split(line)
    except ValueError as fault:
        raise CalotypeError("its quotes don't match ({fault})", fault=fault) from None
    told: dict[str, str] = {}
    while words:
        name = words.pop(0).removeprefix("--").replace("-", "_")
        is_switch = not words or words[0].startswith("--")
        told[A1111_NAMES.get(name, name)] = "" if is_switch else words.pop(0)
    counts = [_count(name, told.pop(name)) for name in ("n_iter", "batch_size") if name in told]
    if counts:
        told["count"] = str(math.prod(counts))
    if "width" in told or "height" in told:
        sides = [told.pop(side, None) for side in ("width", "height")]
        told["size"] = "x".join(side or sides[0] or sides[1] for side in sides)
    switches = {spec.name for spec in dataclasses.fields(Imagine) if spec.type is bool}
    return {name: value.lower() != "false" if name in switches else value for name, value in told.items()}


def _count(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CalotypeError("--{name} is a whole number, not {text!r}", name=name, text=text) from None
