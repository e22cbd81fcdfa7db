"""Training: photos with their captions, the options of a LoRA, and runs as they go; other kinds behind more."""

import dataclasses

import gradio as gr

from calotype.tasks.training import IgnoredOptions
from calotype.web.forms import Door, add_element, add_form

NAME = "train"
TITLE = "Train"
LORA = ("output_name", "model", "max_train_epochs", "sample_every_n_epochs")
SAMPLES = {"sample_every_n_epochs": 1}  # to be watched
HIDDEN = ("dry_run", *(spec.name for spec in dataclasses.fields(IgnoredOptions)))  # the plan has a button
COMMON = {  # of the other kinds
    "train_gan": ("output_name", "max_train_steps", "resolution", "demo"),
    "train_upscaler": ("output_name", "model", "minutes"),
    "train_restorer": ("output_name", "minutes", "aligned"),
    "train_repairer": ("output_name", "minutes"),
    "train_diffusion": ("output_name", "minutes", "resolution"),
}


def add(door: Door) -> None:
    _ = door.texts
    with gr.Row(elem_classes="ct-split"):
        with gr.Column(scale=3, min_width=320):
            add_element("ct-photos")
        with gr.Column(scale=2, min_width=300):
            plan = _("Show the plan")
            add_form(door, "train_lora", LORA, _("Train a LoRA"), HIDDEN, plan=plan, initial=SAMPLES)
            with gr.Accordion(_("Train something else"), open=False, elem_classes="ct-more"):
                gr.Markdown(_("With the same photos."))
                for kind, title in _titles(door).items():
                    with gr.Accordion(title, open=False, elem_classes="ct-more"):
                        add_form(door, kind, COMMON[kind], title, HIDDEN, plan=plan)
    add_element("ct-train")


def _titles(door: Door) -> dict[str, str]:
    _ = door.texts
    return {
        "train_gan": _("Train a GAN"),
        "train_upscaler": _("Train an upscaler"),
        "train_restorer": _("Train a face restorer"),
        "train_repairer": _("Train a finder of scratches"),
        "train_diffusion": _("Train a diffusion model"),
    }
