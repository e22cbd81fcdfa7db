"""Old photos: drop them, choose faces and options, compare, download."""

import gradio as gr

from calotype.web.forms import Door, add_element, add_form

NAME = "restore"
TITLE = "Restore"
COMMON = ("scale", "face_model", "speed")
BY_PHOTO = ("faces", "strength", "aligned")  # set at each photo


def add(door: Door) -> None:
    _ = door.texts
    with gr.Row(elem_classes="ct-split"):
        with gr.Column(scale=3, min_width=320):
            add_element("ct-restore")
        with gr.Column(scale=1, min_width=280, elem_classes="ct-side"):
            add_form(door, "restore", COMMON, _("Restore"), BY_PHOTO, plan=_("Show the plan"))
