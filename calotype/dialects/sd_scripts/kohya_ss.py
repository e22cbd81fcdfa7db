"""The settings that kohya_ss' form saves as JSON, as options of sd-scripts."""

import shlex
from collections.abc import Mapping
from typing import Any

from calotype.dialects.sd_scripts.words import check_kind, parse_arguments
from calotype.errors import CalotypeError, Message

NAMES = {  # of the form, if they differ from sd-scripts'
    "max_resolution": "resolution",
    "optimizer": "optimizer_type",
    "lora_network_weights": "network_weights",
    "sdxl_cache_text_encoder_outputs": "cache_text_encoder_outputs",
    "sdxl_no_half_vae": "no_half_vae",
}
ALGORITHMS = {
    "Standard": "",
    "Kohya LoCon": "",
    "LyCORIS/LoCon": "locon",
    "LyCORIS/LoHa": "loha",
    "LyCORIS/LoKr": "lokr",
}
DROPOUTS = ("rank_dropout", "module_dropout")


def is_form(data: Mapping[str, Any]) -> bool:
    return "LoRA_type" in data or ("train_data_dir" in data and "max_resolution" in data)


def options_of_form(data: Mapping[str, Any], known: frozenset[str], where: str) -> tuple[dict[str, Any], list[Message]]:
    """Options with sd-scripts' names, and notes about fields that have no effect.

    Args:
        known: names of options that are translated further; others are named in a note if they are set.

    Raises:
        CalotypeError: a kind of LoRA that is not supported, or additional parameters that are not options.
    """
    form = {name: value for name, value in data.items() if value not in ("", None, [])}
    options = _of_network(form, where)
    if steps := int(float(form.pop("max_train_steps", 0) or 0)):
        options["max_train_steps"] = steps
        form.pop("epoch", None), form.pop("max_train_epochs", None)
    elif epochs := int(float(form.pop("max_train_epochs", 0) or form.pop("epoch", 0) or 0)):
        options["max_train_epochs"] = epochs
    form.pop("epoch", None)
    if (percent := float(form.pop("lr_warmup", 0) or 0)) and not form.get("lr_warmup_steps"):
        options["lr_warmup_steps"] = percent / 100  # of all steps
    form = {name: value for name, value in form.items() if not (name == "lr_warmup_steps" and not value)}
    notes = []
    if float(form.pop("stop_text_encoder_training", 0) or 0):
        notes.append(Message("stop_text_encoder_training of the form is a percentage, and is not followed"))
    _add_rates(form, options)
    extra = form.pop("additional_parameters", "")
    ignored = []
    for name, value in form.items():
        name = NAMES.get(name, name)
        if name in known:
            options.setdefault(name, value)
        elif value not in (False, 0, "0", "None", "none", "Constant"):
            ignored.append(name)
    if ignored:
        notes.append(Message("fields of the form that are not followed: {names}", names=", ".join(sorted(ignored))))
    try:
        words = shlex.split(str(extra))
    except ValueError as fault:
        raise CalotypeError("{where}: additional_parameters: {fault}", where=where, fault=fault) from None
    return options | parse_arguments(words, where), notes


def _of_network(form: dict[str, Any], where: str) -> dict[str, Any]:
    """The network module and its arguments by the form's kind of LoRA; takes its fields out of the form."""
    kind = str(form.pop("LoRA_type", "Standard"))
    check_kind(where, kind, tuple(ALGORITHMS))
    fields = {name: form.pop(name, 0) for name in ("conv_dim", "conv_alpha", "factor", *DROPOUTS)}
    arguments = [f"{name}={fields[name]}" for name in DROPOUTS if float(fields[name] or 0)]
    if kind != "Standard":
        arguments += [f"{name}={fields[name]}" for name in ("conv_dim", "conv_alpha") if float(fields[name] or 0)]
    if kind == "LyCORIS/LoKr":
        arguments.append(f"factor={fields['factor'] or -1}")
    if algorithm := ALGORITHMS[kind]:
        arguments.append(f"algo={algorithm}")
    options: dict[str, Any] = {"network_module": "lycoris.kohya" if algorithm else "networks.lora"}
    return options | ({"network_args": arguments} if arguments else {})


def _add_rates(form: dict[str, Any], options: dict[str, Any]) -> None:
    """The form trains only one network if the other's learning rate is 0."""
    unet, text = (float(form.get(name, 0) or 0) for name in ("unet_lr", "text_encoder_lr"))
    if unet and not text:
        options["network_train_unet_only"] = True
    if text and not unet:
        options["network_train_text_encoder_only"] = True
    for name, rate in (("unet_lr", unet), ("text_encoder_lr", text)):
        if name in form and not rate:
            del form[name]
