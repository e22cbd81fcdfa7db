"""Figures over channels are those of numpy, to the last bit."""

import numpy as np
import pytest

from calotype.ops import channels


@pytest.mark.parametrize("shape", [(40, 30, 3), (40, 30, 1), (50, 4), (0, 5, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_they_are_those_of_a_reduction(shape, dtype):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    for function, reduction in ((channels.largest, np.max), (channels.smallest, np.min)):
        found = function(values)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, reduction(values, -1))
    found = channels.mean(values)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.mean(-1, dtype=np.float32))
