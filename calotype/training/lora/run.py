"""A LoRA run before its first step: photos, model, trained layers, and the plan in sentences."""

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
from calotype.training.data.buckets import Fit, Size, fit_of
from calotype.training.data.captions import caption_config
from calotype.training.data.dataset import Example
from calotype.training.data.inspect import ImageStats
from calotype.training.data.training_set import TrainingSet
from calotype.training.lora.attention import CpuAttnProcessor
from calotype.training.lora.latents import CachedLatents, load_example
from calotype.training.lora.layers import Dropouts
from calotype.training.lora.lint import RunSummary
from calotype.training.lora.network import Adapters, Ranks, ranks_in, text_layers, text_parts, unet_layers
from calotype.training.lora.text_states import encode_captions
from calotype.training.optim.diffusion_loss import Loss, NoiseOptions
from calotype.training.optim.grad_scale import GradScaler
from calotype.training.optim.optimizers import available_optimizer
from calotype.training.run.distributed import Processes
from calotype.training.run.estimate import Trial
from calotype.training.run.resume import dtype_named

MAX_TEXT_STATES = 2**29  # bytes of cached text encoder outputs
# Options of validation photos: not augmented, and the same for all seeds.
PLAIN = {"color_aug": False, "random_crop": False, "flip_aug": False, "cache_latents_to_disk": False, "seed": 0}


def opened(task: TrainLora, models: Models) -> Diffusion:
    """A model that only this run uses: the adapters attached to it must not affect other runs."""
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
        model.unet.set_attn_processor(CpuAttnProcessor())
    if task.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
    return model


def _is_too_fine(task: TrainLora, device: torch.device) -> bool:
    """Whether fp16 is asked for on a CPU, which does not compute in it."""
    return task.mixed_precision == "fp16" and device.type == "cpu"


def size_of(task: TrainLora, model: Diffusion) -> tuple[int, int]:
    """Width and height; their area is that of the buckets."""
    return (read_size(task.resolution, "resolution") or (model.native, model.native))[::-1]


def sizes_of(pictures: TrainingSet, model: Diffusion) -> list[tuple[int, int]]:
    """Width and height of each dataset."""
    first = dict(zip(reversed(pictures.datasets), reversed(pictures.subsets), strict=True))
    return [size_of(first[dataset], model) for dataset in sorted(first)]


class Planned:
    """The parts of one run."""

    def __init__(
        self,
        task: TrainLora,
        models: Models,
        model: Diffusion,
        processes: Processes,
        pictures: TrainingSet,
        photos: tuple[Sequence[Example], Sequence[ImageStats]],
        validation: tuple[Sequence[Example], Sequence[ImageStats]],
    ):
        self.task, self.models, self.model, self.processes = task, models, model, processes
        self.subsets, self.datasets = pictures.subsets, pictures.datasets
        self.sizes = sizes_of(pictures, model)
        first = [self.subsets[self.datasets.index(n)] for n in range(len(self.sizes))]  # subset of each dataset
        self.batch_sizes = [options.train_batch_size * processes.count for options in first]  # over all processes
        self.batch_size = max(self.batch_sizes)
        (self.photos, self.image_stats), (self.validation, validation_stats) = photos, validation
        self.size = self.sizes[0]
        self.sha256s = [stats.sha256 for stats in self.image_stats]
        self.validation_sha256s = [stats.sha256 for stats in validation_stats]
        self.fits = [self._fit(p, stats.size) for p, stats in zip(self.photos, self.image_stats, strict=True)]
        self.validation_fits = [
            self._fit(p, stats.size) for p, stats in zip(self.validation, validation_stats, strict=True)
        ]
        self.items = [
            plan.BatchItem(n, f.bucket, p.repeats, self.datasets[p.subset])
            for n, (p, f) in enumerate(zip(self.photos, self.fits, strict=True))
        ]
        self.batches = plan.count(self.items, self.batch_sizes)  # of an epoch
        self.per_epoch = plan.steps(self.batches, task.gradient_accumulation_steps)
        self.total = task.max_train_steps or self.per_epoch * task.max_train_epochs
        self.caption_options = [caption_config(options) for options in self.subsets]
        self.noise = NoiseOptions(**{spec.name: getattr(task, spec.name) for spec in fields(NoiseOptions)})
        self.loss = Loss(**{spec.name: getattr(task, spec.name) for spec in fields(Loss)})
        self.epoch_batches: tuple[int, list[list[int]]] = (-1, [])  # an epoch, and its batches
        training = dict(model.training)
        if task.zero_terminal_snr:
            training["rescale_betas_zero_snr"] = True
        self.sqrt_alphas_cumprod = sqrt_alphas_cumprod(training)
        self.prediction = "v_prediction" if task.v_parameterization else training.get("prediction_type", "epsilon")
        self.optimizer_type, note = available_optimizer(task.optimizer_type, model.device)
        self.notes = [Message.of(note)] * bool(note) + list(self._contradictions())
        self.latents: list[CachedLatents] = []
        self.validation_latents: list[CachedLatents] = []
        self.plan: list[Message] = []
        self.prompts: list[Prompt] = []  # of sample pictures
        self.logs: Path | None = None  # TensorBoard's folder
        self.adapters = self._adapters()
        self.texts: dict[str, tuple[Tensor, Tensor | None]] = {}  # the most recently used last
        self.is_text_on = self._is_text_on(0)
        self.scale = GradScaler.for_dtype(model.dtype)

    def _fit(self, photo: Example, size: Size) -> Fit:
        options, resolution = self.subsets[photo.subset], self.sizes[self.datasets[photo.subset]]
        return fit_of(size, options, resolution, max(options.bucket_reso_steps, self.model.multiple))

    def _contradictions(self) -> Iterator[Message]:
        """Messages about options that do not fit the model. Raises CalotypeError for those that cannot be used."""
        task, model = self.task, self.model
        if _is_too_fine(task, model.device):
            yield Message(
                "fp16 needs a GPU; on this processor the network computes in {dtype}",
                dtype=str(model.dtype).removeprefix("torch."),
            )
        if task.v2 and model.family != "sd2":
            yield Message(
                "the settings say v2, but {model} is not an SD 2.x model; it is trained as what it is", model=model.name
            )
        if task.v_parameterization and model.training.get("prediction_type", "epsilon") == "epsilon":
            yield Message(
                "{model} is trained with v-prediction, as the settings say, though its file says epsilon",
                model=model.name,
            )
        if self.prediction == "epsilon" and task.scale_v_pred_loss_like_noise_pred:
            raise CalotypeError(
                "{option:scale_v_pred_loss_like_noise_pred} is for v-prediction models, and {model} is none",
                model=model.name,
            )
        if self.prediction != "epsilon" and task.v_pred_like_loss:
            raise CalotypeError(
                "{option:v_pred_like_loss} is for epsilon models, and {model} predicts v", model=model.name
            )
        if task.algo in ("loha", "lokr") and task.network_dropout:
            yield Message("{algo} has no network_dropout; it has rank_dropout and module_dropout", algo=task.algo)

    def _adapters(self) -> Adapters:
        task, model = self.task, self.model
        dropouts = Dropouts(task.network_dropout, task.rank_dropout, task.module_dropout)
        ranks = Ranks(task.network_dim, task.alpha, *task.convolutions, dropouts, task.algo, task.factor)
        state = read_state(task.network_weights) if task.network_weights else None
        known = ranks_in(state) if task.dim_from_weights else None
        if known:
            ranks = replace(ranks, conv_dim=1)  # the file says which convolutions there are
        unet_rate, text_rate = task.rates
        adapters = Adapters(model.family == "sdxl", task.seed)
        if unet_rate:
            adapters.attach("unet", unet_layers(model.unet, ranks), ranks, known)
        encoders = [p.encoder for p in model.text]
        if text_rate:
            for name, encoder in zip(text_parts(encoders), encoders, strict=True):
                adapters.attach(name, text_layers(encoder, ranks), ranks, known)
        if known is not None and not adapters.layers:
            raise CalotypeError(
                "{network_weights} has no LoRA layers of {model}; train without it",
                network_weights=task.network_weights,
                model=model.name,
            )
        if not adapters.layers:
            raise CalotypeError("every rate is 0, so nothing would be trained; give {option:learning_rate}")
        is_half = task.full_fp16 or task.full_bf16
        adapters.to(model.device, model.dtype if is_half else torch.float32)
        if state is not None:
            adapters.load(state, str(task.network_weights))
        return adapters

    def summary(self) -> RunSummary:
        """For the linter."""
        model = self.model
        return RunSummary(
            task=self.task,
            photos=self.photos,
            stats=self.image_stats,
            fits=self.fits,
            items=self.items,
            subsets=self.subsets,
            sizes=self.sizes,
            batch_sizes=self.batch_sizes,
            batches=self.batches,
            steps=self.total,
            warmup=parse_steps(self.task.lr_warmup_steps, self.total),
            family=model.family,
            native=model.native,
            device=model.device.type,
            dtype=str(model.dtype).removeprefix("torch."),
            tokens=lambda text: max(len(part.tokenizer.encode(text)) for part in model.text),
        )

    def plan_messages(self) -> Iterator[Message]:
        """The plan in sentences: pictures, buckets, steps, what is trained."""
        training = [p for p in self.photos if not p.is_regularization]
        buckets: dict[tuple[int, int], int] = {}
        for item in self.items:
            buckets[item.bucket] = buckets.get(item.bucket, 0) + 1
        fullest = sorted(buckets.items(), key=lambda b: -b[1])[:6]
        yield Message(
            "{photos} to train on, {regular} for regularization: {buckets}",
            photos=_counted(training),
            regular=len(self.photos) - len(training),
            buckets=listed(
                Message("{count} at {width}x{height}", count=count, width=width, height=height)
                for (width, height), count in fullest
            ),
        )
        if len(self.sizes) > 1:
            yield from self._describe_datasets()
        if masked := sum(bool(p.mask or self.subsets[p.subset].alpha_mask) for p in self.photos):
            yield plural(
                masked,
                "the loss of 1 photo is masked",
                "the loss of {count} photos is masked",
            )
        if self.validation:
            yield Message(
                "{photos} for validation: {names}", photos=_counted(self.validation), names=_names(self.validation)
            )
        epochs = math.ceil(self.total / self.per_epoch)
        parameters = sum(p.numel() for lora in self.adapters.layers.values() for p in lora.parameters())
        pictures = sum(item.repeats for item in self.items)
        used = [self.batch_sizes[n] for n in {item.dataset for item in self.items}]
        batches = sorted({min(size * self.task.gradient_accumulation_steps, pictures) for size in used})
        yield Message(
            "{steps} steps of batch size {batch} in {epochs} epochs; {layers} layers with {millions:.1f} million "
            "trainable parameters, in {dtype}",
            steps=self.total,
            batch=listed(batches, " or "),
            epochs=epochs,
            layers=len(self.adapters.layers),
            millions=parameters / 1e6,
            dtype=str(self.model.dtype).removeprefix("torch."),
        )

    def _describe_datasets(self) -> Iterator[Message]:
        for n, ((width, height), batch) in enumerate(zip(self.sizes, self.batch_sizes, strict=True)):
            count = sum(item.dataset == n for item in self.items)
            if not count:
                yield Message("dataset {number}: no photos to train on, so it is not used", number=n + 1)
                continue
            yield Message(
                "dataset {number}: {pictures} at {width}x{height}, batch size {batch}",
                number=n + 1,
                pictures=plural(count, "1 picture", "{count} pictures"),
                width=width,
                height=height,
                batch=batch,
            )

    def trial(self) -> Trial:
        """For the estimate of time and memory: the most common bucket of the largest dataset stands for all."""
        task, model, items = self.task, self.model, self.items
        largest = max({item.dataset for item in items}, key=lambda n: self.batch_sizes[n] * math.prod(self.sizes[n]))
        batch_size = self.batch_sizes[largest]
        own = Counter(item.bucket for item in items for _ in range(item.repeats) if item.dataset == largest)
        width, height = own.most_common(1)[0][0]
        area = sum(item.repeats * item.bucket[0] * item.bucket[1] for item in items) / self.batches  # of a batch
        photo = Example(Path(), "")
        if not task.rates[1]:
            self._states([photo.caption])

        def sides(scale: float) -> list[int]:
            return [max(1, round(side * scale / model.multiple)) * model.multiple for side in (height, width)]

        def loss(count: int, scale: float) -> Tensor:
            noise = torch.randn(model.channels, *(side // model.factor for side in sides(scale)))
            example = CachedLatents(photo=photo, fit=Fit(*[(width, height)] * 3), latents=(noise,), weight=1.0)
            latents, self.latents = self.latents, [example]
            try:
                return self._loss([0] * (count * self.processes.count), 0)  # of which this process takes its part
            finally:
                self.latents = latents

        modules = (model.unet, model.vae, *(part.encoder for part in model.text))
        has_checkpointing = task.gradient_checkpointing
        return Trial(
            loss=loss,
            encode=torch.inference_mode()(lambda scale: model.encode_mean(torch.rand(1, 3, *sides(scale)))),
            parameters=[p for lora in self.adapters.layers.values() for p in lora.parameters()],
            optimizer=self.optimizer_type,
            device=model.device,
            batch=batch_size // self.processes.count,
            widest=width * height // model.factor**2 * model.unet.config.block_out_channels[0] * model.dtype.itemsize,
            passes=self.total * self.batches / self.per_epoch * area / (batch_size * width * height),
            photos=sum(1 + self.subsets[photo.subset].flip_aug for photo in self.photos),
            weights=sum(p.numel() * p.itemsize for module in modules for p in module.parameters()),
            remedies=[
                *([Message("{option:train_batch_size} 1")] if batch_size > self.processes.count else []),
                *([] if has_checkpointing else [Message("{option:gradient_checkpointing}")]),
                Message("{option:resolution} {side}", side=min(width, height) // 2),
            ],
        )

    @torch.inference_mode()
    def cache_latents(self) -> Iterator[Progress]:
        """Reads every photo once; as latents, unless it is augmented at each step."""
        settings, count = self.models.settings, len(self.photos) + len(self.validation)
        for n, (photo, fitted, sha256) in enumerate(
            zip(self.validation, self.validation_fits, self.validation_sha256s, strict=True)
        ):
            plain = replace(self.subsets[photo.subset], **PLAIN)
            self.validation_latents.append(
                load_example(photo, fitted, sha256, plain, self.model, settings.max_pixels, settings.home)
            )
            yield Progress(n + 1, count, "photos")
        for n, (photo, fitted, sha256) in enumerate(zip(self.photos, self.fits, self.sha256s, strict=True)):
            options = self.subsets[photo.subset]
            example = load_example(photo, fitted, sha256, options, self.model, settings.max_pixels, settings.home)
            self.latents.append(example)
            yield Progress(len(self.validation) + n + 1, count, "photos")

    def _is_text_on(self, step: int) -> bool:
        """Whether the text encoder is trained in this step."""
        stop = self.task.stop_text_encoder_training
        return bool(self.task.rates[1]) and (stop == 0 or step < stop)

    def _states(self, captions: list[str]) -> tuple[Tensor, Tensor | None]:
        """(N, L, D) for the U-Net; cached if the text encoders are frozen."""
        if self.is_text_on:
            return encode_captions(self.model, captions, self.task.max_token_length, self.task.clip_skip)
        states = [self._state_of(caption) for caption in captions]
        pooled = torch.cat([p for _, p in states]) if states[0][1] is not None else None
        return torch.cat([s for s, _ in states]), pooled

    @torch.no_grad()
    def _state_of(self, caption: str) -> tuple[Tensor, Tensor | None]:
        """Of one caption; the most recently used ones are cached."""
        state = self.texts.pop(caption, None)
        if state is None:
            state = encode_captions(self.model, [caption], self.task.max_token_length, self.task.clip_skip)
            while self.texts and (len(self.texts) + 1) * state[0].nbytes > MAX_TEXT_STATES:
                self.texts.pop(next(iter(self.texts)))
        self.texts[caption] = state
        return state

    def _own_states(self, captions: list[str]) -> tuple[Tensor, Tensor | None]:
        """As `_states`, without the LoRA."""
        if not self.task.rates[1]:
            return self._states(captions)
        with self.adapters.disabled(), torch.no_grad():
            return encode_captions(self.model, captions, self.task.max_token_length, self.task.clip_skip)

    def _loss(self, indices: list[int], number: int) -> Tensor:
        """Of a batch; LoraRun implements it."""
        raise NotImplementedError


def _counted(photos: Sequence[Example]) -> Message:
    return plural(len(photos), "1 photo", "{count} photos")


def _names(photos: Sequence[Example]) -> Message:
    names = [photo.path.name for photo in photos]
    first, rest = ", ".join(names[:4]), len(names) - 4
    return Message("{names} and {count} more", names=first, count=rest) if rest > 0 else Message("{names}", names=first)
