import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def photo():
    """(3, 96, 120) with shapes, edges, a shade and texture, as photos have."""
    height, width = 96, 120
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = np.stack([x / width, y / height, 0.5 + 0.3 * np.sin(x / 7) * np.cos(y / 9)])
    picture[:, (y - 40) ** 2 + (x - 60) ** 2 < 500] = np.array([0.85, 0.6, 0.5], np.float32)[:, None]
    picture[:, 70:80, 20:100] = 0.1
    picture += np.random.default_rng(0).normal(0, 0.01, picture.shape)
    return torch.from_numpy(picture.clip(0, 1)).float()


@pytest.fixture(autouse=True)
def one_thread():
    """Small pictures: waiting for a second thread would cost more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
