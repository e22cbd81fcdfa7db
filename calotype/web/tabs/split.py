"""Scans that hold several photos: drop them, see what was found, cut the photos out, restore them."""

import gradio as gr

from calotype.web.forms import Door, add_element, add_form

NAME = "split"
TITLE = "Scans"
COMMON = ("upright", "cut_borders")
HIDDEN = ("dry_run",)  # what is found is told of each scan when it is dropped


def add(door: Door) -> None:
    _ = door.texts
    with gr.Row(elem_classes="ct-split"):
        with gr.Column(scale=3, min_width=320):
            add_element("ct-scans")
        with gr.Column(scale=1, min_width=280, elem_classes="ct-side"):
            add_form(door, "split", COMMON, _("Cut out photos"), HIDDEN)
