"""Options that do not go together, or not with this model, this computer or so many photos."""

from collections.abc import Iterator

from calotype.tasks.training import warmup
from calotype.training.lint import limits
from calotype.training.lint.course import Course

SELF_RATED = ("prodigy", "dadapt")  # beginnings of the names of optimizers that find their rate


def of_numbers(course: Course) -> Iterator[str]:
    for found in (_schedule, _strength, _text_encoder, _length, _format, _batches, _resolution, _idle, _noise):
        yield from found(course)


def _schedule(course: Course) -> Iterator[str]:
    task, warm, steps = course.task, course.warm, course.steps
    if not warm:
        if task.lr_scheduler == "constant_with_warmup":
            yield (
                "lr_scheduler constant_with_warmup has no warm-up: --lr-warmup-steps is 0; give it such as 5%, or "
                "--lr-scheduler constant"
            )
    elif task.lr_scheduler == "constant":
        yield (
            f"lr_scheduler constant and a warm-up of {warm} steps contradict each other, and kohya's scripts refuse "
            "them; the rate will rise first, as with --lr-scheduler constant_with_warmup. Give that, or "
            "--lr-warmup-steps 0"
        )
    if task.lr_scheduler == "warmup_stable_decay" and not warmup(task.lr_decay_steps, steps):
        yield "lr_scheduler warmup_stable_decay never falls, as --lr-decay-steps is 0; give it such as 20%"
    if warm >= steps:
        yield (
            f"the warm-up of {warm} steps never ends, training has {steps}: the full rate is never reached. Give "
            "--lr-warmup-steps 5%"
        )
    elif warm > limits.LONG_WARMUP * steps:
        yield f"the rate rises in {warm} of {steps} steps, so little is learnt at full rate; 5% is usual"
    cycles = task.lr_scheduler_num_cycles
    if task.lr_scheduler == "cosine_with_restarts" and cycles > max(1, steps // 10):
        yield f"{cycles} restarts in {steps} steps leave no time for the rate to fall; lower --lr-scheduler-num-cycles"


def _strength(course: Course) -> Iterator[str]:
    task = course.task
    optimizer = task.optimizer_type.lower()
    unet, text = task.rates
    if optimizer.startswith(SELF_RATED):
        if 0 < max(unet, text) < limits.LEAST_OWN:
            yield (
                f"{task.optimizer_type} finds the rate itself and multiplies it by what is told; with "
                f"{max(unet, text):g} next to nothing is learnt. Give --learning-rate 1"
            )
        return
    scale = task.alpha / task.network_dim
    for name, rank, alpha in (("network", task.network_dim, task.alpha), ("conv", task.conv_dim, task.conv_alpha)):
        if rank and alpha > limits.MOST_ALPHA * rank:
            yield (
                f"alpha {alpha:g} at rank {rank} makes every step {alpha / rank:g} times stronger than the rate says; "
                f"usual is an alpha of the rank or half of it: --{name}-alpha {rank}"
            )
    if optimizer.startswith("sgd"):  # its steps are as long as the gradients; no rate is usual
        return
    for name, rate in (("U-Net", unet), ("text encoder", text)):
        strength = rate * scale
        told = f"{rate:g}" if scale == 1 else f"{rate:g} times alpha {task.alpha:g} over rank {task.network_dim}"
        option = "--text-encoder-lr" if name == "text encoder" and task.text_encoder_lr is not None else "--unet-lr"
        option = "--learning-rate" if name == "U-Net" and task.unet_lr is None else option
        if strength > limits.MOST_RATE:
            yield (
                f"the {name}'s rate ({told}) is far above what is usual (up to {limits.MOST_RATE / 2:g}): pictures "
                f"burn or the loss is lost. Give {option} 1e-4"
            )
        elif 0 < strength < limits.LEAST_RATE and name == "U-Net":
            wanted = f"--network-alpha {task.network_dim}" if scale < 1 / 4 else f"{option} 1e-4"
            yield f"the {name}'s rate ({told}) is so low that next to nothing is learnt; give {wanted}"
    if "lion" in optimizer and limits.MOST_LION < unet * scale <= limits.MOST_RATE:
        yield f"{task.optimizer_type} wants a rate three to ten times lower than AdamW; {unet:g} is high, give 3e-5"


def _text_encoder(course: Course) -> Iterator[str]:
    task = course.task
    unet, text = task.rates
    if task.optimizer_type.lower().startswith(SELF_RATED) or not unet or text < limits.ALIKE_RATES * unet:
        return
    why = " (no --text-encoder-lr is given, so it takes --learning-rate)" if task.text_encoder_lr is None else ""
    yield (
        f"the text encoder learns as fast as the U-Net, {text:g}{why}: it soon forgets other words. Usual is a tenth, "
        f"--text-encoder-lr {unet / 10:g}, or leave it as it is with --network-train-unet-only"
    )


def _length(course: Course) -> Iterator[str]:
    task, views, photos = course.task, course.views, len(course.learnt)
    if not photos:
        return
    each = views / photos
    how = "--max-train-steps" if task.max_train_steps else "--max-train-epochs"
    if views < limits.FEW_VIEWS:
        yield (
            f"in {course.steps} steps photos are shown {views:.0f} times in all, {each:.1f} times each; that is too "
            f"little to learn from, 1000 to 3000 times are usual. Raise {how} or the photos' repeats (N_name folders)"
        )
    elif each > limits.MANY_VIEWS:
        yield (
            f"each photo is shown {each:.0f} times; beyond some 200 times they are learnt by heart. Lower {how}, or "
            "keep a file every few epochs (--save-every-n-epochs) and take the best"
        )


def _format(course: Course) -> Iterator[str]:
    if course.dtype == "float16" and course.device == "cpu":
        yield (
            "fp16 on a processor is slow, and small gradients become 0 in it; give --mixed-precision bf16, or no where "
            "the processor has no bfloat16"
        )


def _batches(course: Course) -> Iterator[str]:
    size = course.batch
    if size == 1:
        return
    counts: dict[tuple[int, int], int] = {}
    for photo, fit in zip(course.photos, course.fits, strict=True):
        counts[fit.bucket] = counts.get(fit.bucket, 0) + photo.repeats
    small = {bucket: count for bucket, count in counts.items() if count < size}
    if small and sum(counts.values()) < limits.HALF_FULL * size * course.batches:
        (width, height), count = min(small.items(), key=lambda one: (one[1], one[0]))
        yield (
            f"batches of {size} are rarely full: {len(small)} of {len(counts)} buckets hold fewer pictures (that of "
            f"{width}x{height} {count}). Crop photos to fewer shapes, give --no-enable-bucket, or a smaller "
            "--train-batch-size"
        )


def _resolution(course: Course) -> Iterator[str]:
    side = (course.size[0] * course.size[1]) ** 0.5
    share, native = side / course.native, course.native
    if not limits.LEAST_NATIVE <= share <= limits.MOST_NATIVE:
        harm = "it forgets how to compose large pictures" if share < 1 else "it draws things twice and needs much time"
        yield (
            f"--resolution {course.size[0]}x{course.size[1]} is not what this model was made for ({native}x{native}): "
            f"{harm}. Leave the option out, or give {native}"
        )


def _idle(course: Course) -> Iterator[str]:
    """Options that do nothing here."""
    task = course.task
    if task.clip_skip and course.family in ("sd2", "sdxl"):
        yield (
            f"--clip-skip {task.clip_skip} does nothing for {course.family.upper()} models, which read a fixed layer; "
            "leave it out"
        )
    if task.regular is None or not course.regular:
        if task.prior_target == "model":
            yield "--prior-target model does nothing without regularisation pictures; give --regular, or leave it out"
        return
    if not task.prior_loss_weight:
        yield "the regularisation pictures have no effect, as --prior-loss-weight is 0; give 1, or leave --regular out"
    ours = {glance.sha256 for _, glance, _ in course.learnt}
    same = [photo for photo, glance, _ in course.regular if glance.sha256 in ours]
    if same:
        yield (
            f"{len(same)} of {len(course.regular)} regularisation pictures are the very photos to learn; take pictures "
            "of other things of the kind, best drawn by the model itself"
        )
    words = {photo.caption for photo, *_ in course.learnt}
    if not same and words and all(photo.caption in words for photo, *_ in course.regular):
        yield (
            "the regularisation pictures have the same captions as the photos, so they teach that those words mean "
            "something else; caption them without the word that calls what is learnt"
        )


def _noise(course: Course) -> Iterator[str]:
    task = course.task
    if 0 < task.min_snr_gamma < limits.WIDE_SNR:
        yield f"--min-snr-gamma {task.min_snr_gamma:g} weighs nearly all steps away; 5 is usual"
    if task.noise_offset > limits.MOST_OFFSET:
        yield f"--noise-offset {task.noise_offset:g} makes pictures too dark or too bright; 0.05 is usual"
