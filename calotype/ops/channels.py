"""Figures over the channels of pixels, (..., C).

A channel at a time: a reduction over an axis as short as this takes numpy ten times as long.
"""

from functools import reduce

import numpy as np


def largest(values: np.ndarray) -> np.ndarray:
    return reduce(np.maximum, np.moveaxis(values, -1, 0))


def smallest(values: np.ndarray) -> np.ndarray:
    return reduce(np.minimum, np.moveaxis(values, -1, 0))


def mean(values: np.ndarray) -> np.ndarray:
    """In float32."""
    planes = (plane.astype(np.float32) for plane in np.moveaxis(values, -1, 0))
    return reduce(np.add, planes) / np.float32(values.shape[-1])
