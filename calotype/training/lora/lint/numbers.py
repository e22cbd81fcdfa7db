"""Findings about options that contradict each other, or do not fit the model, the device or the number of photos."""

import math
from collections.abc import Iterator

from calotype.errors import Message, named
from calotype.tasks.training import TrainLora, parse_steps
from calotype.training.data import batches as plan
from calotype.training.data.buckets import Size
from calotype.training.lora.lint import limits
from calotype.training.lora.lint.run_summary import RunSummary

SELF_TUNED = ("prodigy", "dadapt")  # prefixes of optimizers that estimate the learning rate


def check_options(run: RunSummary) -> Iterator[Message]:
    for check in (_schedule, _strength, _text_encoder, _length, _dtype, _batches, _resolution, _unused, _noise):
        yield from check(run)


def _schedule(run: RunSummary) -> Iterator[Message]:
    task, warmup, steps = run.task, run.warmup, run.steps
    if not warmup:
        if task.lr_scheduler == "constant_with_warmup":
            yield Message(
                "lr_scheduler constant_with_warmup has no warmup: {option:lr_warmup_steps} is 0; give e.g. 5%, "
                "or {option:lr_scheduler} constant"
            )
    elif task.lr_scheduler == "constant":
        yield Message(
            "lr_scheduler constant and {warm} warmup steps contradict each other, and kohya's scripts refuse them; "
            "there will be a warmup, as with {option:lr_scheduler} constant_with_warmup. Give that, or "
            "{option:lr_warmup_steps} 0",
            warm=warmup,
        )
    if task.lr_scheduler == "warmup_stable_decay" and not parse_steps(task.lr_decay_steps, steps):
        yield Message("lr_scheduler warmup_stable_decay never decays, as {option:lr_decay_steps} is 0; give e.g. 20%")
    if warmup >= steps:
        yield Message(
            "the warmup of {warm} steps never ends, training has {steps}: the full learning rate is never reached. "
            "Give {option:lr_warmup_steps} 5%",
            warm=warmup,
            steps=steps,
        )
    elif warmup > limits.MAX_WARMUP_FRACTION * steps:
        yield Message(
            "{warm} of {steps} steps are warmup, so few have the full learning rate; 5% is usual",
            warm=warmup,
            steps=steps,
        )
    cycles = task.lr_scheduler_num_cycles
    if task.lr_scheduler == "cosine_with_restarts" and cycles > max(1, steps // 10):
        yield Message(
            "{cycles} restarts in {steps} steps leave no time for the learning rate to decay; lower "
            "{option:lr_scheduler_num_cycles}",
            cycles=cycles,
            steps=steps,
        )


def _strength(run: RunSummary) -> Iterator[Message]:
    task = run.task
    optimizer = task.optimizer_type.lower()
    unet, text = task.rates
    if optimizer.startswith(SELF_TUNED):
        if 0 < max(unet, text) < limits.MIN_SELF_TUNED_LR:
            yield Message(
                "{optimizer} estimates the learning rate itself and multiplies it by the given one; with {rate:g} "
                "almost nothing is learned. Give {option:learning_rate} 1",
                optimizer=task.optimizer_type,
                rate=max(unet, text),
            )
        return
    for option, rank, alpha in (
        ("network_alpha", task.network_dim, task.alpha),
        ("conv_alpha", task.conv_dim, task.conv_alpha),
    ):
        if rank and alpha > limits.MAX_ALPHA_RATIO * rank:
            yield Message(
                "alpha {alpha:g} at rank {rank} multiplies the learning rate by {times:g}; usual is an alpha of the "
                "rank or half of it: {setting} {rank}",
                alpha=alpha,
                rank=rank,
                times=alpha / rank,
                setting=named([option]),
            )
    if optimizer.startswith("sgd"):  # its steps scale with the gradients; there is no usual learning rate
        return
    option = "learning_rate" if task.unet_lr is None else "unet_lr"
    yield from _check_lr(task, Message("U-Net"), unet, option, limits.MIN_LR)
    option = "unet_lr" if task.text_encoder_lr is None else "text_encoder_lr"
    yield from _check_lr(task, Message("text encoder"), text, option, 0.0)  # a low learning rate is fine
    if "lion" in optimizer and limits.MAX_LION_LR < unet * task.alpha / task.network_dim <= limits.MAX_LR:
        yield Message(
            "{optimizer} needs a learning rate three to ten times lower than AdamW; {rate:g} is high, give 3e-5",
            optimizer=task.optimizer_type,
            rate=unet,
        )


def _check_lr(task: TrainLora, part: Message, rate: float, option: str, min_lr: float) -> Iterator[Message]:
    """Whether the learning rate of a part of the model, set by `option`, is usual."""
    scale = task.alpha / task.network_dim
    strength = rate * scale
    rate_text = Message("{rate:g}", rate=rate)
    if scale != 1:
        rate_text = Message(
            "{rate:g} times alpha {alpha:g} over rank {rank}", rate=rate, alpha=task.alpha, rank=task.network_dim
        )
    if strength > limits.MAX_LR:
        yield Message(
            "the {part}'s learning rate ({rate}) is far above usual ones (up to {usual:g}): pictures burn or the loss "
            "diverges. Give {setting} 1e-4",
            part=part,
            rate=rate_text,
            usual=limits.MAX_LR / 2,
            setting=named([option]),
        )
    elif 0 < strength < min_lr:
        setting, value = ("network_alpha", task.network_dim) if scale < 1 / 4 else (option, "1e-4")
        yield Message(
            "the {part}'s learning rate ({rate}) is so low that almost nothing is learned; give {setting} {usual}",
            part=part,
            rate=rate_text,
            setting=named([setting]),
            usual=value,
        )


def _text_encoder(run: RunSummary) -> Iterator[Message]:
    task = run.task
    unet, text = task.rates
    if task.optimizer_type.lower().startswith(SELF_TUNED) or not unet or text < limits.MAX_TEXT_LR_RATIO * unet:
        return
    rate_text = Message("{rate:g}", rate=text)
    if task.text_encoder_lr is None:
        rate_text = Message(
            "{rate:g} (no {option:text_encoder_lr} is given, so {option:learning_rate} is used)", rate=text
        )
    yield Message(
        "the text encoder has the U-Net's learning rate, {rate}: it soon forgets other words. Usual is a tenth, "
        "{option:text_encoder_lr} {usual:g}, or do not train it: {option:network_train_unet_only}",
        rate=rate_text,
        usual=unet / 10,
    )


def _length(run: RunSummary) -> Iterator[Message]:
    task, views, photos = run.task, run.views, len(run.train)
    if not photos:
        return
    each = views / photos
    length = named(["max_train_steps" if task.max_train_steps else "max_train_epochs"])
    if views < limits.MIN_VIEWS:
        yield Message(
            "{steps} steps have {views:.0f} training samples, {each:.1f} of each photo; that is too few, 1000 to 3000 "
            "are usual. Raise {length} or the photos' repeats (N_name folders, num_repeats)",
            steps=run.steps,
            views=views,
            each=each,
            length=length,
        )
    elif each > limits.MAX_VIEWS_PER_PHOTO:
        yield Message(
            "each photo is used {each:.0f} times; beyond some 200 times the LoRA overfits. Lower {length}, or save a "
            "file every few epochs ({option:save_every_n_epochs}) and use the best",
            each=each,
            length=length,
        )


def _dtype(run: RunSummary) -> Iterator[Message]:
    if run.dtype == "float16" and run.device == "cpu":
        yield Message(
            "fp16 on a CPU is slow, and small gradients underflow; give {option:mixed_precision} bf16, or no if the "
            "CPU does not support bfloat16"
        )


def _batches(run: RunSummary) -> Iterator[Message]:
    sizes = run.batch_sizes
    counts = {key: len(indices) for key, indices in plan.by_bucket(run.items).items()}
    small = {key: count for key, count in counts.items() if count < sizes[key[0]]}
    places = sum(math.ceil(count / sizes[dataset]) * sizes[dataset] for (dataset, _), count in counts.items())
    if small and sum(counts.values()) < limits.MIN_BATCH_FILL * places:
        (dataset, (width, height)), count = min(small.items(), key=lambda item: (item[1], item[0]))
        yield Message(
            "batches of {size} are rarely full: {small} of {buckets} buckets have fewer pictures (that of "
            "{width}x{height} {count}). Crop photos to fewer shapes, give {option:no_enable_bucket}, or a smaller "
            "{option:train_batch_size}",
            size=sizes[dataset],
            small=len(small),
            buckets=len(counts),
            width=width,
            height=height,
            count=count,
        )


def _resolution(run: RunSummary) -> Iterator[Message]:
    for size in dict.fromkeys(run.sizes):
        yield from _size(size, run.native)


def _size(size: Size, native: int) -> Iterator[Message]:
    width, height = size
    ratio = (width * height) ** 0.5 / native
    sizes = {"width": width, "height": height, "native": native}
    if ratio < limits.MIN_NATIVE_RATIO:
        yield Message(
            "{option:resolution} {width}x{height} is below the model's resolution ({native}x{native}): it forgets how "
            "to compose large pictures. Leave the option out, or give {native}",
            **sizes,
        )
    elif ratio > limits.MAX_NATIVE_RATIO:
        yield Message(
            "{option:resolution} {width}x{height} is above the model's resolution ({native}x{native}): it duplicates "
            "objects and is slow. Leave the option out, or give {native}",
            **sizes,
        )


def _unused(run: RunSummary) -> Iterator[Message]:
    """Options without effect."""
    task = run.task
    if task.clip_skip and run.family in ("sd2", "sdxl"):
        yield Message(
            "{option:clip_skip} {clip_skip} has no effect on {family} models, which use a fixed layer; leave it out",
            clip_skip=task.clip_skip,
            family=run.family.upper(),
        )
    if not run.regularization:
        if task.prior_target == "model":
            yield Message(
                "{option:prior_target} model has no effect without regularization images; give {option:regular}, or "
                "leave it out"
            )
        return
    if not task.prior_loss_weight:
        yield Message(
            "the regularization images have no effect, as {option:prior_loss_weight} is 0; give 1, or leave "
            "{option:regular} out"
        )
    hashes = {stats.sha256 for _, stats, _ in run.train}
    same = [photo for photo, stats, _ in run.regularization if stats.sha256 in hashes]
    if same:
        yield Message(
            "{count} of {regular} regularization images are training photos; use images of other subjects of the same "
            "class, best generated by the model itself",
            count=len(same),
            regular=len(run.regularization),
        )
    words = {photo.caption for photo, *_ in run.train}
    if not same and words and all(photo.caption in words for photo, *_ in run.regularization):
        yield Message(
            "the regularization images have the same captions as the photos, which contradicts the photos; caption "
            "them without the trigger word"
        )


def _noise(run: RunSummary) -> Iterator[Message]:
    task = run.task
    if 0 < task.min_snr_gamma < limits.MIN_SNR_GAMMA:
        yield Message(
            "{option:min_snr_gamma} {gamma:g} gives almost all timesteps a weight near 0; 5 is usual",
            gamma=task.min_snr_gamma,
        )
    if task.noise_offset > limits.MAX_NOISE_OFFSET:
        yield Message(
            "{option:noise_offset} {offset:g} makes pictures too dark or too bright; 0.05 is usual",
            offset=task.noise_offset,
        )
