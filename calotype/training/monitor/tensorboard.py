"""TensorBoard's event files, where its library is installed (the extra `train`)."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from calotype.errors import CalotypeError, Remedy


def is_installed() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


def missing() -> CalotypeError:
    """What to say where it is not."""
    return CalotypeError(
        "TensorBoard's library is not installed; {remedy}, or give {option:log_with} none",
        remedy=Remedy("install", "train"),
    )


class Board:
    """One folder of event files; a run that goes on adds a file, and what an earlier one has of later steps is void."""

    def __init__(self, folder: Path, after: int = 0):
        """Raises CalotypeError where the library is missing, or the folder cannot be written to."""
        if not is_installed():
            raise missing()
        from torch.utils.tensorboard import SummaryWriter

        try:
            self._writer: Any = SummaryWriter(folder, purge_step=after + 1 if after else None, flush_secs=10)
        except OSError as fault:
            raise CalotypeError(
                "{folder} cannot be written to ({reason}); give another {option:logging_dir}",
                folder=folder,
                reason=fault.strerror,
            ) from None

    def number(self, step: int, name: str, value: float) -> None:
        self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """(H, W, 3) uint8."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def text(self, name: str, value: str) -> None:
        self._writer.add_text(name, value)

    def close(self) -> None:
        self._writer.close()
