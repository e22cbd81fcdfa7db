"""Detects the architecture of a single-file Stable Diffusion checkpoint by keys and shapes, and gives its configs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from calotype.checkpoints.file_kinds import wrong_kind_error
from calotype.checkpoints.unet_blocks import blocks_in, blocks_of, with_blocks
from calotype.errors import CalotypeError, Message
from calotype.models.clip_text import TextShape

UNET, VAE, EMA = "model.diffusion_model.", "first_stage_model.", "model_ema.diffusion_model"
_CROSS, _UP, _DOWN, _UPS = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D", "DownBlock2D", "UpBlock2D"

TRAINING = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
CLIP_L = TextShape()
OPENCLIP_H = TextShape(49408, 1024, 4096, 24, 16, 77, "gelu")
OPENCLIP_G = TextShape(49408, 1280, 5120, 32, 20, 77, "gelu", projection_dim=1280)


@dataclass(frozen=True)
class TextLayout:
    """One text encoder within a file."""

    prefix: str
    shape: TextShape
    is_open: bool = False  # keys and packed q, k, v as in OpenCLIP
    layer: int = 1
    is_normalised: bool = True
    pads_with_end: bool = True


@dataclass(frozen=True)
class Layout:
    """One kind of checkpoint file."""

    name: str
    family: str  # a key of samplers.PRESETS
    unet: Mapping[str, Any]
    text: tuple[TextLayout, ...]
    vae: Mapping[str, Any]
    native: int
    training: Mapping[str, Any] = field(default_factory=lambda: TRAINING)
    is_prediction_known: bool = True


def _unet(
    channels: tuple[int, ...], width: int, heads: Any, down: list[str], up: list[str], **more: Any
) -> dict[str, Any]:
    return {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": channels,
        "cross_attention_dim": width,
        "attention_head_dim": heads,
        "down_block_types": down,
        "up_block_types": up,
        "layers_per_block": 2,
        **more,
    }


def vae_config(scale: float = 0.18215, channels: tuple[int, ...] = (128, 256, 512, 512)) -> dict[str, Any]:
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": channels,
        "layers_per_block": 2,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "scaling_factor": scale,
    }


_FOUR = ([_CROSS] * 3 + [_DOWN], [_UPS] + [_UP] * 3)
_XL_TEXT = (
    TextLayout("conditioner.embedders.0.transformer.", CLIP_L, layer=2, is_normalised=False),
    TextLayout("conditioner.embedders.1.model.", OPENCLIP_G, True, 2, False, pads_with_end=False),
)
_SD1 = Layout(
    "sd1",
    "sd1",
    _unet((320, 640, 1280, 1280), 768, 8, *_FOUR),
    (TextLayout("cond_stage_model.transformer.", CLIP_L),),
    vae_config(),
    512,
)
_SD2 = Layout(
    "sd2",
    "sd2",
    _unet((320, 640, 1280, 1280), 1024, (5, 10, 20, 20), *_FOUR, use_linear_projection=True),
    (TextLayout("cond_stage_model.model.", OPENCLIP_H, True, 2, pads_with_end=False),),
    vae_config(),
    768,
    is_prediction_known=False,
)
_XL_MORE = {"use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256}
_SDXL = Layout(
    "sdxl",
    "sdxl",
    _unet(
        (320, 640, 1280),
        2048,
        (5, 10, 20),
        [_DOWN, _CROSS, _CROSS],
        [_UP, _UP, _UPS],
        transformer_layers_per_block=(1, 2, 10),
        projection_class_embeddings_input_dim=2816,
        **_XL_MORE,
    ),
    _XL_TEXT,
    vae_config(0.13025),
    1024,
)
_REFINER = Layout(
    "sdxl-refiner",
    "sdxl",
    _unet(
        (384, 768, 1536, 1536),
        1280,
        (6, 12, 24, 24),
        [_DOWN, _CROSS, _CROSS, _DOWN],
        [_UPS, _UP, _UP, _UPS],
        transformer_layers_per_block=4,
        projection_class_embeddings_input_dim=2560,
        **_XL_MORE,
    ),
    (TextLayout("conditioner.embedders.0.model.", OPENCLIP_G, True, 2, False, pads_with_end=False),),
    vae_config(0.13025),
    1024,
)
LAYOUTS = {layout.name: layout for layout in (_SD1, _SD2, _SDXL, _REFINER)}
_BY_WIDTH = {(320, 768): "sd1", (320, 1024): "sd2", (320, 2048): "sdxl", (384, 1280): "sdxl-refiner"}
_CHANNELS = {  # of the U-Net's input, and what such models are for
    7: Message(" (an upscaler of SD 2)"),
    8: Message(" (InstructPix2Pix, which edits pictures)"),
    5: Message(" (SD 2 with depth)"),
}
_QUANTISED = (".scale_weight", ".weight_scale", ".absmax", ".qweight")
_FIRST, _TO_K = UNET + "input_blocks.0.0.weight", "attn2.to_k.weight"


def detect_layout(shapes: Mapping[str, tuple[int, ...]], where: Path) -> Layout:
    """The layout of a checkpoint; its U-Net may have fewer blocks, and may be stored as its moving average alone.

    Raises:
        CalotypeError: none of the Stable Diffusion layouts; the message names what it is.
    """
    name_of = ema_name if is_ema_alone(shapes) else str
    first = shapes.get(name_of(_FIRST))
    beginning = name_of(UNET)
    end = name_of(UNET + _TO_K).removeprefix(beginning)
    attention = next((shape for key, shape in shapes.items() if key.startswith(beginning) and key.endswith(end)), None)
    is_whole = first and attention and len(first) == 4 and len(attention) == 2
    if not is_whole and any(key.startswith(f"{UNET}input_blocks.") for key in shapes):
        raise CalotypeError(
            "{where} is incomplete: it has no {name}; fetch or copy it again",
            where=where,
            name=_FIRST if not first else f"{UNET}...{_TO_K}",
        )
    if not is_whole or _is_quantised(shapes):
        raise wrong_kind_error(where, shapes, Message("a Stable Diffusion checkpoint"))
    name = _BY_WIDTH.get((first[0], attention[1]))
    if name is None:
        raise CalotypeError(
            "{where} is no Stable Diffusion checkpoint that Calotype knows: its U-Net has the widths {first} and "
            "{attention}, others than SD 1.x, 2.x and SDXL",
            where=where,
            first=first[0],
            attention=attention[1],
        )
    if first[1] not in (4, 9):
        raise CalotypeError(
            "{where} is a checkpoint whose U-Net takes {channels} channels{purpose}; Calotype takes 4, or 9 for "
            "inpainting",
            where=where,
            channels=first[1],
            purpose=_CHANNELS.get(first[1], Message("")),
        )
    layout = _with_fewer_blocks(LAYOUTS[name], shapes)
    if first[1] == 4:
        return layout
    inpainting = {**layout.unet, "in_channels": 9}
    return replace(layout, name=f"{layout.name}-inpaint", unet=inpainting)


def _with_fewer_blocks(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """The layout with the blocks of the file, where those are regular and not the usual ones."""
    blocks = blocks_of(shapes, UNET)
    if blocks is None or blocks == blocks_in(layout.unet):
        return layout
    unet = with_blocks(layout.unet, blocks)
    return layout if unet is None else replace(layout, name=f"{layout.name} with other blocks", unet=unet)


def is_ema_alone(keys: Iterable[str]) -> bool:
    """Whether the U-Net is stored as its exponential moving average alone."""
    keys = list(keys)
    return any(key.startswith(EMA) for key in keys) and not any(key.startswith(UNET) for key in keys)


def ema_name(name: str) -> str:
    """The name of a U-Net's tensor in the moving average, which has no dots: `model_ema.diffusion_modelout2bias`."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def _is_quantised(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return any(key.startswith(UNET) and key.endswith(_QUANTISED) for key in shapes)
