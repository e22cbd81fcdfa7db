"""Canonical layer names for all file formats: diffusers' with underscores, as in kohya's files for SD 1.x."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from torch import Tensor

from calotype.checkpoints.file_kinds import family_of
from calotype.checkpoints.key_maps import unet_names, with_prefix_renamed
from calotype.checkpoints.layouts import LAYOUTS
from calotype.checkpoints.lora.deltas import Damaged, check_alone, damaged_error
from calotype.checkpoints.lora.read import Adapter
from calotype.errors import CalotypeError

Tensors = Mapping[str, Tensor]  # of one layer, by role: down, up, alpha ...
Layers = Mapping[tuple[str, str], Tensors]  # by part and name

_PARTS = {"unet": "unet", "text_encoder": "te", "text_encoder_2": "te2"}
_WORDS = (  # names of modules, those with underscores first
    *(
        "down_blocks",
        "up_blocks",
        "mid_block",
        "transformer_blocks",
        "time_emb_proj",
        "time_embedding",
        "add_embedding",
    ),
    *("class_embedding", "linear_1", "linear_2", "to_q", "to_k", "to_v", "to_out", "proj_in", "proj_out", "conv_in"),
    *(
        "conv_out",
        "conv_norm_out",
        "conv_shortcut",
        "text_model",
        "self_attn",
        "q_proj",
        "k_proj",
        "v_proj",
        "out_proj",
    ),
    *("final_layer_norm", "layer_norm1", "layer_norm2", "text_projection", "token_embedding", "position_embedding"),
    *("attentions", "resnets", "downsamplers", "upsamplers", "conv1", "conv2", "conv", "norm1", "norm2", "norm3"),
    *("norm", "attn1", "attn2", "ff", "net", "proj", "embeddings", "encoder", "layers", "mlp", "fc1", "fc2"),
)
_WORD = re.compile(rf"({'|'.join(_WORDS)}|[0-9]+)(?:_|$)")
_BEGINNINGS = (
    *("down_blocks_", "up_blocks_", "mid_block_", "conv_in", "conv_out", "conv_norm_out", "time_embedding_"),
    *("add_embedding_", "class_embedding_", "text_model_", "text_projection"),
)
_ORIGINALS = ("input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "label_emb_", "out_0", "out_2")


def layers_of(adapter: Adapter) -> dict[tuple[str, str], Tensors]:
    """The tensors of a file by part and canonical layer name."""
    table = _table_of([name for part, name in adapter.modules if part == "unet"])
    return {(part, _diffusers_name(part, name, table)): tensors for (part, name), tensors in adapter.modules.items()}


def check_names(adapter: Adapter) -> None:
    """Raises CalotypeError if no layer of the file has a name that a Stable Diffusion model has."""
    if family := family_of(name for _, name in adapter.modules):
        raise CalotypeError(
            "the LoRA {adapter} was trained for {family}; Calotype draws with models of SD 1.x, SD 2.x and SDXL",
            adapter=adapter.name,
            family=family,
        )
    names = [name for _, name in layers_of(adapter)]
    unknown = [name for name in names if not is_known(name)]
    if len(unknown) == len(names):
        raise CalotypeError(
            "the LoRA {adapter} has names of layers that Calotype does not know, such as {name}: neither SD 1.x, 2.x "
            "nor SDXL has them; use it in the program that it was trained for",
            adapter=adapter.name,
            name=unknown[0][:80],
        )


def check_layers(adapter: Adapter) -> None:
    """What attaching a LoRA finds, without a model: in layers with names of Stable Diffusion's, no tensor is missing.

    Raises:
        CalotypeError: tensors are missing or do not match each other.
    """
    table = _table_of([name for part, name in adapter.modules if part == "unet"])
    for (part, name), tensors in adapter.modules.items():
        if is_known(_diffusers_name(part, name, table)):
            try:
                check_alone(tensors)
            except Damaged as fault:
                raise damaged_error(adapter.name, name, fault) from None


def is_xl(adapter: Adapter) -> bool:
    return adapter.base == "SDXL" or any(part == "text_encoder_2" for part, _ in adapter.modules)


def is_kohya(adapter: Adapter) -> bool:
    """Whether the file has kohya's names, which have no dots."""
    return all("." not in name for _, name in adapter.modules)


def kohya_prefix(part: str, name: str, xl: bool) -> str:
    """The prefix of kohya's keys: `lora_unet_...`, `lora_te_...`; for SDXL `lora_te1_`, and the original block names.

    sd-scripts trains SDXL with the original U-Net, SD 1.x and 2.x with that of diffusers.
    """
    if xl:
        name = with_prefix_renamed(name, _to_original(), "_") if part == "unet" else name
        return f"lora_{'te1' if part == 'text_encoder' else _PARTS[part]}_{name}"
    return f"lora_{_PARTS[part]}_{name}"


def module_path(name: str, where: str) -> str:
    """The module path: `mid_block_attentions_0_proj_in` -> `mid_block.attentions.0.proj_in`.

    Raises:
        CalotypeError: no module of Stable Diffusion has this name; `where` is the name of the file.
    """
    if not is_known(name):
        raise CalotypeError(
            "{where} has a layer {name}, which neither SD 1.x, 2.x nor SDXL has; such a file can only be used in its "
            "own format",
            where=where,
            name=name[:80],
        )
    return ".".join(_words(name))


def is_known(name: str) -> bool:
    """Whether a Stable Diffusion model may have a layer of this canonical name."""
    return name.startswith(_BEGINNINGS) and "" not in _words(name)


def _words(name: str) -> list[str]:
    """The words of a canonical name; an empty one for what is none."""
    words, position = [], 0
    while position < len(name):
        match = _WORD.match(name, position)
        if match is None:
            return [*words, ""]
        words.append(match[1])
        position = match.end()
    return words


def _diffusers_name(part: str, name: str, table: Mapping[str, str]) -> str:
    flat = name.replace(".", "_")
    if part == "unet":
        return with_prefix_renamed(flat, table, "_") if flat.startswith(_ORIGINALS) else flat
    return flat if flat.startswith(("text_model_", "text_projection")) else f"text_model_{flat}"


def _table_of(names: Sequence[str]) -> Mapping[str, str]:
    """The original block names of the U-Net that has most of these: how blocks are counted depends on its depth."""
    flat = [name for name in (name.replace(".", "_") for name in names) if name.startswith(_ORIGINALS)]
    return max(_tables(), key=lambda table: sum(with_prefix_renamed(name, table, "_") != name for name in flat))


@cache
def _tables() -> tuple[Mapping[str, str], ...]:
    """Original names -> diffusers', of SD 1.x and SDXL first, then of U-Nets with other numbers of blocks."""
    configs = [LAYOUTS["sdxl"].unet, LAYOUTS["sd1"].unet]
    for layers in (1, 2, 3):
        for levels in (3, 4, 5):
            sizes = {"layers_per_block": layers, "block_out_channels": (1,) * levels}
            configs.append({**sizes, "up_block_types": ["CrossAttnUpBlock2D"] * levels})
    tables = []
    for config in configs:
        names = unet_names(config)
        after = {ours: theirs for ours, theirs in names.items() if "upsamplers" in ours}  # at index 1 without attention
        both = [*names.items(), *((ours, theirs.replace(".2.conv", ".1.conv")) for ours, theirs in after.items())]
        tables.append({theirs: ours for ours, theirs in _with_underscores(both)})
    return tuple(tables)


@cache
def _to_original() -> dict[str, str]:
    return dict(_with_underscores(unet_names(LAYOUTS["sdxl"].unet).items()))


def _with_underscores(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return ((ours.replace(".", "_"), theirs.replace(".", "_")) for ours, theirs in pairs)
