"""Pictures from a prompt: the form, a picture to begin with and its mask, and what was generated."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from calotype.dialects.infotext import format_infotext
from calotype.dialects.readers import read_parameters
from calotype.errors import CalotypeError
from calotype.outputs.redraw import options_from_parameters
from calotype.web.forms import Door, Filling, Names, add_element, add_filler, add_form

NAME = "imagine"
TITLE = "Imagine"
COMMON = ("prompt", "size", "count")
BY_ELEMENTS = ("model", "strength", "outpaint")  # of the scripts: from the store as it is now, or with a picture


def add(door: Door) -> None:
    _ = door.texts
    with gr.Row(elem_classes="ct-split"):
        with gr.Column(scale=2, min_width=320):
            elements = ("ct-names", "ct-start")
            form = add_form(door, "imagine", COMMON, _("Imagine"), BY_ELEMENTS, elements)
            add_filler(door, form, partial(filling, door))
        with gr.Column(scale=3, min_width=320):
            add_element("ct-imagine")


def filling(door: Door, data: Any, names: Names) -> Filling:
    """Options of a job in `task`; or of any program's parameters, in `text`, or by A1111's names in `fields`.

    Raises CalotypeError if there are none.
    """
    data = data if isinstance(data, Mapping) else {}
    if isinstance(task := data.get("task"), Mapping):
        return Filling(task)
    parameters = read_parameters({"parameters": _infotext(data)})
    if parameters is None:
        raise CalotypeError("there are no generation parameters in this")
    options, notes = options_from_parameters(parameters, names)
    return Filling(options, [door.texts.wording.fill(note) for note in notes])


def _infotext(data: Mapping[str, Any]) -> str:
    if isinstance(text := data.get("text"), str) and text.strip():
        return text
    if not isinstance(fields := data.get("fields"), Mapping):
        return ""
    rest = {name: value for name, value in fields.items() if name not in ("Prompt", "Negative prompt", "Program")}
    return format_infotext(str(fields.get("Prompt", "")), str(fields.get("Negative prompt", "")), rest)
