"""Training: photos with their captions, the options of a LoRA, and runs as they go; other kinds behind more."""

import dataclasses

import gradio as gr

from calotype.tasks.training import IgnoredOptions
from calotype.web.forms import Door, add_element, add_form

NAME = "train"
TITLE = "Train"
LORA = ("output_name", "model", "max_train_epochs", "dry_run")
IGNORED = tuple(spec.name for spec in dataclasses.fields(IgnoredOptions))
COMMON = {  # of the other kinds
    "train_gan": ("max_train_steps", "dry_run"),
    "train_upscaler": ("minutes", "dry_run"),
    "train_restorer": ("minutes", "dry_run"),
    "train_diffusion": ("minutes", "dry_run"),
}


def add(door: Door) -> None:
    _ = door.texts
    with gr.Row(elem_classes="ct-split"):
        with gr.Column(scale=3, min_width=320):
            add_element("ct-photos")
        with gr.Column(scale=2, min_width=300):
            add_form(door, "train_lora", LORA, _("Train a LoRA"), IGNORED)
            with gr.Accordion(_("Train something else"), open=False, elem_classes="ct-more"):
                gr.Markdown(_("With the same photos."))
                for kind, title in _titles(door).items():
                    with gr.Accordion(title, open=False, elem_classes="ct-more"):
                        add_form(door, kind, COMMON[kind], title)
    add_element("ct-train")


def _titles(door: Door) -> dict[str, str]:
    _ = door.texts
    return {
        "train_gan": _("Train a GAN"),
        "train_upscaler": _("Train an upscaler"),
        "train_restorer": _("Train a face restorer"),
        "train_diffusion": _("Train a diffusion model"),
    }
