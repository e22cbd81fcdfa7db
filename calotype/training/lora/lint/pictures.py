"""Findings about photos: duplicates, blank, dark, blurred or small ones."""

import itertools
from collections.abc import Iterator, Sequence

from calotype.errors import Message, plural
from calotype.training.data.dataset import Example
from calotype.training.data.inspect import ImageStats, image_distance
from calotype.training.lora.lint import limits
from calotype.training.lora.lint.run_summary import RunSummary, names_of

MAX_COMPARED = 3000  # photos; with more, each is compared only with its neighbors by name
NEIGHBOURS = 50


def check_photos(run: RunSummary) -> Iterator[Message]:
    train = [(photo, stats) for photo, stats, _ in run.train]
    if len(train) == 1:
        yield Message(
            "there is only one photo: its background and light are learned as much as what it shows. Use ten or more, "
            "from different sides"
        )
    yield from _copies([*{photo.path: (photo, stats) for photo, stats in reversed(train)}.values()][::-1])
    yield from _dark_or_blank(train)
    yield from _blurred(train)
    yield from _small(run)
    transparent = [
        photo
        for photo, stats in train
        if stats.is_transparent and not run.subsets[photo.subset].alpha_mask and photo.mask is None
    ]
    if transparent:
        yield Message(
            "{photos} partly transparent ({names}), and the hidden pixels are trained on, often black or stripes; put "
            "a plain background behind what is shown",
            photos=_are(transparent),
            names=names_of(transparent),
        )


def _are(photos: Sequence[Example]) -> Message:
    return plural(len(photos), "1 photo is", "{count} photos are")


def _copies(train: Sequence[tuple[Example, ImageStats]]) -> Iterator[Message]:
    """Identical files, and photos that look the same."""
    files: dict[str, list[Example]] = {}
    for photo, stats in train:
        files.setdefault(stats.sha256, []).append(photo)
    duplicates = [photos for photos in files.values() if len(photos) > 1]
    if duplicates:
        count = sum(len(photos) - 1 for photos in duplicates)
        first, second = duplicates[0][:2]
        yield Message(
            "{photos} duplicated, bit for bit (such as {first} = {second}); keep one of each, and use the repeats of "
            "N_name folders to show some more often",
            photos=plural(count, "1 photo is", "{count} photos are"),
            first=first.path.name,
            second=second.path.name,
        )
    alike = _similar_pairs(
        [(files[stats.sha256][0], stats) for photo, stats in train if files[stats.sha256][0] is photo]
    )
    if alike:
        first, second = alike[0]
        yield plural(
            len(alike),
            "{first} and {second} look nearly the same; keep the better one",
            "{count} pairs of photos look nearly the same, such as {first} and {second}, which gives them more weight. "
            "Keep the best of each",
            first=first.path.name,
            second=second.path.name,
        )


def _similar_pairs(photos: Sequence[tuple[Example, ImageStats]]) -> list[tuple[Example, Example]]:
    photos = [item for item in photos if item[1].std > limits.MAX_BLANK_STD]  # blank photos have a message of their own
    count = len(photos) if len(photos) <= MAX_COMPARED else NEIGHBOURS
    pairs = []
    for n, (photo, stats) in enumerate(photos):
        for candidate, candidate_stats in itertools.islice(photos, n + 1, n + 1 + count):
            bits = (stats.hash ^ candidate_stats.hash).bit_count()
            if bits > 2 * limits.SAME_BITS:
                continue
            distance = image_distance(stats, candidate_stats)[1]
            if distance < limits.COPY_DISTANCE or (bits <= limits.SAME_BITS and distance < limits.SAME_DISTANCE):
                pairs.append((photo, candidate))
    return pairs


def _dark_or_blank(train: Sequence[tuple[Example, ImageStats]]) -> Iterator[Message]:
    blank = [photo for photo, stats in train if stats.std <= limits.MAX_BLANK_STD]
    dark = [
        photo for photo, stats in train if stats.std > limits.MAX_BLANK_STD and stats.brightness < limits.MIN_BRIGHTNESS
    ]
    if blank:
        yield plural(
            len(blank),
            "1 photo is blank, with a single color ({names}); remove it",
            "{count} photos are blank, with a single color ({names}); remove them",
            names=names_of(blank),
        )
    if dark:
        yield Message(
            "{photos} very dark ({names}), and so will be the results; brighten or remove",
            photos=_are(dark),
            names=names_of(dark),
        )


def _blurred(train: Sequence[tuple[Example, ImageStats]]) -> Iterator[Message]:
    clear = [
        (photo, stats)
        for photo, stats in train
        if stats.std > limits.MAX_BLANK_STD and max(stats.size) >= limits.MIN_SIDE
    ]
    is_soft = {
        id(photo): (stats.sharpness < limits.MIN_SHARPNESS or stats.edge_strength < limits.MIN_EDGE_STRENGTH)
        and (
            stats.face is None or stats.face < limits.MIN_FACE_SHARPNESS
        )  # a sharp face with a blurred background is fine
        for photo, stats in clear
    }
    soft = [photo for photo, _ in clear if is_soft[id(photo)]]
    faces = [
        photo
        for photo, stats in clear
        if not is_soft[id(photo)] and stats.face is not None and stats.face < limits.MIN_FACE_SHARPNESS
    ]
    if soft:
        yield Message(
            "{photos} blurred ({names}), and so will be the results; remove, or try `{task:restore}`",
            photos=_are(soft),
            names=names_of(soft),
        )
    if faces:
        yield plural(
            len(faces),
            "the face in {names} is out of focus while the rest is sharp; remove it",
            "in {count} photos the face is out of focus while the rest is sharp ({names}); remove them",
            names=names_of(faces),
        )


def _small(run: RunSummary) -> Iterator[Message]:
    small = [
        (photo, max(scaled / original for scaled, original in zip(fit.scaled, stats.size, strict=True)))
        for photo, stats, fit in run.train
    ]
    small = sorted((item for item in small if item[1] > limits.MAX_ENLARGEMENT), key=lambda item: -item[1])
    if small:
        photos = [photo for photo, _ in small]
        yield Message(
            "{photos} smaller than the training resolution and will be enlarged up to {times:.1f} times ({names}), "
            "which looks soft. Enlarge with `{task:upscale}`, give {option:bucket_no_upscale}, or remove",
            photos=_are(photos),
            times=small[0][1],
            names=names_of(photos),
        )
