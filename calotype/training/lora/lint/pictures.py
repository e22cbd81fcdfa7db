"""Photos that teach nothing, or the wrong thing."""

import itertools
from collections.abc import Iterator, Sequence

from calotype.errors import Message, plural
from calotype.training.data.dataset import Example
from calotype.training.data.inspect import ImageStats, image_distance
from calotype.training.lora.lint import limits
from calotype.training.lora.lint.course import RunSummary, some

MOST_COMPARED = 3000  # photos; of more, each is compared with its neighbours by name alone
NEIGHBOURS = 50


def of_pictures(course: RunSummary) -> Iterator[Message]:
    learnt = [(photo, glance) for photo, glance, _ in course.learnt]
    if len(learnt) == 1:
        yield Message(
            "there is one photo alone: its background and light are learnt as much as what it shows. Take ten or more, "
            "from different sides"
        )
    yield from _copies(learnt)
    yield from _light(learnt)
    yield from _blurred(learnt)
    yield from _small(course)
    holes = [photo for photo, glance in learnt if glance.is_transparent]
    if holes:
        yield Message(
            "{photos} partly transparent ({names}), and what lies hidden there is learnt, often black or stripes; put "
            "a plain background behind what is shown",
            photos=_are(holes),
            names=some(holes),
        )


def _are(photos: Sequence[Example]) -> Message:
    return plural(len(photos), "1 photo is", "{count} photos are")


def _copies(learnt: Sequence[tuple[Example, ImageStats]]) -> Iterator[Message]:
    """Groups of one and the same file, and of photos that look the same."""
    files: dict[str, list[Example]] = {}
    for photo, glance in learnt:
        files.setdefault(glance.sha256, []).append(photo)
    same = [photos for photos in files.values() if len(photos) > 1]
    if same:
        count = sum(len(photos) - 1 for photos in same)
        first, second = same[0][:2]
        yield Message(
            "{photos} there twice, bit for bit (such as {first} = {second}); keep one of each, and use the repeats of "
            "N_name folders to show some more often",
            photos=plural(count, "1 photo is", "{count} photos are"),
            first=first.path.name,
            second=second.path.name,
        )
    alike = _alike([(files[glance.sha256][0], glance) for photo, glance in learnt if files[glance.sha256][0] is photo])
    if alike:
        first, second = alike[0]
        yield plural(
            len(alike),
            "{first} and {second} look nearly the same; keep the better one",
            "{count} pairs of photos look nearly the same, such as {first} and {second}; what they share counts more. "
            "Keep the best of each",
            first=first.path.name,
            second=second.path.name,
        )


def _alike(looked: Sequence[tuple[Example, ImageStats]]) -> list[tuple[Example, Example]]:
    looked = [one for one in looked if one[1].std > limits.PLAIN]  # empty sheets have a sentence of their own
    reach = len(looked) if len(looked) <= MOST_COMPARED else NEIGHBOURS
    found = []
    for n, (photo, glance) in enumerate(looked):
        for other, its in itertools.islice(looked, n + 1, n + 1 + reach):
            bits = (glance.hash ^ its.hash).bit_count()
            if bits > 2 * limits.SAME_BITS:
                continue
            look = image_distance(glance, its)[1]
            if look < limits.COPY_LOOK or (bits <= limits.SAME_BITS and look < limits.SAME_LOOK):
                found.append((photo, other))
    return found


def _light(learnt: Sequence[tuple[Example, ImageStats]]) -> Iterator[Message]:
    plain = [photo for photo, glance in learnt if glance.std <= limits.PLAIN]
    dark = [photo for photo, glance in learnt if glance.std > limits.PLAIN and glance.brightness < limits.DARK]
    if plain:
        yield plural(
            len(plain),
            "1 photo has nothing on it, one colour all over ({names}); take it out",
            "{count} photos have nothing on it, one colour all over ({names}); take it out",
            names=some(plain),
        )
    if dark:
        yield Message(
            "{photos} very dark ({names}), and darkness will be learnt; brighten or leave out",
            photos=_are(dark),
            names=some(dark),
        )


def _blurred(learnt: Sequence[tuple[Example, ImageStats]]) -> Iterator[Message]:
    clear = [
        (photo, glance)
        for photo, glance in learnt
        if glance.std > limits.PLAIN and max(glance.size) >= limits.TOO_SMALL_TO_TELL
    ]
    is_soft = {
        id(photo): (glance.sharpness < limits.BLURRED or glance.edge_strength < limits.NO_EDGES)
        and (glance.face is None or glance.face < limits.BLURRED_FACE)  # a sharp face before a soft garden is wanted
        for photo, glance in clear
    }
    soft = [photo for photo, _ in clear if is_soft[id(photo)]]
    faces = [
        photo
        for photo, glance in clear
        if not is_soft[id(photo)] and glance.face is not None and glance.face < limits.BLURRED_FACE
    ]
    if soft:
        yield Message(
            "{photos} blurred ({names}), and blur is learnt with all else; leave out, or try `{task:restore}`",
            photos=_are(soft),
            names=some(soft),
        )
    if faces:
        yield plural(
            len(faces),
            "the face in {names} is out of focus while the rest is sharp; leave it out",
            "in {count} photos the face is out of focus while the rest is sharp ({names}); leave them out",
            names=some(faces),
        )


def _small(course: RunSummary) -> Iterator[Message]:
    small = [
        (photo, max(scaled / own for scaled, own in zip(fit.scaled, glance.size, strict=True)))
        for photo, glance, fit in course.learnt
    ]
    small = sorted((one for one in small if one[1] > limits.ENLARGED), key=lambda one: -one[1])
    if small:
        photos = [photo for photo, _ in small]
        yield Message(
            "{photos} smaller than the size trained at and will be enlarged up to {times:.1f} times ({names}), which "
            "looks soft. Enlarge with `{task:upscale}`, give {option:bucket_no_upscale}, or leave out",
            photos=_are(photos),
            times=small[0][1],
            names=some(photos),
        )
