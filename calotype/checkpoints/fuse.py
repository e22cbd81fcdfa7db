"""LoRAs fused into a checkpoint, which is saved in its own layout: one file or a diffusers folder."""

import errno
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from calotype.checkpoints.hashes import INDEX, SHARDS, weights_in
from calotype.checkpoints.header import metadata_of
from calotype.checkpoints.layouts import VAE, detect_layout
from calotype.checkpoints.lora import Adapter, fuse
from calotype.checkpoints.open_diffusion import open_diffusion
from calotype.checkpoints.single_file import build_model
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import Checkpoint, verified_hash
from calotype.files import atomic_folder, atomic_path

_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".onnx", ".pb", ".h5", ".gguf", ".index.json")


def save_fused(
    checkpoint: Checkpoint, weighed: Sequence[tuple[Adapter, float]], out: Path, dtype: torch.dtype | None = None
) -> list[str]:
    """Saves the checkpoint with the LoRAs fused into its weights; the VAE is unchanged.

    Args:
        out: a .safetensors file for a checkpoint in one file, a new folder for a diffusers folder.
        dtype: of U-Net and text encoders; None leaves it unchanged.

    Returns:
        Names of the LoRA modules that match no module of the model.

    Raises:
        CalotypeError: the LoRAs are for another base model, the checkpoint is unreadable, or the disk is full.
    """
    adapters = [(adapter, weight, weight) for adapter, weight in weighed]
    merged_from = ", ".join(f"{adapter.name}:{weight:g}" for adapter, weight in weighed)
    if checkpoint.path.name == INDEX:
        return _fuse_folder(checkpoint, adapters, out, dtype, merged_from)
    return _fuse_file(checkpoint, adapters, out, dtype, merged_from)


def _fuse_file(
    checkpoint: Checkpoint, adapters: Sequence, out: Path, dtype: torch.dtype | None, merged_from: str
) -> list[str]:
    """The networks share storage with the tensors of `state`, so fusing into the networks changes `state` in place."""
    sha256, state = verified_hash(checkpoint), read_state(checkpoint.path, is_checked=False)
    if dtype is not None:
        state = {key: value if key.startswith(VAE) else _cast(value, dtype) for key, value in state.items()}
    layout = detect_layout({key: tuple(value.shape) for key, value in state.items()}, checkpoint.path)
    model = build_model(state, layout, checkpoint.path, checkpoint.name, sha256)
    encoders = [text_layout.encoder for text_layout in model.text]
    changed, unfit = fuse(adapters, model.unet, encoders, model.name)
    for text_layout, encoder in zip(layout.text, encoders, strict=True):
        key = f"{text_layout.prefix}text_projection"
        if text_layout.is_open and key in state:  # stored transposed in the file, so the network has a copy
            state[key] = encoder.text_projection.weight.T.contiguous()
            changed.discard(encoder.text_projection.weight)
    storages = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    assert all(parameter.untyped_storage().data_ptr() in storages for parameter in changed), "a change would be lost"
    save_state(out, state, {**_metadata(checkpoint.path), "modelspec.merged_from": f"{checkpoint.name}, {merged_from}"})
    return unfit


def _fuse_folder(
    checkpoint: Checkpoint, adapters: Sequence, out: Path, dtype: torch.dtype | None, merged_from: str
) -> list[str]:
    """Saves U-Net and text encoders, copies all other files; the folder appears when it is complete."""
    source, model = checkpoint.path.parent, open_diffusion(checkpoint)
    names = ["unet", *(name for name in ("text_encoder", "text_encoder_2") if name in weights_in(source))]
    networks: dict[str, nn.Module] = dict(zip(names, [model.unet, *(p.encoder for p in model.text)], strict=True))
    if dtype is not None:
        for parameter in [parameter for network in networks.values() for parameter in network.parameters()]:
            parameter.data = parameter.data.to(dtype)
    _, unfit = fuse(adapters, model.unet, [part.encoder for part in model.text], model.name)
    with atomic_folder(out) as folder:
        for path in sorted(source.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                ignored = _ignored if path.name in networks else None
                shutil.copytree(path, folder / path.name, ignore=ignored)
            elif path.is_file() and not path.name.endswith(_WEIGHTS):
                shutil.copyfile(path, folder / path.name)
        for name, network in networks.items():
            stored = weights_in(source)[name]
            stem = stored.name.partition(".")[0] if stored.name.endswith(SHARDS) else stored.stem
            target = folder / name / f"{stem}.safetensors"
            metadata = {"format": "pt", "merged_from": f"{checkpoint.name}, {merged_from}"}
            save_state(target, network.state_dict(), metadata)
    return unfit


def _ignored(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(_WEIGHTS)]


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _metadata(path: Path) -> dict[str, str]:
    return metadata_of(path) or {"format": "pt"}


def save_state(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Saves a .safetensors file of any size atomically, without a second copy in memory.

    Raises:
        CalotypeError: the disk is full, or the folder is not writable.
    """
    with atomic_path(path) as partial:
        try:
            save_file({key: value.contiguous() for key, value in state.items()}, partial, dict(metadata))
        except SafetensorError as fault:  # it has no errno attribute; the number is in the text
            number = str(fault).partition("os error ")[2].partition(")")[0]
            raise OSError(int(number) if number.isdigit() else errno.EIO, str(fault)) from None


def write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")
