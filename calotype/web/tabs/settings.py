"""One's own limits; for the owner of a service with accounts, these and invitations."""

from calotype.web.forms import Door, add_element

NAME = "settings"
TITLE = "Settings"


def add(door: Door) -> None:
    add_element("ct-settings")
