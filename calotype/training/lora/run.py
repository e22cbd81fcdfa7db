"""What a LoRA run is before its first step: photos, model, layers that learn, and the plan in sentences."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from calotype.checkpoints.models import Models
from calotype.checkpoints.open_diffusion import open_diffusion
from calotype.checkpoints.prediction import check_sampled
from calotype.checkpoints.state_dict import read_state
from calotype.dialects.sd_scripts.prompts import Prompt
from calotype.errors import CalotypeError, Message, listed, plural
from calotype.inference.diffusion.schedulers import sqrt_alphas_cumprod
from calotype.models.diffusion import Diffusion
from calotype.models.network import has_bfloat16, is_bfloat16_quick
from calotype.tasks import Progress, read_size
from calotype.tasks.training import TrainLora, parse_steps
from calotype.training.data import batches as plan
from calotype.training.data.buckets import Fit, fit_of
from calotype.training.data.captions import ways_of
from calotype.training.data.dataset import Example, balanced, find_photos, held_back
from calotype.training.data.inspect import ImageStats
from calotype.training.lora.attention import FewTokens
from calotype.training.lora.latents import CachedLatents, lesson
from calotype.training.lora.layers import Dropouts
from calotype.training.lora.lint import RunSummary
from calotype.training.lora.network import Adapters, Ranks, ranks_in, text_layers, text_parts, unet_layers
from calotype.training.lora.text_states import encoded
from calotype.training.optim.diffusion_loss import Loss, NoiseOptions
from calotype.training.optim.grad_scale import GradScaler
from calotype.training.optim.optimizers import fitting
from calotype.training.run.distributed import Processes
from calotype.training.run.estimate import Trial
from calotype.training.run.resume import dtype_named

TEXTS = 2**29  # bytes of captions' states that are kept


def photos_of(task: TrainLora) -> tuple[tuple[Example, ...], tuple[Example, ...], list[Message]]:
    """To learn from, to measure with, and what to say."""
    found = find_photos(task.photos, task.caption_extension, has_wildcards=task.enable_wildcard)
    notes = list(found.notes)
    seed = task.seed if task.validation_seed is None else task.validation_seed
    photos, held = held_back(found.photos, task.validation_split, seed)
    if task.regular is None:
        return photos, held, notes
    regular = find_photos(task.regular, task.caption_extension, True, task.enable_wildcard)
    return photos + balanced(photos, regular.photos), held, notes + list(regular.notes)


def opened(task: TrainLora, models: Models) -> Diffusion:
    """A model of the run's own: what is hung on it must not reach other drawings."""
    if task.mixed_precision != "auto" and not _is_too_fine(task, models.device):
        dtype = dtype_named(task.mixed_precision)
    elif models.device.type == "cuda":
        dtype = torch.bfloat16 if is_bfloat16_quick(models.device) else torch.float16
    else:
        dtype = torch.bfloat16 if has_bfloat16() else torch.float32
    vae = models.store.find(task.vae, "vae") if task.vae else None
    checkpoint = open_diffusion(models.store.find(task.model, "diffusion"), vae, task.prediction)
    check_sampled(checkpoint.training.get("prediction_type", "epsilon"), checkpoint.name)
    model = Diffusion(checkpoint, models.device, dtype)
    if model.is_inpainting:
        raise CalotypeError(
            "{model} is an inpainting model; train on the plain one, the LoRA works on both", model=model.name
        )
    if models.device.type == "cpu":
        model.unet.set_attn_processor(FewTokens())
    if task.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
    return model


def _is_too_fine(task: TrainLora, device: torch.device) -> bool:
    """fp16 is for GPUs: a processor has no arithmetic for it."""
    return task.mixed_precision == "fp16" and device.type == "cpu"


def size_of(task: TrainLora, model: Diffusion) -> tuple[int, int]:
    """Width and height whose area is trained at."""
    return (read_size(task.resolution, "resolution") or (model.native, model.native))[::-1]


class Planned:
    """The parts of one run, settled once."""

    def __init__(
        self,
        task: TrainLora,
        models: Models,
        model: Diffusion,
        processes: Processes,
        photos: tuple[Sequence[Example], Sequence[ImageStats]],
        held: tuple[Sequence[Example], Sequence[ImageStats]],
    ):
        self.task, self.models, self.model, self.processes = task, models, model, processes
        self.together = task.train_batch_size * processes.count  # pictures of a batch, over all processes
        (self.photos, self.glances), (self.held, held_glances) = photos, held
        self.size = size_of(task, model)
        self.sha256s, self.held_sha256s = ([glance.sha256 for glance in one] for one in (self.glances, held_glances))
        step = max(task.bucket_reso_steps, model.multiple)
        self.fits = [fit_of(glance.size, task, self.size, step) for glance in self.glances]
        self.held_fits = [fit_of(glance.size, task, self.size, step) for glance in held_glances]
        self.shown = [
            plan.BatchItem(n, f.bucket, p.repeats) for n, (p, f) in enumerate(zip(self.photos, self.fits, strict=True))
        ]
        self.batches = plan.count(self.shown, self.together)  # of an epoch
        self.per_epoch = plan.steps(self.batches, task.gradient_accumulation_steps)
        self.total = task.max_train_steps or self.per_epoch * task.max_train_epochs
        self.ways = ways_of(task)
        self.noise = NoiseOptions(**{spec.name: getattr(task, spec.name) for spec in fields(NoiseOptions)})
        self.loss = Loss(**{spec.name: getattr(task, spec.name) for spec in fields(Loss)})
        self.planned: tuple[int, list[list[int]]] = (-1, [])  # an epoch, and its batches
        training = dict(model.training)
        if task.zero_terminal_snr:
            training["rescale_betas_zero_snr"] = True
        self.signals = sqrt_alphas_cumprod(training)
        self.prediction = "v_prediction" if task.v_parameterization else training.get("prediction_type", "epsilon")
        self.optimizer_type, note = fitting(task.optimizer_type, model.device)
        self.notes = [Message.of(note)] * bool(note) + list(self._contradictions())
        self.lessons: list[CachedLatents] = []
        self.tests: list[CachedLatents] = []  # the photos held back
        self.told: list[Message] = []  # the plan
        self.prompts: list[Prompt] = []  # of sample pictures
        self.logs: Path | None = None  # TensorBoard's folder
        self.adapters = self._adapters()
        self.texts: dict[str, tuple[Tensor, Tensor | None]] = {}  # the one that was wanted last comes last
        self.is_text_on = self._is_text_on(0)
        self.scale = GradScaler.of(model.dtype)

    def _contradictions(self) -> Iterator[Message]:
        """Where what was told and what the model is do not agree."""
        task, model = self.task, self.model
        if _is_too_fine(task, model.device):
            yield Message(
                "fp16 needs a GPU; on this processor the network computes in {dtype}",
                dtype=str(model.dtype).removeprefix("torch."),
            )
        if task.v2 and model.family != "sd2":
            yield Message(
                "the settings say v2, but {model} is no SD 2.x model; it is trained as what it is", model=model.name
            )
        if task.v_parameterization and model.training.get("prediction_type", "epsilon") == "epsilon":
            yield Message(
                "{model} is trained as a v model, as told, though its file speaks of epsilon", model=model.name
            )
        if self.prediction == "epsilon" and task.scale_v_pred_loss_like_noise_pred:
            raise CalotypeError(
                "{option:scale_v_pred_loss_like_noise_pred} is for v models, and {model} is none", model=model.name
            )
        if self.prediction != "epsilon" and task.v_pred_like_loss:
            raise CalotypeError(
                "{option:v_pred_like_loss} is for epsilon models, and {model} answers with v", model=model.name
            )
        if task.algo in ("loha", "lokr") and task.network_dropout:
            yield Message(
                "{algo} has no dropout of single numbers; rank_dropout and module_dropout it has", algo=task.algo
            )

    def _adapters(self) -> Adapters:
        task, model = self.task, self.model
        dropouts = Dropouts(task.network_dropout, task.rank_dropout, task.module_dropout)
        ranks = Ranks(task.network_dim, task.alpha, *task.convolutions, dropouts, task.algo, task.factor)
        state = read_state(task.network_weights) if task.network_weights else None
        known = ranks_in(state) if task.dim_from_weights else None
        if known:
            ranks = replace(ranks, conv_dim=1)  # which convolutions there are, the file says
        unet_rate, text_rate = task.rates
        adapters = Adapters(model.family == "sdxl", task.seed)
        if unet_rate:
            adapters.hang("unet", unet_layers(model.unet, ranks), ranks, known)
        encoders = [p.encoder for p in model.text]
        if text_rate:
            for name, encoder in zip(text_parts(encoders), encoders, strict=True):
                adapters.hang(name, text_layers(encoder, ranks), ranks, known)
        if known is not None and not adapters.layers:
            raise CalotypeError(
                "{network_weights} has no LoRA layers of {model}; train without it",
                network_weights=task.network_weights,
                model=model.name,
            )
        if not adapters.layers:
            raise CalotypeError("every rate is 0, so nothing would be learnt; give {option:learning_rate}")
        is_half = task.full_fp16 or task.full_bf16
        adapters.to(model.device, model.dtype if is_half else torch.float32)
        if state is not None:
            adapters.load(state, str(task.network_weights))
        return adapters

    def course(self) -> RunSummary:
        """For the linter."""
        model = self.model
        return RunSummary(
            task=self.task,
            photos=self.photos,
            glances=self.glances,
            fits=self.fits,
            size=self.size,
            batch=self.together,
            batches=self.batches,
            steps=self.total,
            warm=parse_steps(self.task.lr_warmup_steps, self.total),
            family=model.family,
            native=model.native,
            device=model.device.type,
            dtype=str(model.dtype).removeprefix("torch."),
            tokens=lambda text: max(len(part.tokenizer.encode(text)) for part in model.text),
        )

    def plan_told(self) -> Iterator[Message]:
        """The plan in sentences: pictures, buckets, steps, what is trained."""
        learnt = [p for p in self.photos if not p.is_regular]
        buckets: dict[tuple[int, int], int] = {}
        for one in self.shown:
            buckets[one.bucket] = buckets.get(one.bucket, 0) + 1
        fullest = sorted(buckets.items(), key=lambda b: -b[1])[:6]
        yield Message(
            "{photos} to learn, {regular} to hold the rest in place: {buckets}",
            photos=_counted(learnt),
            regular=len(self.photos) - len(learnt),
            buckets=listed(
                Message("{count} at {width}x{height}", count=count, width=width, height=height)
                for (width, height), count in fullest
            ),
        )
        if self.held:
            yield Message(
                "{photos} held back, to measure with: {names}", photos=_counted(self.held), names=_names(self.held)
            )
        epochs = math.ceil(self.total / self.per_epoch)
        numbers = sum(p.numel() for lora in self.adapters.layers.values() for p in lora.parameters())
        most = min(self.together * self.task.gradient_accumulation_steps, sum(one.repeats for one in self.shown))
        yield Message(
            "{steps} steps of {pictures} in {epochs} epochs; {layers} layers with {millions:.1f} million numbers "
            "learn, in {dtype}",
            steps=self.total,
            pictures=most,
            epochs=epochs,
            layers=len(self.adapters.layers),
            millions=numbers / 1e6,
            dtype=str(self.model.dtype).removeprefix("torch."),
        )

    def trial(self) -> Trial:
        """For what is told of time and memory: the commonest bucket stands for all."""
        task, model, shown = self.task, self.model, self.shown
        width, height = Counter(one.bucket for one in shown for _ in range(one.repeats)).most_common(1)[0][0]
        area = sum(one.repeats * one.bucket[0] * one.bucket[1] for one in shown) / self.batches  # of a batch
        photo = Example(Path(), "")
        if not task.rates[1]:
            self._states([photo.caption])

        def sides(part: float) -> list[int]:
            return [max(1, round(side * part / model.multiple)) * model.multiple for side in (height, width)]

        def loss(count: int, part: float) -> Tensor:
            noise = torch.randn(model.channels, *(side // model.factor for side in sides(part)))
            lesson = CachedLatents(photo=photo, fit=Fit(*[(width, height)] * 3), latents=(noise,), weight=1.0)
            kept, self.lessons = self.lessons, [lesson]
            try:
                return self._loss([0] * (count * self.processes.count), 0)  # of which this one takes its share
            finally:
                self.lessons = kept

        modules = (model.unet, model.vae, *(part.encoder for part in model.text))
        is_checked = task.gradient_checkpointing
        return Trial(
            loss=loss,
            encode=torch.inference_mode()(lambda part: model.encode_mean(torch.rand(1, 3, *sides(part)))),
            parameters=[p for lora in self.adapters.layers.values() for p in lora.parameters()],
            optimizer=self.optimizer_type,
            device=model.device,
            batch=task.train_batch_size,
            widest=width * height // model.factor**2 * model.unet.config.block_out_channels[0] * model.dtype.itemsize,
            passes=self.total * self.batches / self.per_epoch * area / (self.together * width * height),
            photos=len(self.photos) * (1 + task.flip_aug),
            weights=sum(p.numel() * p.itemsize for module in modules for p in module.parameters()),
            remedies=[
                *([Message("{option:train_batch_size} 1")] if task.train_batch_size > 1 else []),
                *([] if is_checked else [Message("{option:gradient_checkpointing}")]),
                Message("{option:resolution} {side}", side=min(width, height) // 2),
            ],
        )

    @torch.inference_mode()
    def lessons_made(self) -> Iterator[Progress]:
        """Every photo, read once; as latents, unless each step sees it changed."""
        settings, count = self.models.settings, len(self.photos) + len(self.held)
        plain = replace(self.task, color_aug=False, random_crop=False, flip_aug=False, cache_latents_to_disk=False)
        plain = replace(plain, seed=0)  # so that runs with other seeds measure the same
        for n, (photo, fitted, sha256) in enumerate(zip(self.held, self.held_fits, self.held_sha256s, strict=True)):
            self.tests.append(lesson(photo, fitted, sha256, plain, self.model, settings.max_pixels, settings.home))
            yield Progress(n + 1, count, "photos")
        for n, (photo, fitted, sha256) in enumerate(zip(self.photos, self.fits, self.sha256s, strict=True)):
            made = lesson(photo, fitted, sha256, self.task, self.model, settings.max_pixels, settings.home)
            self.lessons.append(made)
            yield Progress(len(self.held) + n + 1, count, "photos")

    def _is_text_on(self, step: int) -> bool:
        """Whether the text encoder learns in this step."""
        stop = self.task.stop_text_encoder_training
        return bool(self.task.rates[1]) and (stop == 0 or step < stop)

    def _states(self, captions: list[str]) -> tuple[Tensor, Tensor | None]:
        """(N, L, D) for the U-Net; kept where the text encoders are frozen."""
        if self.is_text_on:
            return encoded(self.model, captions, self.task.max_token_length, self.task.clip_skip)
        found = [self._state_of(caption) for caption in captions]
        pooled = torch.cat([one[1] for one in found]) if found[0][1] is not None else None
        return torch.cat([one[0] for one in found]), pooled

    @torch.no_grad()
    def _state_of(self, caption: str) -> tuple[Tensor, Tensor | None]:
        """Of one caption; where they change from step to step, those that were wanted last are kept."""
        found = self.texts.pop(caption, None)
        if found is None:
            found = encoded(self.model, [caption], self.task.max_token_length, self.task.clip_skip)
            while self.texts and (len(self.texts) + 1) * found[0].nbytes > TEXTS:
                self.texts.pop(next(iter(self.texts)))
        self.texts[caption] = found
        return found

    def _own_states(self, captions: list[str]) -> tuple[Tensor, Tensor | None]:
        """As `_states`, of the model as it was before it learnt."""
        if not self.task.rates[1]:
            return self._states(captions)
        with self.adapters.silent(), torch.no_grad():
            return encoded(self.model, captions, self.task.max_token_length, self.task.clip_skip)

    def _loss(self, indices: list[int], number: int) -> Tensor:
        """Of a batch; the loop has it."""
        raise NotImplementedError


def _counted(photos: Sequence[Example]) -> Message:
    return plural(len(photos), "1 photo", "{count} photos")


def _names(photos: Sequence[Example]) -> Message:
    names = [photo.path.name for photo in photos]
    first, rest = ", ".join(names[:4]), len(names) - 4
    return Message("{names} and {count} more", names=first, count=rest) if rest > 0 else Message("{names}", names=first)
