"""TensorBoard event files, if tensorboard is installed (the extra `train`)."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from calotype.errors import CalotypeError, Remedy, reason_of


def is_installed() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


def missing() -> CalotypeError:
    """The error if it is not installed."""
    return CalotypeError(
        "TensorBoard's library is not installed; {remedy}, or give {option:log_with} none",
        remedy=Remedy("install", "train"),
    )


class Board:
    """One folder of event files; a resumed run adds a file and purges later steps of earlier ones."""

    def __init__(self, folder: Path, after: int = 0):
        """Raises CalotypeError if tensorboard is not installed, or the folder is not writable."""
        if not is_installed():
            raise missing()
        from torch.utils.tensorboard import SummaryWriter

        try:
            self._writer: Any = SummaryWriter(folder, purge_step=after + 1 if after else None, flush_secs=10)
        except OSError as error:
            raise CalotypeError(
                "{folder} cannot be written to ({reason}); give another {option:logging_dir}",
                folder=folder,
                reason=reason_of(error),
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
