"""Restores a photo: faces by a face network, everything else by a super-resolution network."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from calotype.checkpoints.models import Models
from calotype.inference.examine import examine, examine_faces
from calotype.inference.faces import (
    face_network,
    face_record,
    find_faces,
    mesh_facts,
    network_input,
    paste_face,
    restore_aligned,
    restore_faces,
    select_faces,
    uncertainty,
)
from calotype.inference.repair import repair
from calotype.inference.speed import choose_upscaler
from calotype.inference.upscale import enlarge, enlarge_alpha, enlarged_size
from calotype.ops.color import match_channels, squeeze_grey
from calotype.picture import Picture
from calotype.record import REPAIRED, SHARP, Result
from calotype.tasks import Note, Progress, Restore, Strengths, read_size


def restore(task: Restore, models: Models) -> Iterator[Progress | Note | Result]:
    """Opens the photo, repairs it, restores its faces, enlarges it, pastes the faces; yields the Result last."""
    opened = Picture.open(task.source, models.settings.max_pixels, task.page, task.damaged_file)
    scan = network_input(opened)
    is_examined = task.examined and task.repair != "none" and not task.aligned
    measures = list(examine(scan)) if is_examined else []
    repaired = yield from repair(scan, task, models)
    picture = repaired.picture
    is_deep = picture.pixels.dtype == np.uint16
    network = yield from face_network(task, models, is_deep)
    if task.aligned:
        yield (yield from restore_aligned(task, opened, network, models))
        return
    fitted = task.for_size(picture.pixels.shape[:2])
    name = yield from choose_upscaler(fitted, picture.pixels, models)
    upscaler = None if name == "none" else models.upscaler(name, task.denoise, is_deep)

    detected = find_faces(picture, models) if network or task.faces != "none" else []
    faces = [face_record(n, face, task, network) for n, face in enumerate(detected, 1)]
    faces = select_faces(faces, task, picture)
    restored = yield from restore_faces(picture, faces, network, task, models)
    faces = [
        restored[f.number].record if f.number in restored else replace(f, treated=False, why=f.why or SHARP)
        for f in faces
    ]

    strengths = Strengths.read(task.strength)
    size = enlarged_size(picture.pixels, fitted.scale)
    enlarged = yield from enlarge(picture.pixels, upscaler, size, task, models, strengths.background)
    alpha = yield from enlarge_alpha(picture.alpha, upscaler, size, task, models)
    pixels = enlarged.pixels
    if pixels is picture.pixels:  # of the same size without a network: hidden colours stay, too
        pixels = picture.pixels.copy() if restored or REPAIRED in repaired.computed else squeeze_grey(opened.pixels)
    for face in restored.values():
        paste_face(pixels, picture.pixels, face, upscaler)

    computed = models.computed(upscaler or network, tile=enlarged.tile) | repaired.computed
    computed |= mesh_facts(task) if restored else {}
    networks = [upscaler, *repaired.networks, network if restored else None]
    result = opened.then(match_channels(pixels, opened.pixels), alpha)
    has_uncertainty = restored and task.has_uncertainty
    invented = uncertainty(result, picture.pixels, restored.values()) if has_uncertainty else None
    if task.crop:
        result = _cropped(result, task)
    if is_examined:
        measures += (*repaired.measures, *examine_faces(scan, faces, task.min_face))
    mask = repaired.mask() if task.has_mask else None
    finished = Result.of(task, opened, result, networks, computed, faces, measures, mask)
    yield replace(finished, uncertainty=invented)


def _cropped(picture: Picture, task: Restore) -> Picture:
    """Without what goes beyond `cover`, around the middle."""
    height, width = picture.pixels.shape[:2]
    target = read_size(task.cover, "cover") or (height, width)
    top, left = (height - target[0]) // 2, (width - target[1]) // 2
    part = slice(top, top + target[0]), slice(left, left + target[1])
    return picture.then(picture.pixels[part], None if picture.alpha is None else picture.alpha[part])
