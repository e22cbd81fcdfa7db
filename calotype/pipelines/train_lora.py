"""Training of a LoRA on a face, an object or a style: the loop, in plain sight. Semantics of kohya's train_network.py.

With several processes, each gets the command line's options: `accelerate launch -m calotype train lora ...`.
"""

import contextlib
import math
import random
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype.checkpoints.lora import kohya_file as kohya
from calotype.checkpoints.models import Models
from calotype.checkpoints.store import digest
from calotype.errors import CalotypeError, Message
from calotype.files import check_folder, make_folder, run_lock
from calotype.tasks import Note, Progress, note
from calotype.tasks.training import IgnoredOptions, LoraOutput, SampleOptions, TrainLora, parse_step_rules, parse_steps
from calotype.training.data import batches as plan
from calotype.training.data.captions import process_caption
from calotype.training.data.dataset import Example
from calotype.training.data.inspect import ImageStats, inspect_images
from calotype.training.data.training_set import find_training_set
from calotype.training.lora.evaluator import LoraEvaluator, describe_samples, sample_prompts
from calotype.training.lora.latents import CachedLatents, batch_latents
from calotype.training.lora.lint import findings
from calotype.training.lora.metadata import Count, Run, metadata, weight_hashes
from calotype.training.lora.run import Planned, opened, sizes_of
from calotype.training.lora.saves import files_due
from calotype.training.monitor.monitor import Monitor, option_facts, tensorboard_folder
from calotype.training.monitor.validation import validation_loss
from calotype.training.optim.diffusion_loss import add_noise, training_target
from calotype.training.optim.grad_scale import GradScaler
from calotype.training.optim.lr_schedule import lr_factor
from calotype.training.optim.optimizers import create_optimizer, is_schedule_free, set_train_mode
from calotype.training.run.distributed import Processes
from calotype.training.run.estimate import estimate
from calotype.training.run.fingerprint import Fingerprint, hashed_options
from calotype.training.run.result import TrainResult
from calotype.training.run.resume import dtype_named, load_optimizer, state_in
from calotype.training.run.trainer_state import Snapshot, TrainerState

FREE = {"learning_rate", "unet_lr", "text_encoder_lr", "max_train_steps", "max_train_epochs", "lr_decay_steps"}
FREE |= {"lr_warmup_steps", "lr_scheduler"}  # and what begins with it: these may differ when a run is resumed
UNHASHED = {spec.name for cls in (IgnoredOptions, SampleOptions, LoraOutput) for spec in fields(cls)}
UNHASHED |= {"dry_run", "photos", "regular", "network_weights", "network_args", "model", "v2", "cache_latents_to_disk"}
UNHASHED |= {"dataset_config", "in_json", "conditioning_data_dir"}  # what they contain is hashed


def train_lora(task: TrainLora, models: Models) -> Iterator[Progress | Note | TrainResult]:
    """Yields progress, and TrainResult last. Closing it saves the last step; the same command resumes from there.

    Raises:
        CalotypeError: no photos, a model or a state that does not fit, no room on disk, a loss that is NaN.
    """
    check_folder(task.output_dir)
    pictures = find_training_set(task)
    prompts, more = sample_prompts(task, pictures.photos)
    logs, missing = tensorboard_folder(task)
    yield from map(note, [*pictures.notes, *more, *missing])
    model = opened(task, models)
    side, max_pixels = max(map(max, sizes_of(pictures, model))), models.settings.max_pixels
    find_faces = models.detector().find
    inspected = yield from inspect_images(pictures.photos, side, max_pixels, find_faces)
    inspected_validation = ([], [])
    if pictures.validation:
        inspected_validation = yield from inspect_images(pictures.validation, side, max_pixels, find_faces)
    run = LoraRun(task, models, model, Processes.initialize(model.device), pictures, inspected, inspected_validation)
    run.prompts, run.logs = prompts, logs
    yield from map(note, run.notes)
    yield from map(note, findings(run.summary()))
    run.plan = [*run.plan_messages(), *describe_samples(task, prompts)]
    yield from map(note, run.plan)
    yield from map(note, estimate(run.trial(), models.free_memory(models.device), task.dry_run))
    yield from map(note, run.resume())
    if task.dry_run:
        return
    with run_lock(task.output_dir, task.output_name) if run.processes.is_main_process else contextlib.nullcontext():
        yield from run.cache_latents()
        yield from run.train()


class LoraRun(Planned):
    """One run."""

    def resume(self) -> list[Message]:
        """Makes the optimizer and loads the state of an interrupted run, if there is one; messages about it."""
        self.optimizer = create_optimizer(self.optimizer_type, self._groups(), self.task.optimizer_args)
        self.state = TrainerState(self.task, self._fingerprint, self._snapshot, self.processes.is_main_process)
        return self._load_state()

    def train(self) -> Iterator[Progress | Note | TrainResult]:
        task, state = self.task, self.state
        monitor = self._monitor()
        evaluator = self._evaluator(monitor)
        try:
            with state.saved_on_interrupt():
                if state.step == 0:
                    yield from evaluator.before()
                elif not state.is_complete:
                    yield from self._after_step(evaluator)
                for step in range(state.step, self.total):
                    loss = self._step(step)
                    if state.is_diverged:
                        raise self._diverged()
                    yield monitor.log_step(state.step, loss, self._rates())
                    yield from self._after_step(evaluator)
                    state.save_if_due(self.total)
                if task.save_state:
                    state.save()
                path = self._save_lora(task.output_name, self.total)
                monitor.finish()
        finally:
            monitor.close()
        self.processes.barrier()
        state.close(keep=task.save_state)
        yield from self._registered(path)
        yield note("report: {path}", path=monitor.path)
        yield TrainResult(path, tuple(state.losses), len(self.photos), monitor.path)

    def _after_step(self, evaluator: LoraEvaluator) -> Iterator[Progress | Note]:
        """Files and samples that are due."""
        yield from self._save_due_files()
        yield from evaluator.after(self.state.step)
        self.state.is_complete = True

    def _diverged(self) -> CalotypeError:
        return CalotypeError(
            "the loss or its gradients are NaN since step {step}: the rate {rate:g} is too high, or the data type too "
            "coarse. The last good state is kept; the same command with a lower {option:learning_rate} goes on from it",
            step=self.state.first_nonfinite,
            rate=self.task.learning_rate,
        )

    def _step(self, step: int) -> float:
        """Updates the weights, unless the loss or its gradients are NaN; returns the loss.

        All randomness comes from the seed and the step.
        """
        task, total, optimizer = self.task, 0.0, self.optimizer
        rate = self._rate(step)
        is_text_on = self._is_text_on(step)
        if is_text_on != self.is_text_on:
            self.adapters.train(is_unet=False, is_on=is_text_on)
            self.is_text_on = is_text_on
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        accumulated = task.gradient_accumulation_steps
        numbers = plan.batches_of_step(step, self.batches, accumulated)
        for number in numbers:
            torch.manual_seed((task.seed * 1_000_003 + number) % 2**63)  # of dropout
            loss = self._loss(self._batch(number), number) / accumulated
            if loss.requires_grad:
                (loss * self.scale.factor).backward()
            total += float(loss.detach())
        total = self._added_up(total) * accumulated / len(numbers)  # the mean of the batches
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        with self.state.update():
            is_finite = math.isfinite(total)
            has_finite_gradients = is_finite and self.scale.unscale(parameters)
            if has_finite_gradients:
                if task.max_grad_norm:
                    nn.utils.clip_grad_norm_(parameters, task.max_grad_norm)
                optimizer.step()
                if task.scale_weight_norms:
                    self.adapters.clip_norms(task.scale_weight_norms)
            self.state.count(total, has_finite_gradients or (is_finite and self.scale.can_decrease))
        optimizer.zero_grad(set_to_none=True)
        return total

    def _added_up(self, loss: float) -> float:
        """The sum of the loss over all processes; their gradients are summed too."""
        if self.processes.count == 1:
            return loss
        total = torch.tensor([loss], device=self.model.device)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        self.processes.all_reduce([total, *(p.grad for p in parameters)])
        return float(total)

    def _rate(self, step: int) -> float:
        task = self.task
        if is_schedule_free(self.optimizer_type):
            return 1.0
        return lr_factor(
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
        epoch, index = divmod(number, self.batches)
        if self.epoch_batches[0] != epoch:
            self.epoch_batches = (epoch, plan.batches(self.items, self.batch_sizes, self.task.seed, epoch))
        return self.epoch_batches[1][index]

    def _loss(self, indices: list[int], number: int) -> Tensor:
        """kohya's loss: the mean over the pixels of each picture, weighted, then the mean over the batch.

        Of several processes each computes its own pictures' part of it, with the same random numbers in all.
        """
        task = self.task
        generator = torch.Generator().manual_seed((task.seed * 7_919 + number) % 2**63)
        rng = random.Random(f"{task.seed} {number}")
        examples = [self.latents[n] for n in indices]
        options = [self.subsets[example.photo.subset] for example in examples]
        latents, masks = batch_latents(examples, options, self.model, rng)
        target_noise, noise = self.noise.sample(latents, generator, rng)
        end = min(task.max_timestep, len(self.sqrt_alphas_cumprod))
        timesteps = torch.randint(min(task.min_timestep, end - 1), end, (len(latents),), generator=generator)
        epoch = 1 + number // self.batches
        captions = [
            process_caption(photo.caption, self.caption_options[photo.subset], rng, epoch)
            for photo in (example.photo for example in examples)
        ]
        own, count = self.processes.shard(indices), len(indices)
        batch = (examples, captions, latents, target_noise, noise, timesteps)
        examples, captions, latents, target_noise, noise, timesteps = (part[own] for part in batch)
        masks = None if masks is None else masks[own]
        if not examples:
            return torch.zeros(())
        sqrt_alpha = self.sqrt_alphas_cumprod[timesteps]
        x = add_noise(latents, noise, sqrt_alpha)
        expected = training_target(latents, target_noise, sqrt_alpha, self.prediction)
        expected = self._with_prior_targets(expected, x, timesteps, examples, captions)
        states, pooled = self._states(captions)
        losses = self._losses(self._predict(x, timesteps, examples, states, pooled), expected, timesteps, masks)
        return (losses * torch.tensor([example.weight for example in examples]).to(losses)).sum() / count

    @torch.no_grad()
    def _with_prior_targets(
        self, expected: Tensor, x: Tensor, timesteps: Tensor, examples: list[CachedLatents], captions: list[str]
    ) -> Tensor:
        """With `prior_target` "model", the target of regularization pictures is the prediction without the LoRA.

        So they preserve the model's knowledge, and nothing is learned from the pictures themselves.
        """
        regularization = [n for n, example in enumerate(examples) if example.photo.is_regularization]
        if self.task.prior_target == "pictures" or not regularization:
            return expected
        with self.adapters.disabled():
            states, pooled = self._own_states([captions[n] for n in regularization])
            prior = self._predict(
                x[regularization], timesteps[regularization], [examples[n] for n in regularization], states, pooled
            )
        expected = expected.to(prior, copy=True)
        expected[regularization] = prior
        return expected

    def _predict(
        self, x: Tensor, timesteps: Tensor, examples: list[CachedLatents], states: Tensor, pooled: Tensor | None
    ) -> Tensor:
        """The U-Net's output, in float32 on its device."""
        model, added = self.model, self.added_conditions(examples, pooled)
        x = x.to(model.device, model.dtype).contiguous(memory_format=torch.channels_last)
        timesteps, states = timesteps.to(model.device), states.to(model.dtype)
        return model.unet(x, timesteps, states, added_cond_kwargs=added).sample.float()

    def _losses(self, prediction: Tensor, expected: Tensor, timesteps: Tensor, masks: Tensor | None = None) -> Tensor:
        """The loss of each picture, (N,), without the weight of its photo."""
        sqrt_alpha = self.sqrt_alphas_cumprod[timesteps]
        progress = timesteps / len(self.sqrt_alphas_cumprod)
        masks = None if masks is None else masks.to(prediction)
        losses = self.loss.per_sample(prediction, expected.to(prediction), sqrt_alpha, progress, masks)
        return losses * self.loss.weight(sqrt_alpha, self.prediction).to(losses)

    def added_conditions(self, examples: list[CachedLatents], pooled: Tensor | None) -> dict[str, Tensor] | None:
        if pooled is None or self.model.family != "sdxl":
            return None
        time_ids = [[float(n) for n in example.fit.time_ids] for example in examples]
        device, dtype = self.model.device, self.model.dtype
        return {"text_embeds": pooled.to(device, dtype), "time_ids": torch.tensor(time_ids).to(device, dtype)}

    # ------------------------------------------------------------------ monitoring

    def _evaluator(self, monitor: Monitor) -> LoraEvaluator:
        validates = self.validation_latents and self.processes.is_main_process
        return LoraEvaluator(
            *(self.task, monitor, self.model, self.models, self.adapters, self.optimizer),
            size=self.size,
            steps=(self.per_epoch, self.total),
            # the other processes wait at the next step
            prompts=self.prompts if self.processes.is_main_process else (),
            compute_validation_loss=self._validation_loss if validates else None,
            save_lora=self._save_lora,
        )

    def _monitor(self) -> Monitor:
        task, model = self.task, self.model
        dtype = str(model.dtype).removeprefix("torch.")
        about = {
            "model": f"{model.name}, sha256 {model.sha256[:16]}…",
            "computed": f"on {model.device.type}, in {dtype}, with torch {torch.__version__.partition('+')[0]}",
        }
        facts = {"plan": list(map(str, self.plan)), "about": about, **option_facts(task)}
        steps = (self.state.step, self.total, self.per_epoch)
        is_main_process = self.processes.is_main_process
        monitor = Monitor(task.output_dir, task.output_name, steps, model.device, facts, self.logs, is_main_process)
        self.started_at = float(monitor.metrics_log.facts.get("begun at") or time.time())
        monitor.metrics_log.fact("begun at", self.started_at)
        store = self.models.store
        vae = store.find(task.vae, "vae").path if task.vae else None
        self.model_metadata = weight_hashes(store.find(task.model, "diffusion").path, vae)
        return monitor

    def _rates(self) -> dict[str, float]:
        """The learning rates by sd-scripts' names of the parts; with adaptive optimizers, the adapted ones."""
        names = [name for name, rate in zip(("unet", "textencoder"), self.task.rates, strict=True) if rate]
        groups = self.optimizer.param_groups
        return {name: float(g["lr"] * g.get("d", 1.0)) for name, g in zip(names, groups, strict=False)}

    @torch.no_grad()
    def _validation_loss(self) -> float:
        examples = self.validation_latents
        states = [self._states([example.photo.caption.partition("\n")[0]]) for example in examples]

        def predict(n: int, x: Tensor, timesteps: Tensor) -> Tensor:
            own, pooled = (None if s is None else s.expand(len(x), *s.shape[1:]) for s in states[n])
            return self._predict(x, timesteps, [examples[n]] * len(x), own, pooled)

        def loss(n: int, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
            mask = examples[n].mask
            return self._losses(prediction, target, timesteps, None if mask is None else mask[None])

        latents = [example.latents[0] for example in examples]
        schedule = (self.sqrt_alphas_cumprod, self.prediction, self.task.train_batch_size)
        return validation_loss(latents, predict, loss, *schedule)

    # ------------------------------------------------------------------ files

    def _registered(self, path: Path) -> Iterator[Note]:
        """Registers the LoRA, so that prompts can call it by name, and says the name."""
        if not self.processes.is_main_process:
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

    def _fingerprint(self) -> Fingerprint:
        options = hashed_options(self.task, UNHASHED)
        photos = [
            (stats.sha256, p.caption, p.repeats, p.is_regularization, *self._hashed_subset(p, stats))
            for p, stats in zip(self.photos, self.image_stats, strict=True)
        ]
        weights = digest(self.task.network_weights) if self.task.network_weights else ""
        data = [photos, weights, self.model.sha256, str(self.model.dtype), self.processes.count]
        if self.task.dataset_config:
            subsets = [hashed_options(subset, UNHASHED | FREE) for subset in self.subsets]
            data.append([*zip(self.datasets, subsets, strict=True)])
        free = {name for name in options if name in FREE or name.startswith("lr_scheduler")}
        return Fingerprint(options, data, free)

    def _hashed_subset(self, photo: Example, stats: ImageStats) -> list[int | str]:
        """What else determines how a photo is trained: its subset in a dataset config, and its mask."""
        own = [photo.subset] if self.task.dataset_config else []
        return [*own, stats.mask_sha256] if stats.mask_sha256 else own

    def _load_state(self) -> list[Message]:
        """Loads the state of an interrupted run, or the weights and optimizer of the one that `resume` names.

        A run that differs in rates or length only continues at the state's step.
        """
        state, task = self.state, self.task
        found = state.load(state_in(task.resume) if task.resume and not state.path.is_file() else None)
        if found is None:
            return []
        file, path, is_same_run = found.file, found.path, found.changes is not None
        if path == state.path:
            state.check_length(file, self.total)
        is_same_run = is_same_run and file.step <= self.total
        self.adapters.load(file.weights, str(path))
        own, stored = (groups["param_groups"] for groups in (self.optimizer.state_dict(), file.optimizer))
        if len(own) != len(stored) or not all(a.keys() <= b.keys() for a, b in zip(own, stored, strict=True)):
            raise CalotypeError(
                "{path} is of another optimizer than {optimizer_type}; give that, or {option:network_weights}",
                path=path,
                optimizer_type=self.optimizer_type,
            )
        load_optimizer(self.optimizer, file.optimizer)
        if found.changes != set():
            for group, initial in zip(self.optimizer.param_groups, self._groups(), strict=True):
                group["initial_lr"] = initial["initial_lr"]
        if not is_same_run:
            return [
                Message(
                    "the weights of {path}, trained for {steps} steps, are trained further with other photos or "
                    "settings, from step 0",
                    path=path,
                    steps=file.step,
                )
            ]
        state.resume(file)
        self.scale = GradScaler(*file.scale)
        return [state.resumed_message(self.total, Message("rate or length") if found.changes else "")]

    def _snapshot(self) -> Snapshot | None:
        if not self._is_sound():
            return None
        return Snapshot(self.adapters.state(), self.optimizer.state_dict(), (self.scale.factor, self.scale.good_steps))

    def _is_sound(self) -> bool:
        """Whether all weights are finite."""
        weights = [p.detach() for layer in self.adapters.layers.values() for p in layer.parameters()]
        return bool(torch.isfinite(torch.stack(torch._foreach_norm(weights, math.inf))).all())

    def _save_due_files(self) -> Iterator[Note]:
        """Intermediate files, as often as the task says; only the last few are kept."""
        for due in files_due(self.task, self.state.step, self.total, self.per_epoch):
            yield note("{when}: {path}", when=due.when, path=self._save_lora(due.name, self.state.step))
            if due.expired and self.processes.is_main_process:
                self._file(due.expired).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.task.output_dir / f"{name}.{self.task.save_model_as}"

    def _save_lora(self, name: str, steps: int) -> Path:
        if not self._is_sound():
            raise self._diverged()
        with self.state.update():  # schedule-free optimizers have other weights meanwhile
            set_train_mode(self.optimizer, False)  # in every process: it may change the last bits
            if self.processes.is_main_process:
                make_folder(self.task.output_dir)
                facts = metadata(self.task, self.model, self.photos, self.size, self._counts(steps), self._run_facts())
                kohya.write(self._file(name), self.adapters.state(dtype_named(self.task.save_precision)), facts)
            set_train_mode(self.optimizer, True)
        return self._file(name)

    def _counts(self, steps: int) -> Count:
        epochs = math.ceil(self.total / self.per_epoch)
        return Count(self.batches, epochs, math.ceil(steps / self.per_epoch), steps, self.total, self.batch_size)

    def _run_facts(self) -> Run:
        return Run(
            *(int(self.state.fingerprint.core[:8], 16), self.started_at, time.time(), len(self.validation)),
            sizes=[(stats.size, fit.bucket) for stats, fit in zip(self.image_stats, self.fits, strict=True)],
            optimizer=type(self.optimizer),
            weights=self.model_metadata,
            subsets=self.subsets,
            datasets=self.datasets,
            resolutions=self.sizes,
        )
