"""Learning a face, a thing or a style as a LoRA: the loop, in plain sight. Semantics of kohya's train_network.py.

With several processes, the command line's options go to each: `accelerate launch -m calotype train lora ...`.
"""

import contextlib
import hashlib
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype.checkpoints.lora import kohya_file as kohya
from calotype.checkpoints.models import Models
from calotype.checkpoints.store import digest
from calotype.errors import CalotypeError, Message
from calotype.files import check_folder, run_lock
from calotype.tasks import Note, Progress, note, options_of
from calotype.tasks.training import IgnoredOptions, LoraOutput, SampleOptions, TrainLora, parse_step_rules, parse_steps
from calotype.training.data import batches as plan
from calotype.training.data.captions import changed
from calotype.training.data.inspect import looked_at
from calotype.training.lora.evaluator import LoraEvaluator, planned, wanted
from calotype.training.lora.latents import CachedLatents, shown
from calotype.training.lora.lint import findings
from calotype.training.lora.metadata import Count, Run, metadata, weights_told
from calotype.training.lora.run import Planned, opened, photos_of, size_of
from calotype.training.lora.saves import files_due
from calotype.training.monitor.monitor import Monitor, logs_of, options_told
from calotype.training.monitor.validation import validation_loss
from calotype.training.optim.diffusion_loss import noised, target
from calotype.training.optim.grad_scale import GradScaler
from calotype.training.optim.lr_schedule import factor
from calotype.training.optim.optimizers import is_schedule_free, learning, optimizer_named
from calotype.training.run.distributed import Processes
from calotype.training.run.estimate import expected
from calotype.training.run.result import Learned
from calotype.training.run.resume import State, dtype_named, load, remembered, save, state_in, state_path
from calotype.training.run.save_timer import SaveTimer

FAILED = 3  # steps with a loss or gradients that are no numbers before the run is stopped
FREE = {"learning_rate", "unet_lr", "text_encoder_lr", "max_train_steps", "max_train_epochs", "lr_decay_steps"}
FREE |= {"lr_warmup_steps", "lr_scheduler"}  # and what begins with it: how a run goes on may differ in these
LATER = {"prediction": "auto"}  # options that states of earlier versions do not have, with what these did


def train_lora(task: TrainLora, models: Models) -> Iterator[Progress | Note | Learned]:
    """Yields progress, and Learned last. Closing it keeps the last state; the same command goes on from there.

    Raises:
        CalotypeError: no photos, a model or a state that does not fit, no room on disk, a loss that is no number.
    """
    check_folder(task.output_dir)
    found, held, notes = photos_of(task)
    prompts, more = wanted(task, found)
    logs, missing = logs_of(task)
    yield from map(note, [*notes, *more, *missing])
    model = opened(task, models)
    side, most, faces = max(size_of(task, model)), models.settings.max_pixels, models.detector().find
    photos = yield from looked_at(found, side, most, faces)
    tests = (yield from looked_at(held, side, most, faces)) if held else ([], [])
    run = LoraRun(task, models, model, Processes.joined(model.device), photos, tests)
    run.prompts, run.logs = prompts, logs
    yield from map(note, run.notes)
    yield from map(note, findings(run.course()))
    run.told = [*run.plan_told(), *planned(task, prompts)]
    yield from map(note, run.told)
    yield from map(note, expected(run.trial(), models.free_memory(models.device), task.dry_run))
    yield from map(note, run.begun())
    if task.dry_run:
        return
    with run_lock(task.output_dir, task.output_name) if run.processes.is_first else contextlib.nullcontext():
        yield from run.lessons_made()
        yield from run.trained()


class LoraRun(Planned):
    """A run, stepped through."""

    def begun(self) -> list[Message]:
        """Makes the optimizer and reads the state that there may be; what to say of it."""
        self.optimizer = optimizer_named(self.optimizer_type, self._groups(), self.task.optimizer_args)
        self.done, self.losses, self.is_whole = 0, [], True  # steps, their losses, and whether all is written of them
        self.failed, self.is_changing, self.due = 0, False, SaveTimer(self.task.save_state_every)
        return self._resumed()

    def trained(self) -> Iterator[Progress | Note | Learned]:
        task, begin = self.task, self.done
        watch = self._watch(begin)
        seen = self._seen(watch)
        try:
            if begin == 0:
                yield from seen.before()
            elif not self.is_whole:  # it was stopped before its last step was written
                yield from self._followed(seen)
            for step in range(begin, self.total):
                loss = self._step(step)
                if self.failed == FAILED:
                    raise self._spoilt()
                yield watch.stepped(self.done, loss, self._rates())
                yield from self._followed(seen)
                if self._is_state_due():
                    self._save_state()
            if task.save_state:
                self._save_state()
            path = self._written(task.output_name, self.total)
            watch.finished()
        except (GeneratorExit, KeyboardInterrupt):
            if self.done > begin and not self.is_changing:
                self._save_state()
            raise
        finally:
            watch.close()
        self.processes.wait()
        if self.processes.is_first and not task.save_state:
            self._state_path.unlink(missing_ok=True)
        yield from self._named(path)
        yield note("report: {path}", path=watch.path)
        yield Learned(path, tuple(self.losses), len(self.photos), watch.path)

    def _followed(self, seen: LoraEvaluator) -> Iterator[Progress | Note]:
        """What comes after a step: files and samples that are due."""
        yield from self._kept()
        yield from seen.after(self.done)
        self.is_whole = True

    def _spoilt(self) -> CalotypeError:
        task = self.task
        return CalotypeError(
            "the loss or its gradients are no numbers since step {step}: the rate {rate:g} is too high, or the number "
            "format too coarse. The last good state is kept; the same command with a lower {option:learning_rate} goes "
            "on from it",
            step=self.done - FAILED + 1,
            rate=task.learning_rate,
        )

    def _step(self, step: int) -> float:
        """One change of the weights, unless the loss or its gradients are no numbers.

        All chance in it comes from the seed and the step's number.
        """
        task, total, optimizer = self.task, 0.0, self.optimizer
        rate = self._rate(step)
        is_text_on = self._is_text_on(step)
        if is_text_on != self.is_text_on:
            self.adapters.train(is_unet=False, is_on=is_text_on)
            self.is_text_on = is_text_on
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        parts = task.gradient_accumulation_steps
        numbers = plan.of_step(step, self.batches, parts)
        for number in numbers:
            torch.manual_seed((task.seed * 1_000_003 + number) % 2**63)  # dropout's
            loss = self._loss(self._batch(number), number) / parts
            if loss.requires_grad:
                (loss * self.scale.factor).backward()
            total += float(loss.detach())
        total = self._added_up(total) * parts / len(numbers)  # the loss that is told is the batches' mean
        learning_now = [p for group in optimizer.param_groups for p in group["params"]]
        self.is_changing = True  # a state of now would be half of one step and half of the next
        is_fine = math.isfinite(total) and self.scale.unscaled(learning_now)
        if is_fine:
            if task.max_grad_norm:
                nn.utils.clip_grad_norm_(learning_now, task.max_grad_norm)
            optimizer.step()
            if task.scale_weight_norms:
                self.adapters.shorten(task.scale_weight_norms)
            self.failed = 0
        elif not (math.isfinite(total) and self.scale.is_searching):
            self.failed += 1
        self.losses.append(total)
        self.done, self.is_whole, self.is_changing = step + 1, False, False
        optimizer.zero_grad(set_to_none=True)
        return total

    def _added_up(self, loss: float) -> float:
        """The loss of all processes, with their gradients added up in each."""
        if self.processes.count == 1:
            return loss
        whole = torch.tensor([loss], device=self.model.device)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        self.processes.add_up([whole, *(p.grad for p in parameters)])
        return float(whole)

    def _rate(self, step: int) -> float:
        task = self.task
        if is_schedule_free(self.optimizer_type):
            return 1.0
        return factor(
            task.lr_scheduler,
            step,
            self.total,
            parse_steps(task.lr_warmup_steps, self.total),
            task.lr_scheduler_num_cycles,
            task.lr_scheduler_power,
            task.lr_scheduler_min_lr_ratio,
            parse_steps(task.lr_decay_steps, self.total),
            task.lr_scheduler_timescale,
            parse_step_rules(task.lr_scheduler_args) if task.lr_scheduler == "piecewise_constant" else (),
            task.learning_rate or max(task.rates),
        )

    def _batch(self, number: int) -> list[int]:
        """The pictures of a batch, counted over all epochs."""
        epoch, place = divmod(number, self.batches)
        if self.planned[0] != epoch:
            self.planned = (epoch, plan.batches(self.shown, self.together, self.task.seed, epoch))
        return self.planned[1][place]

    def _loss(self, indices: list[int], number: int) -> Tensor:
        """kohya's: the mean over pixels of each picture, weighed, then the mean over the batch.

        Of several processes each computes its own pictures' part of it; chance is the same in all.
        """
        task = self.task
        generator = torch.Generator().manual_seed((task.seed * 7_919 + number) % 2**63)
        dice = random.Random(f"{task.seed} {number}")
        lessons = [self.lessons[n] for n in indices]
        clean = shown(lessons, task, self.model, dice)
        wanted_noise, noise = self.noise.made(clean, generator, dice)
        last = min(task.max_timestep, len(self.signals))
        times = torch.randint(min(task.min_timestep, last - 1), last, (len(clean),), generator=generator)
        epoch = 1 + number // self.batches
        captions = [changed(one.photo.caption, self.ways, dice, epoch) for one in lessons]
        own, count = self.processes.share(indices), len(indices)
        whole = (lessons, captions, clean, wanted_noise, noise, times)
        lessons, captions, clean, wanted_noise, noise, times = (part[own] for part in whole)
        if not lessons:
            return torch.zeros(())
        signal = self.signals[times]
        x = noised(clean, noise, signal)
        wanted = self._held_in_place(target(clean, wanted_noise, signal, self.prediction), x, times, lessons, captions)
        states, pooled = self._states(captions)
        each = self._each(self._answer(x, times, lessons, states, pooled), wanted, times)
        return (each * torch.tensor([one.weight for one in lessons]).to(each)).sum() / count

    @torch.no_grad()
    def _held_in_place(
        self, wanted: Tensor, x: Tensor, times: Tensor, lessons: list[CachedLatents], captions: list[str]
    ) -> Tensor:
        """With `prior_target` "model", what regularisation pictures ask for is what the model itself answers to them.

        So they hold nothing but what the LoRA changes, and no chance of single pictures is learnt from them.
        """
        regular = [n for n, one in enumerate(lessons) if one.photo.is_regular]
        if self.task.prior_target == "pictures" or not regular:
            return wanted
        with self.adapters.silent():
            states, pooled = self._own_states([captions[n] for n in regular])
            own = self._answer(x[regular], times[regular], [lessons[n] for n in regular], states, pooled)
        wanted = wanted.to(own, copy=True)
        wanted[regular] = own
        return wanted

    def _answer(
        self, x: Tensor, times: Tensor, lessons: list[CachedLatents], states: Tensor, pooled: Tensor | None
    ) -> Tensor:
        """The U-Net's, in float32 on its device."""
        model, added = self.model, self._added(lessons, pooled)
        x = x.to(model.device, model.dtype).contiguous(memory_format=torch.channels_last)
        return model.unet(x, times.to(model.device), states.to(model.dtype), added_cond_kwargs=added).sample.float()

    def _each(self, answer: Tensor, wanted: Tensor, times: Tensor) -> Tensor:
        """The loss of each picture, (N,), without what its photo counts."""
        signal = self.signals[times]
        each = self.loss.each(answer, wanted.to(answer), signal, times / len(self.signals))
        return each * self.loss.weight(signal, self.prediction).to(each)

    def _added(self, lessons: list[CachedLatents], pooled: Tensor | None) -> dict[str, Tensor] | None:
        if pooled is None or self.model.family != "sdxl":
            return None
        numbers = [[float(n) for n in one.fit.told] for one in lessons]
        device, dtype = self.model.device, self.model.dtype
        return {"text_embeds": pooled.to(device, dtype), "time_ids": torch.tensor(numbers).to(device, dtype)}

    # ------------------------------------------------------------------ what is seen

    def _seen(self, watch: Monitor) -> LoraEvaluator:
        return LoraEvaluator(
            *(self.task, watch, self.model, self.models, self.adapters, self.optimizer),
            size=self.size,
            steps=(self.per_epoch, self.total),
            prompts=self.prompts if self.processes.is_first else (),  # the others go on, and wait at the next step
            measure=self._measured if self.tests and self.processes.is_first else None,
            keep=self._written,
        )

    def _watch(self, begin: int) -> Monitor:
        task, model = self.task, self.model
        dtype = str(model.dtype).removeprefix("torch.")
        about = {
            "model": f"{model.name}, sha256 {model.sha256[:16]}…",
            "computed": f"on {model.device.type}, in {dtype}, with torch {torch.__version__.partition('+')[0]}",
        }
        facts = {"plan": list(map(str, self.told)), "about": about, **options_told(task)}
        steps = (begin, self.total, self.per_epoch)
        is_first = self.processes.is_first
        watch = Monitor(task.output_dir, task.output_name, steps, model.device, facts, self.logs, is_first)
        self.begun_at = float(watch.diary.facts.get("begun at") or time.time())
        watch.diary.fact("begun at", self.begun_at)
        store = self.models.store
        vae = store.find(task.vae, "vae").path if task.vae else None
        self.weights_told = weights_told(store.find(task.model, "diffusion").path, vae)
        return watch

    def _rates(self) -> dict[str, float]:
        """By sd-scripts' names of the parts; of optimizers that find their own rate, that."""
        names = [name for name, rate in zip(("unet", "textencoder"), self.task.rates, strict=True) if rate]
        groups = self.optimizer.param_groups
        return {name: float(g["lr"] * g.get("d", 1.0)) for name, g in zip(names, groups, strict=False)}

    @torch.no_grad()
    def _measured(self) -> float:
        """The loss on the photos held back."""
        words = [self._states([one.photo.caption.partition("\n")[0]]) for one in self.tests]

        def answer(n: int, x: Tensor, times: Tensor) -> Tensor:
            states, pooled = (None if one is None else one.expand(len(x), *one.shape[1:]) for one in words[n])
            return self._answer(x, times, [self.tests[n]] * len(x), states, pooled)

        clean = [one.latents[0] for one in self.tests]
        return validation_loss(clean, answer, self._each, self.signals, self.prediction, self.task.train_batch_size)

    # ------------------------------------------------------------------ what is kept

    def _named(self, path: Path) -> Iterator[Note]:
        """Prompts call the LoRA by a name from now on, wherever it lies."""
        if not self.processes.is_first:
            return
        try:
            name = self.models.store.register(path, "lora")
        except CalotypeError as fault:
            yield note(
                "prompts cannot call it by name ({fault}); give its path: <lora:{path}:1>", fault=fault, path=path
            )
        else:
            yield note("in prompts it is <lora:{name}:1>", name=name)

    def _groups(self) -> list[dict[str, Any]]:
        unet, text = self.task.rates
        groups = [(self.adapters.parameters(True), unet), (self.adapters.parameters(False), text)]
        return [{"params": ps, "lr": rate, "initial_lr": rate} for ps, rate in groups if ps]

    @property
    def _state_path(self) -> Path:
        return state_path(self.task)

    @cached_property
    def _fingerprints(self) -> tuple[str, str]:
        """Of everything that decides about the numbers, and of that without rates and length."""
        idle = {spec.name for cls in (IgnoredOptions, SampleOptions, LoraOutput) for spec in fields(cls)}
        idle |= {"dry_run", "photos", "regular", "network_weights", "network_args", "model", "v2"}
        idle |= {"cache_latents_to_disk"}
        options = {name: value for name, value in options_of(self.task).items() if name not in idle}
        options = {name: value for name, value in options.items() if name not in LATER or value != LATER[name]}
        photos = [
            (sha256, p.caption, p.repeats, p.is_regular) for p, sha256 in zip(self.photos, self.sha256s, strict=True)
        ]
        weights = digest(self.task.network_weights) if self.task.network_weights else ""
        more = [photos, weights, self.model.sha256, str(self.model.dtype), self.processes.count]
        core = {name: v for name, v in options.items() if name not in FREE and not name.startswith("lr_scheduler")}
        whole, kin = (json.dumps([told, *more], sort_keys=True) for told in (options, core))
        return hashlib.sha256(whole.encode()).hexdigest(), hashlib.sha256(kin.encode()).hexdigest()

    def _resumed(self) -> list[Message]:
        """Takes over the state of an earlier run; what to say of it. One that was pointed at may be of another run.

        A run that differs in rates or length alone goes on at the state's step.
        """
        path = self._state_path
        if not path.is_file():
            if self.task.resume is None:
                return []
            path = state_in(self.task.resume)
        state = load(path)
        (whole, kin), (before, kin_before) = self._fingerprints, (*state.fingerprint.split(), "", "")[:2]
        is_kin = kin == kin_before
        if not is_kin and path == self._state_path:
            raise CalotypeError(
                "{path} is the state of a run with other photos or settings; delete it to begin anew, or give "
                "another {option:output_name}",
                path=path,
            )
        if is_kin and state.step > self.total:
            if path == self._state_path:
                raise CalotypeError(
                    "{path} has {step} steps behind it, and {total} are asked for; give more",
                    path=path,
                    step=state.step,
                    total=self.total,
                )
            is_kin = False
        self.adapters.load(state.weights, str(path))
        mine, theirs = (groups["param_groups"] for groups in (self.optimizer.state_dict(), state.optimizer))
        if len(mine) != len(theirs) or not all(a.keys() <= b.keys() for a, b in zip(mine, theirs, strict=True)):
            raise CalotypeError(
                "{path} is of another optimizer than {optimizer_type}; give that, or {option:network_weights}",
                path=path,
                optimizer_type=self.optimizer_type,
            )
        remembered(self.optimizer, state.optimizer)
        if whole != before:
            for group, mine in zip(self.optimizer.param_groups, self._groups(), strict=True):
                group["initial_lr"] = mine["initial_lr"]
        if not is_kin:
            return [
                Message(
                    "what {path} learnt in {steps} steps goes on with other photos or settings, from step 0",
                    path=path,
                    steps=state.step,
                )
            ]
        self.done, self.losses, self.is_whole = state.step, list(state.losses), state.is_whole
        self.scale = GradScaler(*state.scale)
        if whole == before:
            return [Message("going on after step {step} of {total}", step=state.step, total=self.total)]
        return [
            Message(
                "going on after step {step} of {total}, with another rate or length than before",
                step=state.step,
                total=self.total,
            )
        ]

    def _is_state_due(self) -> bool:
        return self.done < self.total and not self.failed and self.due(self.done)

    def _save_state(self) -> None:
        """Where the weights are numbers; otherwise the state from before stays."""
        if not self.processes.is_first or not self._is_sound():
            return
        self.task.output_dir.mkdir(parents=True, exist_ok=True)
        scale, fingerprint = (self.scale.factor, self.scale.good), " ".join(self._fingerprints)
        kept = (self.adapters.state(), self.optimizer.state_dict(), tuple(self.losses), fingerprint, scale)
        save(self._state_path, State(self.done, *kept, self.is_whole))
        self.due.saved()

    def _is_sound(self) -> bool:
        weights = [p.detach() for layer in self.adapters.layers.values() for p in layer.parameters()]
        return bool(torch.isfinite(torch.stack(torch._foreach_norm(weights, math.inf))).all())

    def _kept(self) -> Iterator[Note]:
        """Files of the way there, as often as told; of these the last few."""
        for due in files_due(self.task, self.done, self.total, self.per_epoch):
            yield note("{when}: {path}", when=due.when, path=self._written(due.name, self.done))
            if due.outlived and self.processes.is_first:
                self._file(due.outlived).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.task.output_dir / f"{name}.{self.task.save_model_as}"

    def _written(self, name: str, steps: int) -> Path:
        if not self._is_sound():
            raise self._spoilt()
        self.is_changing = True  # schedule-free optimizers show other weights meanwhile
        learning(self.optimizer, False)  # in every process: it may change the last bits
        if self.processes.is_first:
            self.task.output_dir.mkdir(parents=True, exist_ok=True)
            told = metadata(self.task, self.model, self.photos, self.size, self._count(steps), self._told_of())
            kohya.write(self._file(name), self.adapters.state(dtype_named(self.task.save_precision)), told)
        learning(self.optimizer, True)
        self.is_changing = False
        return self._file(name)

    def _count(self, steps: int) -> Count:
        epochs = math.ceil(self.total / self.per_epoch)
        return Count(self.batches, epochs, math.ceil(steps / self.per_epoch), steps, self.total, self.together)

    def _told_of(self) -> Run:
        return Run(
            *(int(self._fingerprints[1][:8], 16), self.begun_at, time.time(), len(self.held)),
            sizes=[(glance.size, fit.bucket) for glance, fit in zip(self.glances, self.fits, strict=True)],
            optimizer=type(self.optimizer),
            weights=self.weights_told,
        )
