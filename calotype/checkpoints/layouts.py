"""Detects the architecture of a single-file Stable Diffusion checkpoint by keys and shapes, and gives its configs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, Message
from calotype.models.clip_text import TextShape

UNET, VAE = "model.diffusion_model.", "first_stage_model."
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
_FIRST, _TO_K = UNET + "input_blocks.0.0.weight", "attn2.to_k.weight"
_FLUX = Message("it seems to be {model}", model="Flux")
_SD3 = Message("it seems to be {model}", model="Stable Diffusion 3")
_LORA = Message("it seems to be a LoRA; call it in the prompt, <lora:name:1>, or with {option:lora}")
_UNSUPPORTED = (  # key prefix, and what the file is then
    ("double_blocks.0.", _FLUX),
    ("model.diffusion_model.double_blocks.0.", _FLUX),
    ("joint_blocks.0.", _SD3),
    ("model.diffusion_model.joint_blocks.0.", _SD3),
    ("control_model.", Message("it seems to be {model}", model="ControlNet")),
    ("stages.0.0.join.", Message("it seems to be a GAN generator; {task:imagine} draws from it")),
    ("lora_", _LORA),
    ("unet.up_blocks", _LORA),
)


def detect_layout(shapes: Mapping[str, tuple[int, ...]], where: Path) -> Layout:
    """The layout of a checkpoint.

    Raises:
        CalotypeError: none of the Stable Diffusion layouts; the message names what it seems to be.
    """
    first = shapes.get(_FIRST)
    attention = next((shape for key, shape in shapes.items() if key.startswith(UNET) and key.endswith(_TO_K)), None)
    name = (
        _BY_WIDTH.get((first[0], attention[1]))
        if first and attention and len(first) == 4 and len(attention) == 2
        else None
    )
    if name is None:
        raise CalotypeError(
            "{where} is no Stable Diffusion checkpoint that Calotype knows: {reason}",
            where=where,
            reason=_describe_unknown(shapes),
        )
    layout = LAYOUTS[name]
    if first[1] == 4:
        return layout
    if first[1] != 9:
        raise CalotypeError(
            "{where} is a checkpoint whose U-Net takes {channels} channels; Calotype takes 4, or 9 for inpainting",
            where=where,
            channels=first[1],
        )
    inpainting = {**layout.unet, "in_channels": 9}
    return Layout(**{**vars(layout), "name": f"{name}-inpaint", "unet": inpainting})


def _describe_unknown(shapes: Mapping[str, tuple[int, ...]]) -> Message:
    for prefix, reason in _UNSUPPORTED:
        if any(key.startswith(prefix) for key in shapes):
            return reason
    if any(key.removeprefix(VAE).startswith("decoder.") for key in shapes):
        return Message("it seems to be a VAE alone; give it with {option:vae}")
    if _FIRST in shapes:
        return Message("its U-Net has other widths than SD 1.x, 2.x and SDXL")
    if not shapes:
        return Message("it has 0 tensors, the first none")
    return Message("it has {count} tensors, the first {first}", count=len(shapes), first=min(shapes)[:80])
