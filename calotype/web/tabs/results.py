"""Results: search, favourites, public links, delete with undo, send to another tab, the record of each."""

from calotype.web.forms import Door, add_element

NAME = "gallery"
TITLE = "Gallery"


def add(door: Door) -> None:
    add_element("ct-gallery")
