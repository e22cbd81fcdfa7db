"""The names that a request may use: models at hand, styles of the home folder, optimizers."""

from collections.abc import Callable, Collection

from calotype.checkpoints.store import ModelStore
from calotype.settings import Settings
from calotype.tasks.guard import STORED
from calotype.tasks.optimizers import KNOWN
from calotype.tasks.styles import STYLES_FILE, styles


def allowed_names(settings: Settings, owner: str = "") -> Callable[[str], Collection[str]]:
    """The names by their kind, as `tasks.read_task` takes them for untrusted requests; read at each call.

    `owner`: the account whose own models are among them.
    """

    def names(kind: str) -> Collection[str]:
        if kind in STORED:
            return ModelStore(settings, trusted=False).names(kind, owner)
        if kind == "style":
            return styles(settings.home / STYLES_FILE)
        return KNOWN if kind == "optimizer" else ()

    return names
