"""The models at hand and those that can be fetched."""

from calotype.web.forms import Door, add_element

NAME = "models"
TITLE = "Models"


def add(door: Door) -> None:
    add_element("ct-models")
