"""Black and white photos get colours: strokes painted over them, or another photo."""

import gradio as gr

from calotype.web.forms import Door, add_element, add_form

NAME = "colour"
TITLE = "Colour"


def add(door: Door) -> None:
    _ = door.texts
    with gr.Row(elem_classes="ct-split"):
        with gr.Column(scale=3, min_width=320):
            add_element("ct-colour")
        with gr.Column(scale=1, min_width=280, elem_classes="ct-side"):
            add_form(door, "colour", (), _("Colour"))
