"""Pictures that do not stay in memory are read again, and are the same then."""

import numpy as np
import pytest
from PIL import Image

from calotype.errors import CalotypeError
from calotype.training.data import patches as crops
from calotype.training.data.patches import HighRes


def test_a_picture_that_has_changed_is_not_taken_for_the_one_that_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "MAX_CACHED_BYTES", 0)
    before, after = (np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in (0, 1))
    path = tmp_path / "a.png"
    Image.fromarray(before).save(path)

    def opened():
        (sharp,) = (event for event in crops.open_images(tmp_path, 10**6) if isinstance(event, HighRes))
        return sharp

    first = opened()
    assert first.cached is None and np.array_equal(first.pixels, before)
    Image.fromarray(after).save(path)
    assert np.array_equal(opened().pixels, after)  # what a run of before has read is not given to this one
    crops._read.cache_clear()
    with pytest.raises(CalotypeError, match=r"a\.png has changed since the run read it"):
        first.pixels.min()
