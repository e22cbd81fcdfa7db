"""One's own jobs that wait, run or have ended: place, wait, progress; cancel, pause, reorder, retry."""

from calotype.web.forms import Door, add_element

NAME = "queue"
TITLE = "Queue"


def add(door: Door) -> None:
    add_element("ct-queue")
