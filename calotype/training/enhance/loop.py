"""What learning to enlarge and learning to restore faces share: the loop, in plain sight, and what is seen of it."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save as packed
from torch import Tensor, nn

from calotype.errors import CalotypeError, Message, plural
from calotype.files import make_folder, run_lock, uninterrupted, write_atomic
from calotype.ops.color import to_pixels
from calotype.picture import Picture, save
from calotype.tasks import Note, Progress, note
from calotype.training.enhance.run import KINDS, EnhanceRun, Test, good_name, resumed, save_state
from calotype.training.monitor.monitor import SECONDS, Monitor, option_facts, tensorboard_folder
from calotype.training.optim.lr_schedule import lr_factor
from calotype.training.run.result import TrainResult
from calotype.training.run.save_timer import SaveTimer

FAILED = 3  # steps with a loss that is no number before the run is stopped
PSNR, PERCEPTUAL = "PSNR in dB", "Perceptual distance"
WORSE = 3.0  # dB below its best at which the network has collapsed
WON = 0.995  # share of pixels that the expert judges rightly from which on it teaches nothing more
RECENT = 100  # steps over which that is counted
OVERTIME = 1.1  # of the minutes given, after which the run ends as it is


# ---------------------------------------------------------------------- the loop


def learn(course: EnhanceRun) -> Iterator[Progress | Note | TrainResult]:
    """Yields progress, and TrainResult last. Closing it keeps the last state; the same command goes on from there.

    Raises:
        CalotypeError: another run of that name, a state that does not fit, no room on disk, a loss that is no number.
    """
    with run_lock(course.task.output_dir, course.task.output_name):
        yield from _learnt(course)


def _learnt(course: EnhanceRun) -> Iterator[Progress | Note | TrainResult]:
    task, rivals = course.task, course.rivals
    begin, losses, is_whole, notes = resumed(course)
    yield from map(note, notes)
    total = course.spans.total
    if not course.tests:
        yield note("no pictures are held back, so pieces of those learnt from are measured: a collapse shows, no more")
    logs, missing = tensorboard_folder(task)
    yield from map(note, missing)
    facts = {"plan": list(map(str, course.told)), "about": course.about, **option_facts(task)}
    watch = Monitor(task.output_dir, task.output_name, (begin, total, 0), rivals.device, facts, logs)
    failed, right, has_won, due = 0, deque(maxlen=RECENT), False, SaveTimer(task.save_state_every)
    done, is_changing = begin, False
    try:
        if begin in (0, total) or not is_whole:  # or it was stopped before its last step was looked at
            yield from _looked_at(course, watch, begin)
        is_whole = True
        for step in range(begin, total):
            rate = lr_factor(task.lr_scheduler, step, total)
            phase = course.phase(step)
            with uninterrupted():
                is_changing = True
                told = rivals.step(step, course.lesson(step), phase, rate, task.ema_decay, task.max_grad_norm)
                loss, done = told.pop("loss"), step + 1
                losses.append(loss)
                right.append(told.pop("Verdict/right", 0.0))
                is_whole = not (done % task.validate_every == 0 or done == total)
                is_changing = False
                rates = [group["lr"] for group in rivals.optimizer.param_groups]
                event = watch.log_step(done, loss, dict(zip(("network", "discriminator"), rates, strict=False)), **told)
            failed = failed + 1 if not math.isfinite(loss) else 0
            if failed == FAILED:
                raise _spoilt(course, step - FAILED + 2)
            is_over = task.minutes and watch.metrics_log.last(SECONDS, 0.0) > OVERTIME * 60 * task.minutes
            is_whole = is_whole and not is_over
            yield event
            if not has_won and phase.expert_counts and len(right) == RECENT and sum(right) / RECENT > WON:
                has_won = True
                yield note(
                    "step {step}: the discriminator tells every picture that is made from a real one, so the network "
                    "learns little from it; stop it, and go on with a lower {option:discriminator_lr} or a higher "
                    "{option:gan_weight}",
                    step=done,
                )
            is_due = due(done) or not (is_whole or course.state_path.is_file())  # a sound file is not kept without it
            if not is_whole:
                yield from _looked_at(course, watch, done, is_kept=not failed)
                is_whole = True
            if is_due and done < total and not failed:
                save_state(course, done, losses)
                due.saved()
            if is_over and done < total:
                yield note(
                    "the {minutes:g} minutes are over after {steps} of {total} steps",
                    minutes=task.minutes,
                    steps=done,
                    total=total,
                )
                break
        is_kept = task.save_state and course.is_sound
        if is_kept:
            course.spans = course.spans.until(done)
            save_state(course, done, losses)
        if task.save_discriminator and course.is_sound:
            _expert_written(course)
        path = course.written(task.output_name, rivals.mean, len(losses)) if course.is_sound else _rescued(course)
        watch.finish()
    except (GeneratorExit, KeyboardInterrupt):
        if done > begin and not is_changing and not failed:
            save_state(course, done, losses, is_whole)
        raise
    finally:
        watch.close()
    if not is_kept:
        course.state_path.unlink(missing_ok=True)
    if course.is_sound:
        for kind in KINDS:
            (task.output_dir / f"{good_name(course.task)}{kind}").unlink(missing_ok=True)
    else:
        yield note("the network has collapsed at the end; {path} is as it was when it was sound last", path=path)
    yield note("report: {path}", path=watch.path)
    yield TrainResult(path, tuple(losses), course.photos, watch.path)


def _spoilt(course: EnhanceRun, step: int) -> CalotypeError:
    values = {"step": step, "rate": course.task.learning_rate}
    if course.state_path.is_file():
        return CalotypeError(
            "the loss is no number since step {step}: the rate {rate:g} is too high. The same command with a lower "
            "{option:learning_rate} goes on from the last state",
            **values,
        )
    return CalotypeError(
        "the loss is no number since step {step}: the rate {rate:g} is too high. The same command with a lower "
        "{option:learning_rate} begins anew",
        **values,
    )


def _rescued(course: EnhanceRun) -> Path:
    """Puts the files of the network as it was when it was sound where the last ones belong."""
    for path in _sound(course):
        path.replace(path.with_name(f"{course.task.output_name}{path.suffix}"))
    paths = _sound(course)
    if not paths:
        raise CalotypeError(
            "the network has collapsed, and it was never sound; begin anew under another "
            "{option:output_name}, with a lower {option:gan_weight} or {option:learning_rate}"
        )
    return paths[0]


def _sound(course: EnhanceRun) -> list[Path]:
    """The files of the network as it was when it was sound: of this run, or else what it ended in before it went on."""
    stems = (good_name(course.task), course.task.output_name)
    found = ([course.task.output_dir / f"{stem}{kind}" for kind in KINDS] for stem in stems)
    return next((there for paths in found if (there := [path for path in paths if path.is_file()])), [])


def _expert_written(course: EnhanceRun) -> None:
    state = course.rivals.expert.state_dict()
    data = packed({key: value.detach().cpu().contiguous() for key, value in state.items()})
    write_atomic(course.expert_path, data)


# ---------------------------------------------------------------------- what is seen


def _looked_at(course: EnhanceRun, watch: Monitor, done: int, is_kept: bool = True) -> Iterator[Note]:
    """Measures, shows samples, and keeps the network while it is sound and that is wished."""
    made = [course.rivals.shown(test.low[None])[0] for test in course.measured]
    yield from _measured(course, watch, done, made, is_kept)
    _sampled(course, watch, done, made)
    watch.write_report()


def _measured(course: EnhanceRun, watch: Monitor, done: int, made: Sequence[Tensor], is_kept: bool) -> Iterator[Note]:
    numbers = measured(made, course.measured, course.rivals.features)
    before = watch.metrics_log.numbers.get(f"{PSNR}/{course.whose}", ())
    best, when = max(((value, step) for step, value in before if math.isfinite(value)), default=(-math.inf, 0))
    watch.log_metrics({f"{name}/{course.whose}": value for name, value in numbers.items()})
    figures = _figures(course, done, numbers)
    course.is_sound = numbers[PSNR] >= best - WORSE
    if not course.is_sound:
        yield _collapsed(course, figures, best - numbers[PSNR], when)
        return
    if done and is_kept:
        course.written(good_name(course.task), course.rivals.mean, done)
    yield note(figures)


def _figures(course: EnhanceRun, step: int, numbers: Mapping[str, float]) -> Message:
    pictures = Message("{count} pieces of what is learnt from", count=len(course.measured))
    if course.tests:
        pictures = plural(len(course.measured), "1 picture held back", "{count} pictures held back")
    values = {"step": step, "psnr": numbers[PSNR], "pictures": pictures}
    if PERCEPTUAL not in numbers:
        return Message("step {step}: {psnr:.2f} dB on {pictures}", **values)
    return Message(
        "step {step}: {psnr:.2f} dB on {pictures}, perceptual distance {distance:.3f}",
        distance=numbers[PERCEPTUAL],
        **values,
    )


def _collapsed(course: EnhanceRun, figures: Message, less: float, step: int) -> Note:
    """`less`: dB that the network was better by after a step."""
    values = {"figures": figures, "less": less, "step": step}
    if found := _sound(course):
        return note(
            "{figures}; that is {less:.1f} dB less than after step {step}: the network has collapsed. {name} is as it "
            "was when it was sound; begin anew under another {option:output_name}, with a lower {option:gan_weight} or "
            "{option:learning_rate}",
            name=found[0].stem,
            **values,
        )
    return note(
        "{figures}; that is {less:.1f} dB less than after step {step}: the network has collapsed. Nothing good came of "
        "it; begin anew under another {option:output_name}, with a lower {option:gan_weight} or "
        "{option:learning_rate}",
        **values,
    )


def measured(made: Sequence[Tensor], tests: Sequence[Test], features: nn.Module | None) -> dict[str, float]:
    """Mean PSNR in dB, and mean distance of features, of what was made of the pictures: (3, H, W) each, in [0, 1]."""
    psnr, distance = 0.0, 0.0
    for picture, test in zip(made, tests, strict=True):
        one, true = picture[None], test.true[None]
        psnr += decibels(one, true) / len(tests)
        if features is not None:
            device = next(features.parameters()).device
            with torch.no_grad():
                distance += float(features(one.to(device), true.to(device))) / len(tests)
    return {PSNR: psnr} | ({PERCEPTUAL: distance} if features is not None else {})


def decibels(made: Tensor, true: Tensor) -> float:
    """PSNR of pictures in [0, 1]; 100 at most."""
    return float(-10 * torch.log10((made - true).square().mean().clamp(min=1e-10)))


def _sampled(course: EnhanceRun, watch: Monitor, done: int, drawn: Sequence[Tensor]) -> None:
    """Poor, made and true side by side, for some of the pictures that are measured."""
    task, folder = course.task, course.task.output_dir / "sample"
    for n, test in enumerate(course.measured[: task.sample_count]):
        make_folder(folder)
        pixels = strip([test.low, drawn[n], test.true])
        path = folder / f"{task.output_name}_{done:06d}_{n:02d}.png"
        save(Picture(pixels), path, format="png")
        watch.log_sample(path, test.name, "as it is given, as it is made, as it is in truth", pixels, n)


def strip(pictures: Sequence[Tensor]) -> np.ndarray:
    """(3, h, w) each, enlarged without smoothing to the size of the last one: (H, n * W, 3) uint8."""
    height, width = pictures[-1].shape[1:]
    wide = [F.interpolate(x[None], (height, width), mode="nearest")[0] for x in pictures]
    return to_pixels(torch.cat(wide, 2), like=np.empty((1, 1, 3), np.uint8))


def about(device: torch.device, is_mixed: bool, **more: str) -> dict[str, str]:
    """Facts for the page."""
    how = "bfloat16 where it does no harm" if is_mixed else "float32"
    return {**more, "computed": f"on {device.type}, in {how}, with torch {torch.__version__.partition('+')[0]}"}
