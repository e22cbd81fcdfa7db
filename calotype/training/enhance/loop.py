"""The loop that trains upscalers and face restorers, in plain sight, and what is measured and shown during it."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save as serialize
from torch import Tensor, nn

from calotype.errors import CalotypeError, Message, plural
from calotype.files import make_folder, run_lock, write_atomic
from calotype.ops.color import to_pixels
from calotype.picture import Picture, save
from calotype.tasks import Note, Progress, note
from calotype.training.enhance.run import KINDS, EnhanceRun, Test, discriminator_path, good_name
from calotype.training.monitor.monitor import SECONDS, Monitor, option_facts, tensorboard_folder
from calotype.training.optim.lr_schedule import lr_factor
from calotype.training.run.result import TrainResult

PSNR, PERCEPTUAL = "PSNR in dB", "Perceptual distance"
MAX_DROP = 3.0  # dB of PSNR below the best, at which the network has collapsed
WON = 0.995  # accuracy of the discriminator above which the network learns little from it
RECENT = 100  # steps over which that accuracy is averaged
MAX_OVERTIME = 1.1  # of the minutes given, after which the run ends as it is


# ---------------------------------------------------------------------- the loop


def train(run: EnhanceRun) -> Iterator[Progress | Note | TrainResult]:
    """Yields progress, and TrainResult last. Closing it saves the last step; the same command resumes from there.

    Raises:
        CalotypeError: another run of that name, a state that does not fit, no room on disk, a loss that is NaN.
    """
    with run_lock(run.task.output_dir, run.task.output_name):
        yield from _train(run)


def _train(run: EnhanceRun) -> Iterator[Progress | Note | TrainResult]:
    task, trainer, state = run.task, run.trainer, run.state
    yield from map(note, run.resume())
    total = run.stages.total
    if not run.validation:
        yield note("there are no validation pictures, so training patches are measured, which only shows a collapse")
    logs, missing = tensorboard_folder(task)
    yield from map(note, missing)
    facts = {"plan": list(map(str, run.plan)), "about": run.about, **option_facts(task)}
    monitor = Monitor(task.output_dir, task.output_name, (state.step, total, 0), trainer.device, facts, logs)
    accuracies, has_won = deque(maxlen=RECENT), False
    try:
        with state.saved_on_interrupt():
            if state.step in (0, total) or not state.is_complete:
                yield from evaluate_step(run, monitor)
                state.is_complete = True
            for step in range(state.step, total):
                rate, phase = lr_factor(task.lr_scheduler, step, total), run.phase(step)
                with state.update():
                    metrics = trainer.step(step, run.batch(step), phase, rate, task.ema_decay, task.max_grad_norm)
                    loss = metrics.pop("loss")
                    accuracies.append(metrics.pop("Verdict/right", 0.0))
                    is_evaluated = (step + 1) % task.validate_every == 0 or step + 1 == total
                    state.count(loss, is_complete=not is_evaluated)
                    rates = [group["lr"] for group in trainer.optimizer.param_groups]
                    rates = dict(zip(("network", "discriminator"), rates, strict=False))
                    event = monitor.log_step(state.step, loss, rates, **metrics)
                if state.is_diverged:
                    raise _diverged(run)
                is_over = task.minutes and monitor.metrics_log.last(SECONDS, 0.0) > MAX_OVERTIME * 60 * task.minutes
                state.is_complete = state.is_complete and not is_over
                yield event
                if not has_won and phase.gan and len(accuracies) == RECENT and sum(accuracies) > WON * RECENT:
                    has_won = True
                    yield note(
                        "step {step}: the discriminator recognizes every generated picture, so the network learns "
                        "little from it; stop, and go on with a lower {option:discriminator_lr} or a higher "
                        "{option:gan_weight}",
                        step=state.step,
                    )
                is_first_good = not (state.is_complete or state.path.is_file())  # a good network needs a state beside
                if not state.is_complete:
                    yield from evaluate_step(run, monitor)
                    state.is_complete = True
                state.save_if_due(total, is_due=is_first_good)
                if is_over and state.step < total:
                    yield note(
                        "the {minutes:g} minutes are over after {steps} of {total} steps",
                        minutes=task.minutes,
                        steps=state.step,
                        total=total,
                    )
                    break
            is_kept = task.save_state and run.is_sound
            if is_kept:
                run.stages = run.stages.until(state.step)
                state.save()
            if task.save_discriminator and run.is_sound:
                _save_discriminator(run)
            path = run.save_network(task.output_name, trainer.ema, state.step) if run.is_sound else restore_good(run)
            monitor.finish()
    finally:
        monitor.close()
    state.close(keep=is_kept)
    if run.is_sound:
        for kind in KINDS:
            (task.output_dir / f"{good_name(task)}{kind}").unlink(missing_ok=True)
    else:
        yield note("the network has collapsed at the end; {path} is the last one before that", path=path)
    yield note("report: {path}", path=monitor.path)
    yield TrainResult(path, tuple(state.losses), run.pictures, monitor.path)


def _diverged(run: EnhanceRun) -> CalotypeError:
    values = {"step": run.state.first_nonfinite, "rate": run.task.learning_rate}
    if run.state.path.is_file():
        return CalotypeError(
            "the loss is NaN since step {step}: the rate {rate:g} is too high. The same command with a lower "
            "{option:learning_rate} goes on from the last state",
            **values,
        )
    return CalotypeError(
        "the loss is NaN since step {step}: the rate {rate:g} is too high. The same command with a lower "
        "{option:learning_rate} begins anew",
        **values,
    )


def restore_good(run: EnhanceRun) -> Path:
    """Moves the files of the last good network to where the result belongs."""
    for path in _good_files(run):
        path.replace(path.with_name(f"{run.task.output_name}{path.suffix}"))
    paths = _good_files(run)
    if not paths:
        raise CalotypeError(
            "the network has collapsed, and it was never good; begin anew under another "
            "{option:output_name}, with a lower {option:gan_weight} or {option:learning_rate}"
        )
    return paths[0]


def _good_files(run: EnhanceRun) -> list[Path]:
    """The files of the last good network of this run, or else those of the run before it."""
    stems = (good_name(run.task), run.task.output_name)
    candidates = ([run.task.output_dir / f"{stem}{kind}" for kind in KINDS] for stem in stems)
    return next((files for paths in candidates if (files := [path for path in paths if path.is_file()])), [])


def _save_discriminator(run: EnhanceRun) -> None:
    state = run.trainer.discriminator.state_dict()
    data = serialize({key: value.detach().cpu().contiguous() for key, value in state.items()})
    write_atomic(discriminator_path(run.task), data)


# ---------------------------------------------------------------------- evaluation


def evaluate_step(run: EnhanceRun, monitor: Monitor) -> Iterator[Progress | Note]:
    """Measures, writes sample pictures, and saves the network unless it has collapsed or its loss is NaN."""
    outputs = [run.trainer.output(test.low[None])[0] for test in run.measured]
    yield from _measure(run, monitor, outputs)
    if samples := _write_samples(run, monitor, outputs):
        yield monitor.sampled(samples)
    monitor.write_report()


def _measure(run: EnhanceRun, monitor: Monitor, outputs: Sequence[Tensor]) -> Iterator[Note]:
    metrics, step = measure(outputs, run.measured, run.trainer.features), run.state.step
    before = monitor.metrics_log.numbers.get(f"{PSNR}/{run.measured_on}", ())
    best, best_step = max(((psnr, n) for n, psnr in before if math.isfinite(psnr)), default=(-math.inf, 0))
    monitor.log_metrics({f"{name}/{run.measured_on}": value for name, value in metrics.items()})
    figures = _figures(run, metrics)
    run.is_sound = metrics[PSNR] >= best - MAX_DROP
    if not run.is_sound:
        yield _collapsed(run, figures, best - metrics[PSNR], best_step)
        return
    if step and not run.state.nonfinite:
        run.save_network(good_name(run.task), run.trainer.ema, step)
    yield note(figures)


def _figures(run: EnhanceRun, metrics: Mapping[str, float]) -> Message:
    pictures = Message("{count} training patches", count=len(run.measured))
    if run.validation:
        pictures = plural(len(run.measured), "1 validation picture", "{count} validation pictures")
    values = {"step": run.state.step, "psnr": metrics[PSNR], "pictures": pictures}
    if PERCEPTUAL not in metrics:
        return Message("step {step}: {psnr:.2f} dB on {pictures}", **values)
    return Message(
        "step {step}: {psnr:.2f} dB on {pictures}, perceptual distance {distance:.3f}",
        distance=metrics[PERCEPTUAL],
        **values,
    )


def _collapsed(run: EnhanceRun, figures: Message, drop: float, step: int) -> Note:
    """Args:
    drop: dB of PSNR below that after `step`.
    """
    values = {"figures": figures, "drop": drop, "step": step}
    if files := _good_files(run):
        return note(
            "{figures}; that is {drop:.1f} dB less than after step {step}: the network has collapsed. {name} is the "
            "last one before that; begin anew under another {option:output_name}, with a lower {option:gan_weight} or "
            "{option:learning_rate}",
            name=files[0].stem,
            **values,
        )
    return note(
        "{figures}; that is {drop:.1f} dB less than after step {step}: the network has collapsed, and no good one is "
        "there; begin anew under another {option:output_name}, with a lower {option:gan_weight} or "
        "{option:learning_rate}",
        **values,
    )


def measure(outputs: Sequence[Tensor], tests: Sequence[Test], features: nn.Module | None) -> dict[str, float]:
    """Mean PSNR in dB, and mean perceptual distance, of the outputs for the tests: (3, H, W) each, in [0, 1]."""
    mean_psnr, distance = 0.0, 0.0
    for output, test in zip(outputs, tests, strict=True):
        x, true = output[None], test.true[None]
        mean_psnr += psnr(x, true) / len(tests)
        if features is not None:
            device = next(features.parameters()).device
            with torch.no_grad():
                distance += float(features(x.to(device), true.to(device))) / len(tests)
    return {PSNR: mean_psnr} | ({PERCEPTUAL: distance} if features is not None else {})


def psnr(x: Tensor, true: Tensor) -> float:
    """PSNR in dB of pictures in [0, 1]; at most 100."""
    return float(-10 * torch.log10((x - true).square().mean().clamp(min=1e-10)))


def _write_samples(run: EnhanceRun, monitor: Monitor, outputs: Sequence[Tensor]) -> list[np.ndarray]:
    """Input, output and target side by side, for some of the measured pictures: (H, W, 3) uint8 each."""
    written = []
    task, folder = run.task, run.task.output_dir / "sample"
    for n, test in enumerate(run.measured[: task.sample_count]):
        make_folder(folder)
        pixels = side_by_side([test.low, outputs[n], test.true])
        path = folder / f"{task.output_name}_{run.state.step:06d}_{n:02d}.png"
        save(Picture(pixels), path, format="png")
        monitor.log_sample(path, test.name, "input, output and target", pixels, n)
        written.append(pixels)
    return written


def side_by_side(pictures: Sequence[Tensor]) -> np.ndarray:
    """(3, h, w) each, enlarged without smoothing to the size of the last one: (H, n * W, 3) uint8."""
    height, width = pictures[-1].shape[1:]
    resized = [F.interpolate(x[None], (height, width), mode="nearest")[0] for x in pictures]
    return to_pixels(torch.cat(resized, 2), like=np.empty((1, 1, 3), np.uint8))


def about(device: torch.device, is_mixed: bool, **more: str) -> dict[str, str]:
    """Facts for the report."""
    dtype = "bfloat16 mixed precision" if is_mixed else "float32"
    return {**more, "computed": f"on {device.type}, in {dtype}, with torch {torch.__version__.partition('+')[0]}"}
