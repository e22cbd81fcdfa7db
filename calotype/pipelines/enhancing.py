"""What learning to enlarge and learning to restore faces share: the loop, in plain sight, and what is seen of it."""

import copy
import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save as packed
from torch import Tensor, nn

from calotype.errors import CalotypeError
from calotype.models.network import is_bfloat16_quick
from calotype.ops.color import to_pixels
from calotype.picture import Picture, save
from calotype.picture.saving import Arriving
from calotype.tasks import Progress, Said, options_of
from calotype.training import state as states
from calotype.training.files import alone, check_place
from calotype.training.interrupts import Due, whole
from calotype.training.learned import Learned
from calotype.training.rates import factor
from calotype.training.rivals import Lesson, Phase, Rivals
from calotype.training.state import State
from calotype.training.watch import SECONDS, Watch, logs_of, options_told

FAILED = 3  # steps with a loss that is no number before the run is stopped
PSNR, PERCEPTUAL = "PSNR in dB", "Perceptual distance"
HELD, LEARNT = "held back", "learnt from"  # whose the numbers are
WORSE = 3.0  # dB below its best at which the network has collapsed
WON = 0.995  # share of pixels that the expert judges rightly from which on it teaches nothing more
FEW = 8  # pictures learnt from that are measured where none are held back
RECENT = 100  # steps over which that is counted
OVERTIME = 1.1  # of the minutes given, after which the run ends as it is
KINDS = (".safetensors", ".pth")  # of files that a run may write
UNFELT = ("save_", "sample_", "validat", "log", "output_")  # options that change nothing of what is learnt
RATES = ("learning_rate", "discriminator_lr", "lr_scheduler")
WEIGHTS = ("l1_weight", "perceptual_weight", "gan_weight", "identity_weight", "parts_weight")
LENGTHS = ("l1_steps", "gan_steps", "gan_warmup_steps", "minutes")
IDLE = ("dry_run", "photos", "model", "vgg", "discriminator")  # what these name is told by its contents


@dataclass(frozen=True, eq=False)
class Test:
    """A picture to measure with."""

    name: str
    low: Tensor  # (3, h, w) in [0, 1]
    true: Tensor  # (3, H, W) in [0, 1], as sharp as it is taught


@dataclass(frozen=True)
class Spans:
    """How many steps of each kind."""

    l1: int
    gan: int
    quiet: int  # of the second stage, those in which the expert is not yet heard

    @property
    def total(self) -> int:
        return self.l1 + self.gan

    def times(self, share: float) -> "Spans":
        """Longer or shorter as a whole; what there is does not vanish."""
        l1, gan, quiet = (max(min(1, n), round(n * share)) for n in (self.l1, self.gan, self.quiet))
        return Spans(l1, gan, min(quiet, gan))

    def until(self, done: int) -> "Spans":
        """Those that were taken, where it ended after so many."""
        l1 = min(self.l1, done)
        return Spans(l1, done - l1, min(self.quiet, done - l1))


@dataclass(eq=False)
class Course:
    """One run: all that the loop needs to know of what is learnt."""

    task: Any  # with the options of tasks.enhancing's Rounds, Losses and Kept
    rivals: Rivals
    lesson: Callable[[int], Lesson]  # of a step; all chance in it comes from the seed and the step's number
    tests: Sequence[Test]  # held back
    written: Callable[[str, nn.Module, int], Path]  # a network, under a name, after so many steps
    photos: int
    told: list[str]  # the plan
    about: dict[str, str]
    decides: Sequence[Any]  # what the result depends on besides the options, as JSON-ready data
    features_first: bool = False  # features count in stage one too
    spans: Spans = field(init=False)
    is_sound: bool = True  # not worse by far than it was before

    def __post_init__(self) -> None:
        task = self.task
        self.spans = Spans(task.stage_one, task.gan_steps, min(task.gan_warmup_steps, task.gan_steps))

    def phase(self, step: int) -> Phase:
        """Stage one, then features and an expert that only learns, then the expert's verdict too."""
        if step < self.spans.l1:
            return Phase(perceptual=self.features_first)
        return Phase(True, True, step >= self.spans.l1 + self.spans.quiet)

    @cached_property
    def measured(self) -> Sequence[Test]:
        """What is held back, or else what steps that never come would learn from: a collapse shows there as well."""
        return self.tests or _dealt(self.lesson)

    @property
    def whose(self) -> str:
        return HELD if self.tests else LEARNT

    @property
    def state_path(self) -> Path:
        return _state_path(self.task)

    @property
    def expert_path(self) -> Path:
        return _expert_path(self.task)

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that decides about the result, of that without what may change on the way, and that itself."""
        options = {k: v for k, v in options_of(self.task).items() if k not in IDLE and not k.startswith(UNFELT)}
        options["l1_steps"] = self.task.stage_one
        free = {name: options[name] for name in (*RATES, *WEIGHTS, *LENGTHS) if name in options}
        core = {name: value for name, value in options.items() if name not in free}
        told = (json.dumps([kept, list(self.decides)], sort_keys=True).encode() for kept in (options, core))
        return " ".join((*(hashlib.sha256(one).hexdigest() for one in told), json.dumps(free)))


def is_mixed(wanted: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: where the device multiplies it in hardware, or it is asked for."""
    if wanted == "auto":
        return is_bfloat16_quick(device)
    return wanted == "bf16"


# ---------------------------------------------------------------------- where it goes


def check_free(task: Any) -> None:
    """Makes and changes nothing, so that it can be asked before anything else.

    Raises:
        CalotypeError: the folder cannot be written to, or an earlier run has left its result, or its last sound
            network, under this name, and no state to go on from.
    """
    check_place(task.output_dir)
    if _state_path(task).is_file():
        return
    expert = _expert_path(task)
    if task.save_discriminator and expert.exists():
        raise CalotypeError(f"{expert} is there already, from a run that ended; give another --output-name")
    for kind in KINDS:
        path, good = (task.output_dir / f"{name}{kind}" for name in (task.output_name, _good(task)))
        if path.exists():
            raise CalotypeError(f"{path} is there already, from a run that ended; give another --output-name")
        if good.exists():
            raise CalotypeError(
                f"{good} is there already, the last sound network of a run that was broken off; give another "
                "--output-name, or move it away"
            )


def _state_path(task: Any) -> Path:
    return task.output_dir / f"{task.output_name}.state.safetensors"


def _expert_path(task: Any) -> Path:
    return task.output_dir / f"{task.output_name}-discriminator.safetensors"


# ---------------------------------------------------------------------- the loop


def learn(course: Course) -> Iterator[Progress | Said | Learned]:
    """Yields progress, and Learned last. Closing it keeps the last state; the same command goes on from there.

    Raises:
        CalotypeError: another run of that name, a state that does not fit, no room on disk, a loss that is no number.
    """
    with alone(course.task.output_dir, course.task.output_name):
        yield from _learnt(course)


def _learnt(course: Course) -> Iterator[Progress | Said | Learned]:
    task, rivals = course.task, course.rivals
    begin, losses, is_whole, notes = _resumed(course)
    yield from map(Said, notes)
    total = course.spans.total
    if not course.tests:
        yield Said("no pictures are held back, so pieces of those learnt from are measured: a collapse shows, no more")
    logs, missing = logs_of(task)
    yield from map(Said, missing)
    facts = {"plan": course.told, "about": course.about, **options_told(task)}
    watch = Watch(task.output_dir, task.output_name, (begin, total, 0), rivals.device, facts, logs)
    failed, right, has_won, due = 0, deque(maxlen=RECENT), False, Due(task.save_state_every)
    done, is_changing = begin, False
    try:
        if begin in (0, total) or not is_whole:  # or it was stopped before its last step was looked at
            yield from _looked_at(course, watch, begin)
        is_whole = True
        for step in range(begin, total):
            rate = factor(task.lr_scheduler, step, total)
            phase = course.phase(step)
            with whole():
                is_changing = True
                told = rivals.step(step, course.lesson(step), phase, rate, task.ema_decay, task.max_grad_norm)
                loss, done = told.pop("loss"), step + 1
                losses.append(loss)
                right.append(told.pop("Verdict/right", 0.0))
                is_whole = not (done % task.validate_every == 0 or done == total)
                is_changing = False
                rates = [group["lr"] for group in rivals.optimizer.param_groups]
                event = watch.stepped(done, loss, dict(zip(("network", "discriminator"), rates, strict=False)), **told)
            failed = failed + 1 if not math.isfinite(loss) else 0
            if failed == FAILED:
                raise CalotypeError(
                    f"the loss is no number since step {step - FAILED + 2}: the rate {task.learning_rate:g} is too "
                    "high. The same command with a lower --learning-rate goes on from the last state"
                )
            is_over = task.minutes and watch.diary.last(SECONDS, 0.0) > OVERTIME * 60 * task.minutes
            is_whole = is_whole and not is_over
            yield event
            if not has_won and phase.expert_counts and len(right) == RECENT and sum(right) / RECENT > WON:
                has_won = True
                yield Said(
                    f"step {done}: the discriminator tells every picture that is made from a real one, so the network "
                    "learns little from it; stop it, and go on with a lower --discriminator-lr or a higher --gan-weight"
                )
            is_due = due(done) or not (is_whole or course.state_path.is_file())  # a sound file is not kept without it
            if not is_whole:
                yield from _looked_at(course, watch, done)
                is_whole = True
            if is_due and done < total and not failed:
                _save_state(course, done, losses)
                due.saved()
            if is_over and done < total:
                yield Said(f"the {task.minutes:g} minutes are over after {done} of {total} steps")
                break
        is_kept = task.save_state and course.is_sound
        if is_kept:
            course.spans = course.spans.until(done)
            _save_state(course, done, losses)
        if task.save_discriminator and course.is_sound:
            _expert_written(course)
        path = course.written(task.output_name, rivals.mean, len(losses)) if course.is_sound else _rescued(course)
        watch.finished()
    except (GeneratorExit, KeyboardInterrupt):
        if done > begin and not is_changing and not failed:
            _save_state(course, done, losses, is_whole)
        raise
    finally:
        watch.close()
    if not is_kept:
        course.state_path.unlink(missing_ok=True)
    if course.is_sound:
        for kind in KINDS:
            (task.output_dir / f"{_good(course.task)}{kind}").unlink(missing_ok=True)
    else:
        yield Said(f"the network has collapsed at the end; {path} is as it was when it was sound last")
    yield Said(f"report: {watch.path}")
    yield Learned(path, tuple(losses), course.photos, watch.path)


def _rescued(course: Course) -> Path:
    """Puts the files of the network as it was when it was sound where the last ones belong."""
    for path in _sound(course):
        path.replace(path.with_name(f"{course.task.output_name}{path.suffix}"))
    paths = _sound(course)
    if not paths:
        raise CalotypeError(
            "the network has collapsed, and it was never sound; begin anew under another --output-name, with a lower "
            "--gan-weight or --learning-rate"
        )
    return paths[0]


def _sound(course: Course) -> list[Path]:
    """The files of the network as it was when it was sound: of this run, or else what it ended in before it went on."""
    stems = (_good(course.task), course.task.output_name)
    found = ([course.task.output_dir / f"{stem}{kind}" for kind in KINDS] for stem in stems)
    return next((there for paths in found if (there := [path for path in paths if path.is_file()])), [])


def _resumed(course: Course) -> tuple[int, list[float], bool, list[str]]:
    """Steps done, their losses, whether nothing of the last one is left to do, and what to say of it.

    A run that differs in rates, weights of losses or length alone goes on at the state's step.
    """
    path = course.state_path
    if not path.is_file():
        check_free(course.task)
        return 0, [], True, _timed(course)
    state = states.load(path)
    weights = dict(state.weights)
    _check_stages(course, weights)
    changed = _changed(course, state.fingerprint)
    was = Spans(*(int(n) for n in weights.pop("spans")))
    course.rivals.load(weights, state.optimizer, str(path))
    notes = _timed(course) if changed & {*LENGTHS} else []
    course.spans = _continued(course, was, state.step) if changed & {*LENGTHS} else was
    done, total = state.step, course.spans.total
    results = (course.task.output_dir / f"{course.task.output_name}{kind}" for kind in KINDS)
    if done == total and (ended := next((result for result in results if result.exists()), None)):
        raise CalotypeError(
            f"{ended} is there already, from a run that ended after {done} steps; give more to learn on, or another "
            "--output-name"
        )
    flags = " and ".join(f"--{name.replace('_', '-')}" for name in sorted(changed))
    other = f", with another {flags} than before" if changed else ""
    return done, list(state.losses), state.is_whole, [*notes, f"going on after step {done} of {total}{other}"]


def _changed(course: Course, before: str) -> set[str]:
    """The options in which a run that goes on differs. Raises CalotypeError where it is another run."""
    (whole, kin, free), (whole_before, *more) = course.fingerprint.split(" ", 2), before.split(" ", 2)
    if whole == whole_before:
        return set()
    if len(more) < 2 or kin != more[0]:
        raise CalotypeError(
            f"{course.state_path} is the state of a run with other pictures or settings; delete it to begin anew, or "
            "give another --output-name"
        )
    free, free_before = (json.loads(told) for told in (free, more[1]))
    return {name for name in free if free[name] != free_before.get(name)}


def _check_stages(course: Course, weights: Mapping[str, Tensor]) -> None:
    """Raises CalotypeError where one has a second stage, and the other has not: its networks are others."""
    has_expert = any(key.startswith("expert.") for key in weights)
    if has_expert != (course.rivals.expert is not None):
        raise CalotypeError(
            f"{course.state_path} is of a run {'with' if has_expert else 'without'} a second stage (--gan-steps); "
            "give another --output-name, and with --model what was learnt"
        )


def _continued(course: Course, was: Spans, done: int) -> Spans:
    """The steps that are asked for now, where `done` of others are behind it; no stage is gone back to.

    Raises:
        CalotypeError: more are behind it than are asked for, or stage one would be.
    """
    asked, path = course.spans, course.state_path
    if course.task.minutes:
        l1 = was.l1 if done > was.l1 else max(asked.l1, done)
        asked = Spans(l1, max(0, asked.total - l1), asked.quiet)
    if asked.total < done:
        raise CalotypeError(f"{path} has {done} steps behind it, and {asked.total} are asked for; give more")
    if done > was.l1 and asked.l1 != was.l1:
        raise CalotypeError(
            f"{path} is in its second stage, after {was.l1} steps of the first; give --l1-steps {was.l1} and "
            "--gan-steps for more"
        )
    if asked.l1 < min(done, was.l1):
        raise CalotypeError(f"{path} has {done} steps of stage one behind it; give as many --l1-steps, or more")
    return asked


def _save_state(course: Course, step: int, losses: Sequence[float], is_whole: bool = True) -> None:
    spans = course.spans
    weights = {"spans": torch.tensor([spans.l1, spans.gan, spans.quiet]), **course.rivals.state()}
    course.task.output_dir.mkdir(parents=True, exist_ok=True)
    optimizer = course.rivals.optimizer.state_dict()
    states.save(
        course.state_path, State(step, weights, optimizer, tuple(losses), course.fingerprint, is_whole=is_whole)
    )


def _expert_written(course: Course) -> None:
    state = course.rivals.expert.state_dict()
    data = packed({key: value.detach().cpu().contiguous() for key, value in state.items()})
    with Arriving(course.expert_path) as file:
        file.write(data)


def _timed(course: Course) -> list[str]:
    """Where minutes are given, makes it as many steps of each kind as fit in; what to say of it.

    Measured with copies of all that learns.
    """
    task, spans, cost = course.task, course.spans, 0.0
    if not task.minutes:
        return []
    trial = copy.deepcopy(course.rivals)
    for count, first in ((spans.l1, 0), (spans.gan, spans.l1 + spans.quiet)):
        if count:
            seconds = []
            for n in (0, 1, 2):
                begun = time.monotonic()
                trial.step(0, course.lesson(n), course.phase(first), 1.0, 0.9, task.max_grad_norm)
                seconds.append(time.monotonic() - begun)
            cost += count * min(seconds[1:])
    course.spans = spans.times(60 * task.minutes / cost)
    return [f"{task.minutes:g} minutes are about {course.spans.total} steps here"]


# ---------------------------------------------------------------------- what is seen


def _looked_at(course: Course, watch: Watch, done: int) -> Iterator[Said]:
    """Measures, shows samples, and keeps the network while it is sound."""
    yield from _measured(course, watch, done)
    _sampled(course, watch, done)
    watch.page_written()


def _measured(course: Course, watch: Watch, done: int) -> Iterator[Said]:
    numbers = measured(course.rivals.shown, course.measured, course.rivals.features)
    before = watch.diary.numbers.get(f"{PSNR}/{course.whose}", ())
    best, when = max(((value, step) for step, value in before if math.isfinite(value)), default=(-math.inf, 0))
    watch.measured({f"{name}/{course.whose}": value for name, value in numbers.items()})
    count = len(course.measured)
    what = f"{counted(count, 'picture')} held back" if course.tests else f"{count} pieces of what is learnt from"
    told = f"step {done}: {numbers[PSNR]:.2f} dB on {what}"
    if PERCEPTUAL in numbers:
        told += f", perceptual distance {numbers[PERCEPTUAL]:.3f}"
    course.is_sound = numbers[PSNR] >= best - WORSE
    if not course.is_sound:
        found = _sound(course)
        kept = f"{found[0].stem} is as it was when it was sound" if found else "Nothing good came of it"
        yield Said(
            f"{told}; that is {best - numbers[PSNR]:.1f} dB less than after step {when}: the network has collapsed. "
            f"{kept}; begin anew under another --output-name, with a lower --gan-weight or --learning-rate"
        )
        return
    if done:
        course.written(_good(course.task), course.rivals.mean, done)
    yield Said(told)


def _good(task: Any) -> str:
    """Name of the file that is kept while the network is sound."""
    return f"{task.output_name}-good"


def _dealt(lesson: Callable[[int], Lesson]) -> list[Test]:
    """A few pieces that the seed deals before step 0; those with nothing to mend only where there are no others."""
    found: list[Test] = []
    while len(found) < 2 * FEW:
        batch = lesson(-1 - len(found))
        pairs = zip(batch.low.cpu(), batch.target.cpu(), strict=True)
        found += [Test(f"learnt from, {len(found) + n}", low, true) for n, (low, true) in enumerate(pairs, 1)]
    return sorted(found, key=lambda test: torch.equal(test.low, test.true))[:FEW]


def measured(
    restored: Callable[[Tensor], Tensor], tests: Sequence[Test], features: nn.Module | None
) -> dict[str, float]:
    """Mean PSNR in dB, and mean distance of features, of what is made of the pictures.

    Args:
        restored: (1, 3, h, w) to (1, 3, H, W), both in [0, 1].
    """
    psnr, distance = 0.0, 0.0
    for test in tests:
        made, true = restored(test.low[None]), test.true[None]
        psnr += decibels(made, true) / len(tests)
        if features is not None:
            device = next(features.parameters()).device
            with torch.no_grad():
                distance += float(features(made.to(device), true.to(device))) / len(tests)
    return {PSNR: psnr} | ({PERCEPTUAL: distance} if features is not None else {})


def counted(count: int, what: str) -> str:
    """ "1 picture", "2 pictures"."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def decibels(made: Tensor, true: Tensor) -> float:
    """PSNR of pictures in [0, 1]; 100 at most."""
    return float(-10 * torch.log10((made - true).square().mean().clamp(min=1e-10)))


def _sampled(course: Course, watch: Watch, done: int) -> None:
    """Poor, made and true side by side, for some of the pictures that are measured."""
    task, folder = course.task, course.task.output_dir / "sample"
    for n, test in enumerate(course.measured[: task.sample_count]):
        folder.mkdir(parents=True, exist_ok=True)
        pixels = strip([test.low, course.rivals.shown(test.low[None])[0], test.true])
        path = folder / f"{task.output_name}_{done:06d}_{n:02d}.png"
        save(Picture(pixels), path, format="png")
        watch.sampled(path, test.name, "as it is given, as it is made, as it is in truth", pixels, n)


def strip(pictures: Sequence[Tensor]) -> np.ndarray:
    """(3, h, w) each, enlarged without smoothing to the size of the last one: (H, n * W, 3) uint8."""
    height, width = pictures[-1].shape[1:]
    wide = [F.interpolate(x[None], (height, width), mode="nearest")[0] for x in pictures]
    return to_pixels(torch.cat(wide, 2), like=np.empty((1, 1, 3), np.uint8))


def about(device: torch.device, is_mixed: bool, **more: str) -> dict[str, str]:
    """Facts for the page."""
    how = "bfloat16 where it does no harm" if is_mixed else "float32"
    return {**more, "computed": f"on {device.type}, in {how}, with torch {torch.__version__.partition('+')[0]}"}
