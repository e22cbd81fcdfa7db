"""Enlarges a picture by any factor with a super-resolution network."""

from collections.abc import Iterator

import numpy as np

from calotype.checkpoints.models import Models
from calotype.inference.speed import choose_upscaler
from calotype.inference.upscale import enlarge, enlarge_alpha, enlarged_size
from calotype.ops.color import match_channels, squeeze_grey
from calotype.picture import Picture
from calotype.record import Result
from calotype.tasks import Note, Progress, Upscale


def upscale(task: Upscale, models: Models) -> Iterator[Progress | Note | Result]:
    """Opens the picture, enlarges colour and transparency, and yields the Result last."""
    picture = Picture.open(task.source, models.settings.max_pixels, task.page, task.damaged_file)
    visible = picture.with_visible_colours()
    name = yield from choose_upscaler(task, visible.pixels, models)
    network = models.upscaler(name, task.denoise, deep=picture.pixels.dtype == np.uint16)
    size = enlarged_size(picture.pixels, task.scale or network.scale)

    colour = yield from enlarge(squeeze_grey(visible.pixels), network, size, task, models)
    alpha = yield from enlarge_alpha(picture.alpha, network, size, task, models)

    computed = models.computed(network, tile=colour.tile)
    result = picture.then(match_channels(colour.pixels, picture.pixels), alpha)
    yield Result.of(task, picture, result, [network], computed)
