"""The tabs of the page, in their order: id, title, and the function that makes the components."""

from collections.abc import Callable

from calotype.web.forms import Door
from calotype.web.tabs import gallery, queue, restore

TABS: tuple[tuple[str, str, Callable[[Door], None]], ...] = (
    ("restore", "Restore", restore.add),
    ("queue", "Queue", queue.add),
    ("gallery", "Gallery", gallery.add),
)
