"""Options that do not go together, or not with this model, this computer or so many photos."""

from collections.abc import Iterator

from calotype.errors import Message, named
from calotype.tasks.training import TrainLora, parse_steps
from calotype.training.lora.lint import limits
from calotype.training.lora.lint.course import RunSummary

SELF_RATED = ("prodigy", "dadapt")  # beginnings of the names of optimizers that find their rate


def of_numbers(course: RunSummary) -> Iterator[Message]:
    for found in (_schedule, _strength, _text_encoder, _length, _format, _batches, _resolution, _idle, _noise):
        yield from found(course)


def _schedule(course: RunSummary) -> Iterator[Message]:
    task, warm, steps = course.task, course.warm, course.steps
    if not warm:
        if task.lr_scheduler == "constant_with_warmup":
            yield Message(
                "lr_scheduler constant_with_warmup has no warm-up: {option:lr_warmup_steps} is 0; give it such as 5%, "
                "or {option:lr_scheduler} constant"
            )
    elif task.lr_scheduler == "constant":
        yield Message(
            "lr_scheduler constant and a warm-up of {warm} steps contradict each other, and kohya's scripts refuse "
            "them; the rate will rise first, as with {option:lr_scheduler} constant_with_warmup. Give that, or "
            "{option:lr_warmup_steps} 0",
            warm=warm,
        )
    if task.lr_scheduler == "warmup_stable_decay" and not parse_steps(task.lr_decay_steps, steps):
        yield Message(
            "lr_scheduler warmup_stable_decay never falls, as {option:lr_decay_steps} is 0; give it such as 20%"
        )
    if warm >= steps:
        yield Message(
            "the warm-up of {warm} steps never ends, training has {steps}: the full rate is never reached. Give "
            "{option:lr_warmup_steps} 5%",
            warm=warm,
            steps=steps,
        )
    elif warm > limits.LONG_WARMUP * steps:
        yield Message(
            "the rate rises in {warm} of {steps} steps, so little is learnt at full rate; 5% is usual",
            warm=warm,
            steps=steps,
        )
    cycles = task.lr_scheduler_num_cycles
    if task.lr_scheduler == "cosine_with_restarts" and cycles > max(1, steps // 10):
        yield Message(
            "{cycles} restarts in {steps} steps leave no time for the rate to fall; lower "
            "{option:lr_scheduler_num_cycles}",
            cycles=cycles,
            steps=steps,
        )


def _strength(course: RunSummary) -> Iterator[Message]:
    task = course.task
    optimizer = task.optimizer_type.lower()
    unet, text = task.rates
    if optimizer.startswith(SELF_RATED):
        if 0 < max(unet, text) < limits.LEAST_OWN:
            yield Message(
                "{optimizer} finds the rate itself and multiplies it by what is told; with {rate:g} next to nothing is "
                "learnt. Give {option:learning_rate} 1",
                optimizer=task.optimizer_type,
                rate=max(unet, text),
            )
        return
    for option, rank, alpha in (
        ("network_alpha", task.network_dim, task.alpha),
        ("conv_alpha", task.conv_dim, task.conv_alpha),
    ):
        if rank and alpha > limits.MOST_ALPHA * rank:
            yield Message(
                "alpha {alpha:g} at rank {rank} makes every step {times:g} times stronger than the rate says; usual is "
                "an alpha of the rank or half of it: {setting} {rank}",
                alpha=alpha,
                rank=rank,
                times=alpha / rank,
                setting=named([option]),
            )
    if optimizer.startswith("sgd"):  # its steps are as long as the gradients; no rate is usual
        return
    option = "learning_rate" if task.unet_lr is None else "unet_lr"
    yield from _rate(task, Message("U-Net"), unet, option, limits.LEAST_RATE)
    option = "unet_lr" if task.text_encoder_lr is None else "text_encoder_lr"
    yield from _rate(task, Message("text encoder"), text, option, 0.0)  # it may learn as little as one likes
    if "lion" in optimizer and limits.MOST_LION < unet * task.alpha / task.network_dim <= limits.MOST_RATE:
        yield Message(
            "{optimizer} wants a rate three to ten times lower than AdamW; {rate:g} is high, give 3e-5",
            optimizer=task.optimizer_type,
            rate=unet,
        )


def _rate(task: TrainLora, part: Message, rate: float, option: str, least: float) -> Iterator[Message]:
    """Whether a part of the model has a usual rate, which `option` sets; `least` of what a step changes."""
    scale = task.alpha / task.network_dim
    strength = rate * scale
    rated = Message("{rate:g}", rate=rate)
    if scale != 1:
        rated = Message(
            "{rate:g} times alpha {alpha:g} over rank {rank}", rate=rate, alpha=task.alpha, rank=task.network_dim
        )
    if strength > limits.MOST_RATE:
        yield Message(
            "the {part}'s rate ({rate}) is far above what is usual (up to {usual:g}): pictures burn or the loss is "
            "lost. Give {setting} 1e-4",
            part=part,
            rate=rated,
            usual=limits.MOST_RATE / 2,
            setting=named([option]),
        )
    elif 0 < strength < least:
        setting, value = ("network_alpha", task.network_dim) if scale < 1 / 4 else (option, "1e-4")
        yield Message(
            "the {part}'s rate ({rate}) is so low that next to nothing is learnt; give {setting} {usual}",
            part=part,
            rate=rated,
            setting=named([setting]),
            usual=value,
        )


def _text_encoder(course: RunSummary) -> Iterator[Message]:
    task = course.task
    unet, text = task.rates
    if task.optimizer_type.lower().startswith(SELF_RATED) or not unet or text < limits.ALIKE_RATES * unet:
        return
    rated = Message("{rate:g}", rate=text)
    if task.text_encoder_lr is None:
        rated = Message(
            "{rate:g} (no {option:text_encoder_lr} is given, so it takes {option:learning_rate})", rate=text
        )
    yield Message(
        "the text encoder learns as fast as the U-Net, {rate}: it soon forgets other words. Usual is a tenth, "
        "{option:text_encoder_lr} {usual:g}, or leave it as it is with {option:network_train_unet_only}",
        rate=rated,
        usual=unet / 10,
    )


def _length(course: RunSummary) -> Iterator[Message]:
    task, views, photos = course.task, course.views, len(course.learnt)
    if not photos:
        return
    each = views / photos
    length = named(["max_train_steps" if task.max_train_steps else "max_train_epochs"])
    if views < limits.FEW_VIEWS:
        yield Message(
            "in {steps} steps photos are shown {views:.0f} times in all, {each:.1f} times each; that is too little to "
            "learn from, 1000 to 3000 times are usual. Raise {length} or the photos' repeats (N_name folders)",
            steps=course.steps,
            views=views,
            each=each,
            length=length,
        )
    elif each > limits.MANY_VIEWS:
        yield Message(
            "each photo is shown {each:.0f} times; beyond some 200 times they are learnt by heart. Lower {length}, or "
            "keep a file every few epochs ({option:save_every_n_epochs}) and take the best",
            each=each,
            length=length,
        )


def _format(course: RunSummary) -> Iterator[Message]:
    if course.dtype == "float16" and course.device == "cpu":
        yield Message(
            "fp16 on a processor is slow, and small gradients become 0 in it; give {option:mixed_precision} bf16, or "
            "no where the processor has no bfloat16"
        )


def _batches(course: RunSummary) -> Iterator[Message]:
    size = course.batch
    if size == 1:
        return
    counts: dict[tuple[int, int], int] = {}
    for photo, fit in zip(course.photos, course.fits, strict=True):
        counts[fit.bucket] = counts.get(fit.bucket, 0) + photo.repeats
    small = {bucket: count for bucket, count in counts.items() if count < size}
    if small and sum(counts.values()) < limits.HALF_FULL * size * course.batches:
        (width, height), count = min(small.items(), key=lambda one: (one[1], one[0]))
        yield Message(
            "batches of {size} are rarely full: {small} of {buckets} buckets hold fewer pictures (that of "
            "{width}x{height} {count}). Crop photos to fewer shapes, give {option:no_enable_bucket}, or a smaller "
            "{option:train_batch_size}",
            size=size,
            small=len(small),
            buckets=len(counts),
            width=width,
            height=height,
            count=count,
        )


def _resolution(course: RunSummary) -> Iterator[Message]:
    width, height = course.size
    share = (width * height) ** 0.5 / course.native
    sizes = {"width": width, "height": height, "native": course.native}
    if share < limits.LEAST_NATIVE:
        yield Message(
            "{option:resolution} {width}x{height} is not what this model was made for ({native}x{native}): it forgets "
            "how to compose large pictures. Leave the option out, or give {native}",
            **sizes,
        )
    elif share > limits.MOST_NATIVE:
        yield Message(
            "{option:resolution} {width}x{height} is not what this model was made for ({native}x{native}): it draws "
            "things twice and needs much time. Leave the option out, or give {native}",
            **sizes,
        )


def _idle(course: RunSummary) -> Iterator[Message]:
    """Options that do nothing here."""
    task = course.task
    if task.clip_skip and course.family in ("sd2", "sdxl"):
        yield Message(
            "{option:clip_skip} {clip_skip} does nothing for {family} models, which read a fixed layer; leave it out",
            clip_skip=task.clip_skip,
            family=course.family.upper(),
        )
    if task.regular is None or not course.regular:
        if task.prior_target == "model":
            yield Message(
                "{option:prior_target} model does nothing without regularisation pictures; give {option:regular}, or "
                "leave it out"
            )
        return
    if not task.prior_loss_weight:
        yield Message(
            "the regularisation pictures have no effect, as {option:prior_loss_weight} is 0; give 1, or leave "
            "{option:regular} out"
        )
    ours = {glance.sha256 for _, glance, _ in course.learnt}
    same = [photo for photo, glance, _ in course.regular if glance.sha256 in ours]
    if same:
        yield Message(
            "{count} of {regular} regularisation pictures are the very photos to learn; take pictures of other things "
            "of the kind, best drawn by the model itself",
            count=len(same),
            regular=len(course.regular),
        )
    words = {photo.caption for photo, *_ in course.learnt}
    if not same and words and all(photo.caption in words for photo, *_ in course.regular):
        yield Message(
            "the regularisation pictures have the same captions as the photos, so they teach that those words mean "
            "something else; caption them without the word that calls what is learnt"
        )


def _noise(course: RunSummary) -> Iterator[Message]:
    task = course.task
    if 0 < task.min_snr_gamma < limits.WIDE_SNR:
        yield Message(
            "{option:min_snr_gamma} {gamma:g} weighs nearly all steps away; 5 is usual", gamma=task.min_snr_gamma
        )
    if task.noise_offset > limits.MOST_OFFSET:
        yield Message(
            "{option:noise_offset} {offset:g} makes pictures too dark or too bright; 0.05 is usual",
            offset=task.noise_offset,
        )
