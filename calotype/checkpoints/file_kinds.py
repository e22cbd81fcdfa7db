"""What a file of weights is, by the names and shapes of its tensors, and which option takes it.

One table for every refusal: a LoRA given as a checkpoint, a ControlNet given as a VAE, a model of another family.
Nothing is loaded here.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError, Message

Shapes = Mapping[str, tuple[int, ...]]

NOT_USED = Message("no task of Calotype uses such a file yet")
SUPPORTED_FAMILIES = Message("Calotype draws with models of SD 1.x, SD 2.x and SDXL")

FAMILIES = (  # name, and a pattern of its module names, with "_" for "."; the first that fits
    ("FLUX.2", r"single_stream_modulation|double_stream_modulation"),
    ("Chroma", r"distilled_guidance_layer"),
    ("HunyuanVideo", r"individual_token_refiner|blocks_\d+_(img_mlp_fc1|img_mod_linear|modulation_linear)"),
    ("Flux", r"(^|_)double_blocks_\d+_|(^|_)single_blocks_\d+_linear|single_transformer_blocks_\d+_"),
    ("Qwen-Image", r"transformer_blocks_\d+_(img|txt)_(mod|mlp)_|txt_norm_weight"),
    ("Stable Diffusion 3", r"joint_blocks_\d+_|transformer_blocks_\d+_(attn_add_[qkv]_proj|ff_context_)"),
    ("HiDream", r"(double|single)_stream_blocks_\d+_"),
    ("AuraFlow", r"double_layers_\d+_attn|(^|_)single_transformer_layers_"),
    ("Sana", r"blocks_\d+_(mlp_inverted_conv|ff_conv_inverted)|attention_y_norm|caption_norm"),
    ("PixArt", r"adaln_single|caption_projection_(y_proj|linear_1)|(^|_)blocks_\d+_cross_attn_kv_linear"),
    ("Hunyuan-DiT", r"mlp_t5_|(^|_)blocks_\d+_(default_modulation|skip_linear)"),
    ("LTX-Video", r"patchify_proj|(^|_)transformer_blocks_\d+_audio_"),
    ("CogVideoX", r"(^|_)transformer_blocks_\d+_norm1_linear"),
    ("Mochi", r"(^|_)blocks_\d+_attn_(qkv_x|qkv_y|proj_y)"),
    ("Cosmos", r"(^|_)blocks_\d+_((self|cross)_attn_(q|k|v|output)_proj|adaln_modulation)|blocks_block\d+_"),
    ("Wan", r"(^|_)blocks_\d+_((self|cross)_attn_[qkvo](_|$)|ffn_)|head_modulation|(^|_)vace_blocks_"),
    ("Z-Image or Lumina 2", r"(^|_)(layers|(noise|context)_refiner)_\d+_(attention|feed_forward|adaLN_modulation)_"),
    ("Stable Cascade", r"clip_txt_(pooled_)?mapper|lora_prior_unet|effnet_mapper|blocks_\d+_\d+_channelwise"),
    ("Kandinsky", r"add_embedding_(image_norm|image_proj)|encoder_hid_proj_image_embeds"),
    ("Kolors", r"^encoder_hid_proj_(weight|bias)$|diffusion_model_encoder_hid_proj_"),
    ("DeepFloyd IF", r"add_embedding_(pool|norm1)|encoding_proj"),
    ("Stable Video Diffusion", r"time_stack_|temporal_transformer_blocks_"),
    ("T5 text encoder", r"lora_te3_|text_encoders_t5xxl_|encoder_block_\d+_layer_\d_"),
)  # fmt: skip
_FAMILIES = tuple((name, re.compile(pattern)) for name, pattern in FAMILIES)
_LORA = re.compile(
    r"\.(lora_(down|up|A|B|mid)(\.\w+)?\.weight|lora\.(down|up)\.weight|lora_linear_layer\.(down|up)\.weight"
    r"|hada_w1_a|lokr_w[12](_a)?|lora_magnitude_vector(\.\w+)*|oft_blocks|on_input|a1\.weight|w_norm|diff|diff_b"
    r"|(ia3_l|oft_R|boft_R)(\.\w+)?)$|\.processor\.to_\w+_lora\.(down|up)\.weight$"
)
BUNDLED = "bundle_emb."  # key prefix of textual inversion embeddings in a LoRA, then the word
_VAE_PREFIXES = ("", "first_stage_model.", "vae.")
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.model.", "model.", "net.", "transformer.", "module.")


@dataclass(frozen=True)
class FileKind:
    """A kind of file: what it is called, where it is used, and as what in the model store."""

    noun: Message
    use: Message = NOT_USED
    purpose: str = ""  # a key of the store's KINDS; empty if no task uses such a file


@dataclass(frozen=True)
class _Names:
    """The tensors of a file without a prefix that all of a network may have."""

    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, shapes: Shapes) -> "_Names":
        stripped = {}
        for key, shape in shapes.items():
            prefix = next((prefix for prefix in PREFIXES if key.startswith(prefix)), "")
            stripped[key.removeprefix(prefix)] = shape
        return cls({**stripped, **shapes})

    def has(self, *keys: str) -> bool:
        return all(key in self.shapes for key in keys)

    def begins(self, *prefixes: str) -> bool:
        return any(key.startswith(prefixes) for key in self.shapes)

    def contains(self, part: str) -> bool:
        return any(part in key for key in self.shapes)

    def size(self, key: str, axis: int) -> int:
        shape = self.shapes.get(key, ())
        return shape[axis] if len(shape) > axis else 0


def family_of(keys: Iterable[str]) -> str:
    """The family of models, other than SD 1, SD 2 and SDXL, that has modules of these names; empty for none."""
    flat = [key.replace(".", "_") for key in keys]
    return next((name for name, pattern in _FAMILIES if any(pattern.search(key) for key in flat)), "")


def is_lora(shapes: Shapes) -> bool:
    """Whether at least half of the tensors that are not embeddings belong to an adapter of some kind."""
    keys = [key for key in shapes if not key.startswith(BUNDLED) and not key.endswith((".alpha", ".scale"))]
    return bool(keys) and 2 * sum(_LORA.search(key) is not None for key in keys) >= len(keys)


def kind_of_file(shapes: Shapes) -> FileKind | None:
    """What the tensors of a file are; None for an unknown kind."""
    if is_lora(shapes):
        family = family_of(shapes)
        if family:
            return FileKind(Message("a LoRA for {family}", family=family), SUPPORTED_FAMILIES)
        return _LORA_KIND
    names = _Names.of(shapes)
    for detects, kind in KINDS:
        if detects(names):
            return kind
    if family := family_of(shapes):
        return FileKind(Message("a model of the family {family}", family=family), SUPPORTED_FAMILIES)
    return _network(shapes)


def wrong_kind_error(path: Path, shapes: Shapes, expected: Message) -> CalotypeError:
    """The refusal of a file: what was expected, what it is, and which option takes it.

    Args:
        expected: what the file should be, such as "a VAE".
    """
    kind = kind_of_file(shapes)
    if kind is None:
        if not shapes:
            return CalotypeError("{path} is not {expected}: it has no tensors", path=path, expected=expected)
        return CalotypeError(
            "{path} is not {expected} that Calotype knows: it has {count} tensors, the first {first}",
            path=path,
            expected=expected,
            count=len(shapes),
            first=min(shapes)[:80],
        )
    return CalotypeError(
        "{path} is {kind}, not {expected}; {use}", path=path, kind=kind.noun, expected=expected, use=kind.use
    )


def _network(shapes: Shapes) -> FileKind | None:
    """Networks for enlarging and for faces, as spandrel tells them by their keys."""
    import torch
    from spandrel import MAIN_REGISTRY

    try:
        state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    except (RuntimeError, TypeError, ValueError):  # sizes that no tensor has
        return None
    for entry in MAIN_REGISTRY.architectures("detection"):
        try:
            is_so = entry.architecture.detect(state)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError):
            continue
        if is_so:
            name = entry.architecture.name
            if name == "LaMa":
                return _INPAINTING
            if name in ("GFPGAN", "RestoreFormer", "CodeFormer"):
                return FileKind(
                    Message("a network for faces ({name})", name=name), Message("{task:restore} takes it"), "faces"
                )
            return FileKind(
                Message("a network for enlarging pictures ({name})", name=name),
                Message("{task:upscale} takes it"),
                "upscale",
            )
    return None


def _is_controlnet(names: _Names) -> bool:
    return names.begins("control_model.") or names.has("input_hint_block.0.weight") or names.begins("zero_convs.0.")


def _is_vae(names: _Names) -> bool:
    return any(names.has(f"{prefix}decoder.conv_in.weight") for prefix in _VAE_PREFIXES)


def _has_wide_latents(names: _Names) -> bool:
    return _is_vae(names) and any(
        names.size(f"{prefix}decoder.conv_in.weight", 1) not in (0, 4) for prefix in _VAE_PREFIXES
    )


def _is_embedding(names: _Names) -> bool:
    shapes = names.shapes
    small = all(0 < len(shape) <= 2 and shape[-1] in WIDTHS for shape in shapes.values())
    return small and 1 <= len(shapes) <= 2 and not names.contains(".weight")


def _has(*keys: str) -> Callable[[_Names], bool]:
    return lambda names: names.has(*keys)


def _begins(*prefixes: str) -> Callable[[_Names], bool]:
    return lambda names: names.begins(*prefixes)


def _contains(*parts: str) -> Callable[[_Names], bool]:
    return lambda names: any(names.contains(part) for part in parts)


WIDTHS = (256, 768, 1024, 1280)  # hidden sizes of the text encoders that embeddings are trained for
_LORA_KIND = FileKind(
    Message("a LoRA"), Message("{task:imagine} takes it with {option:lora}, or as <lora:name:1> in the prompt"), "lora"
)
_INPAINTING = FileKind(
    Message("a network for filling holes (LaMa)"),
    Message("{task:restore} takes it with {option:inpaint_model}"),
    "inpaint",
)
_GAN = FileKind(Message("a GAN generator"), Message("{task:imagine} draws from it"), "diffusion")
_CONTROLNET, _T2I, _TAESD = (
    FileKind(Message("a ControlNet")),
    FileKind(Message("a T2I-Adapter")),
    FileKind(Message("a small VAE for previews (TAESD)")),
)
_QUANTISED = FileKind(
    Message("a model with quantised weights (SVDQuant, bitsandbytes or scaled float8)"),
    Message("give the file in float16 or bfloat16"),
)
_TEXT_ENCODER = FileKind(
    Message("a CLIP text encoder alone"), Message("no option takes it; a file with all parts of a model has its own")
)
_LANGUAGE_MODEL = FileKind(Message("a language model, the text encoder of newer families"), SUPPORTED_FAMILIES)
_EMBEDDING = FileKind(
    Message("an embedding (textual inversion)"),
    Message("add it to the models, and write its name in the prompt"),
    "embedding",
)
_CHECKPOINT = FileKind(
    Message("a Stable Diffusion checkpoint"), Message("{task:imagine} takes it with {option:model}"), "diffusion"
)
_UNET_ALONE = FileKind(
    Message("a U-Net alone, without text encoders and VAE"), Message("give the file that has all parts of the model")
)
_UNET_OF_DIFFUSERS = FileKind(
    Message("a U-Net alone, with the names of diffusers"),
    Message("give the diffusers folder that it belongs to, the one with model_index.json, or a file with all parts"),
)
_VAE = FileKind(Message("a VAE alone"), Message("{task:imagine} takes it with {option:vae}"), "vae")
_WIDE_VAE = FileKind(Message("a VAE of another family, such as Flux or Stable Diffusion 3"), SUPPORTED_FAMILIES)

KINDS: tuple[tuple[Callable[[_Names], bool], FileKind], ...] = (  # the first that fits
    (_begins("stages.0.0.join."), _GAN),
    (_has("lora_controlnet"), FileKind(Message("a Control-LoRA"))),
    (_contains("lllite"), FileKind(Message("a ControlNet-LLLite"))),
    (_has("control_add_embedding.linear_1.bias"), FileKind(Message("a ControlNet-Union"))),
    (_begins("controlnet_cond_embedding.", "controlnet_blocks."), _CONTROLNET),
    (_is_controlnet, _CONTROLNET),
    (_begins("ip_adapter.", "image_proj."), FileKind(Message("an IP-Adapter"))),
    (_contains("pulid_encoder."), FileKind(Message("a PuLID"))),
    (_has("body.0.in_conv.weight"), _T2I),
    (_has("conv_in.weight", "body.0.block2.weight"), _T2I),
    (_begins("adapter.body."), _T2I),
    (_contains("motion_modules.", "temporal_transformer."), FileKind(Message("a motion module of AnimateDiff"))),
    (_contains(".qweight", ".wscales", ".quant_state.", ".scale_weight", "scaled_fp8"), _QUANTISED),
    (_has("decoder.middle.0.residual.0.gamma"), FileKind(Message("a VAE of Wan or Qwen-Image"), SUPPORTED_FAMILIES)),
    (_begins("model.diffusion_model.input_blocks.", "model_ema.diffusion_model"), _CHECKPOINT),
    (_has("input_blocks.0.0.weight"), _UNET_ALONE),
    (lambda names: names.begins("down_blocks.0.") and names.has("conv_in.weight"), _UNET_OF_DIFFUSERS),
    (_has_wide_latents, _WIDE_VAE),
    (_is_vae, _VAE),
    (_has("decoder.layers.0.weight"), _TAESD),
    (_has("1.weight", "3.conv.0.weight"), _TAESD),
    (_contains("encoder.block.0.layer.0.SelfAttention."), FileKind(Message("a T5 text encoder"), SUPPORTED_FAMILIES)),
    (_has("layers.0.self_attn.q_proj.weight", "embed_tokens.weight"), _LANGUAGE_MODEL),
    (_begins("vision_model.", "visual."), FileKind(Message("a CLIP image encoder"))),
    (_begins("text_model.encoder.", "transformer.resblocks.", "encoder.layers.0.self_attn."), _TEXT_ENCODER),
    (_is_embedding, _EMBEDDING),
)
