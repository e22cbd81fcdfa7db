"""Tools for LoRA files: merge, fuse into a checkpoint, resize, extract from a checkpoint, convert.

Same semantics as sd-scripts' merge_lora, svd_merge_lora, resize_lora and extract_lora_from_models.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype.checkpoints.fuse import save_fused, save_state, write_json
from calotype.checkpoints.lora import Adapter, read_folder
from calotype.checkpoints.lora import formats as forms
from calotype.checkpoints.lora import kohya_file as kohya
from calotype.checkpoints.lora.keys import Layers, check_layers, is_kohya, is_xl, layers_of
from calotype.checkpoints.lora.merge import MergedLayer, merged, resized
from calotype.checkpoints.lora.peft_config import DIFFUSERS, PEFT
from calotype.checkpoints.lora.svd import clamped, loss, spectrum
from calotype.checkpoints.models import Models
from calotype.checkpoints.open_diffusion import open_diffusion
from calotype.checkpoints.store import INDEX
from calotype.errors import CalotypeError, Message, listed
from calotype.files import atomic_folder
from calotype.models.diffusion import DiffusionCheckpoint
from calotype.tasks import ConvertLora, ExtractLora, LoraFileOutput, MergeLora, Note, Progress, ResizeLora, note
from calotype.training.lora.network import Ranks, text_layers, unet_layers
from calotype.training.run.resume import dtype_named

_BASE_VERSIONS = {"SD 1.x": "sd_v1", "SD 2.x": "sd_v2", "SDXL": "sdxl_base_v1-0"}
_FAMILIES = {"sd1": "SD 1.x", "sd2": "SD 2.x", "sdxl": "SDXL"}


@dataclass(frozen=True)
class Written:
    """The output file of a tool."""

    path: Path
    facts: Mapping[str, Any] = field(default_factory=dict)


def merge_lora(task: MergeLora, models: Models) -> Iterator[Progress | Note | Written]:
    """Yields progress and notes, and Written last.

    Raises:
        CalotypeError: LoRAs for different base models, or of a kind that cannot be merged; disk full.
    """
    weighed = [(read_lora(name, models), weight) for name, weight in task.weighed]
    if task.into:
        checkpoint = models.store.find(task.into, "diffusion")
        check_output(task, weighed, is_folder=checkpoint.path.name == INDEX, checkpoints=[checkpoint.path])
        unfit = save_fused(checkpoint, weighed, task.out, _requested_dtype(task))
        if unfit:
            yield note(
                "{count} modules have no place in {model}, first {module}",
                count=len(unfit),
                model=checkpoint.name,
                module=unfit[0],
            )
        yield Written(task.out, {"loras": len(weighed), "into": checkpoint.name, "unfit": len(unfit)})
        return
    check_output(task, weighed)
    weighed = [(adapter, weight) for adapter, weight in weighed if weight]
    if not weighed:
        raise CalotypeError("every weight is 0, so the result would be empty; give one that is not")
    first, layers = weighed[0][0], []
    for layer in merged(weighed, task.rank, task.conv_rank):
        layers.append(layer)
        yield Progress(len(layers), max(len(layers), len(first.modules)), "layers")
    dtype = _save_dtype(task, [adapter for adapter, _ in weighed])
    state = forms.to_kohya(_cast(layers, dtype), is_xl(first), " and ".join(adapter.name for adapter, _ in weighed))
    for adapter, _ in weighed:
        state |= adapter.bundled
    merged_from = ", ".join(f"{adapter.name}:{weight:g}" for adapter, weight in weighed)
    kohya.write(
        task.out,
        state,
        {**_minimum_metadata(first, layers), **_tag_metadata(weighed), "ss_training_comment": f"merged: {merged_from}"},
    )
    yield from _report(task.out, layers, was_cut=task.rank is not None)


def resize_lora(task: ResizeLora, models: Models) -> Iterator[Progress | Note | Written]:
    """As `merge_lora`. The file keeps its key names, kohya's or diffusers', and its other metadata."""
    adapter = read_lora(task.lora, models)
    check_output(task, [(adapter, 1.0)])
    old_rank = max((own["down"].shape[0] for own in adapter.modules.values() if "down" in own), default=0)
    layers = []
    for layer in resized(adapter, task.rank, task.conv_rank, task.rule):
        layers.append(layer)
        yield Progress(len(layers), len(adapter.modules), "layers")
    change = f"with {task.dynamic}" if task.rule else f"to {task.rank}"
    change += f" (conv: {task.conv_rank})" if task.conv_rank else ""
    metadata = {key: value for key, value in adapter.metadata.items() if key != DIFFUSERS}
    metadata |= _rank_metadata(layers)
    comment = metadata.get("ss_training_comment", "")
    metadata["ss_training_comment"] = f"rank changed from {old_rank} {change}; {comment}".rstrip("; ")
    _write(task.out, _cast(layers, _save_dtype(task, [adapter])), adapter, metadata, in_kohyas=is_kohya(adapter))
    yield from _report(task.out, layers, was_cut=True)


def convert_lora(task: ConvertLora, models: Models) -> Iterator[Progress | Note | Written]:
    """As `merge_lora`. The weights are unchanged bit for bit, unless another dtype is requested."""
    adapter = read_lora(task.lora, models)
    check_output(task, [(adapter, 1.0)], is_folder=task.to == "peft")
    if adapter.unknown:
        raise CalotypeError(
            "{adapter} has {count} tensors that belong to no kind of LoRA that Calotype knows, such as {first}; it can "
            "only be used in its own format",
            adapter=adapter.name,
            count=len(adapter.unknown),
            first=adapter.unknown[0][:80],
        )
    if adapter.embeddings and task.to != "kohya":
        yield note(
            "{to} files have no place for the learned words {words}, which are left out",
            to=task.to,
            words=listed(word.name for word in adapter.embeddings),
        )
    layers = layers_of(adapter)
    if dtype := _requested_dtype(task):
        layers = _cast([MergedLayer(name, dict(own)) for name, own in layers.items()], dtype)
    metadata = {key: value for key, value in adapter.metadata.items() if key not in (DIFFUSERS, "format")}
    if task.to == "peft":
        parts = forms.to_peft(layers, adapter.name)
        with atomic_folder(task.out) as folder:
            for part, (state, settings) in parts.items():
                (folder / part).mkdir()
                save_state(folder / part / f"{PEFT}.safetensors", state, {**metadata, "format": "pt"})
                write_json(folder / part / "adapter_config.json", settings)
    else:
        _write(task.out, layers, adapter, metadata, in_kohyas=task.to == "kohya")
    yield Written(task.out, {"layers": len(layers), "to": task.to})


@torch.inference_mode()
def extract_lora(task: ExtractLora, models: Models) -> Iterator[Progress | Note | Written]:
    """SVD of the difference of two checkpoints: U-Net, and text encoders if they differ.

    Raises:
        CalotypeError: checkpoints of different kinds, or without differences; disk full.
    """
    checkpoints = [models.store.find(name, "diffusion") for name in (task.tuned, task.base)]
    check_output(task, [], checkpoints=[checkpoint.path for checkpoint in checkpoints])
    tuned, base = (open_diffusion(checkpoint) for checkpoint in checkpoints)
    pairs = list(layer_pairs(task, tuned, base))
    layers, unchanged = [], 0
    for n, (name, after, before, rank) in enumerate(pairs, 1):
        layer = _extract_layer(name, after, before, rank, task.clamp_quantile)
        layers += [layer] if layer else []
        unchanged += layer is None
        yield Progress(n, len(pairs), "layers")
    if not layers:
        raise CalotypeError(
            "{tuned} and {base} do not differ where a LoRA would hold it; give two others, or {option:conv_rank}",
            tuned=task.tuned,
            base=task.base,
        )
    if unchanged:
        yield note("{count} layers are equal in both, and are omitted", count=unchanged)
    if not any(part != "unet" for (part, _), *_ in pairs):
        yield note("the text encoders differ by less than {min_diff:g}, and are omitted", min_diff=task.min_diff)
    dtype = _requested_dtype(task) or next(tuned.unet.parameters()).dtype
    base_name = _FAMILIES.get(tuned.family, "")
    metadata = {
        "ss_v2": tuned.family == "sd2",
        "ss_base_model_version": _BASE_VERSIONS.get(base_name, tuned.family),
        "ss_network_module": "networks.lora",
        "ss_network_dim": task.rank,
        "ss_network_alpha": float(task.rank),
        "ss_network_args": {"conv_dim": task.conv_rank, "conv_alpha": task.conv_rank} if task.conv_rank else {},
        "ss_training_comment": f"extracted from {tuned.name}, less {base.name}",
    }
    is_xl = base_name == "SDXL" or len(tuned.text) > 1
    kohya.write(task.out, forms.to_kohya(_cast(layers, dtype), is_xl, task.tuned), metadata)
    yield from _report(task.out, layers, was_cut=True)


def read_lora(name: str, models: Models) -> Adapter:
    """Loads a LoRA by name or path, or a folder of peft. Refuses layers that can't be attached."""
    path = Path(name).expanduser()
    adapter = read_folder(path) if path.is_dir() else models.adapter(name)
    check_layers(adapter)
    return adapter


def check_output(
    task: LoraFileOutput,
    weighed: Sequence[tuple[Adapter, float]],
    is_folder: bool = False,
    checkpoints: Sequence[Path] = (),
) -> None:
    """Raises CalotypeError if the output would overwrite an existing file or an input."""
    sources = [*(adapter.path for adapter, _ in weighed if adapter.path), *checkpoints]
    if task.out.exists() and any(task.out.samefile(original) for path in sources for original in (path, path.parent)):
        raise CalotypeError(
            "{out} is an input, and inputs are never overwritten; give another {option:out}",
            out=task.out,
        )
    if is_folder:
        if task.out.suffix == ".safetensors" or task.out.exists():
            raise CalotypeError("{out} cannot be the output folder; give {option:out} with a free name", out=task.out)
        return
    if task.out.suffix.lower() != ".safetensors":
        raise CalotypeError(
            "{out} is not a name for the result, which is a .safetensors file; give another {option:out}", out=task.out
        )
    if task.out.exists() and not task.overwrite:
        raise CalotypeError("{out} already exists; give {option:overwrite}, or another {option:out}", out=task.out)


def layer_pairs(
    task: ExtractLora, tuned: DiffusionCheckpoint, base: DiffusionCheckpoint
) -> Iterator[tuple[tuple[str, str], Tensor, Tensor, int]]:
    """Name, tuned and base weight, and rank of the layers of a LoRA. Raises CalotypeError if architectures differ."""
    ranks = Ranks(task.rank, task.rank, task.conv_rank, task.conv_rank)
    networks = [(f"text_encoder{'_2' * n}", part.encoder) for n, part in enumerate(tuned.text)]
    base_encoders: dict[str, nn.Module] = {f"text_encoder{'_2' * n}": part.encoder for n, part in enumerate(base.text)}
    text = [
        pair
        for part, network in networks
        for pair in _network_pairs(task, part, text_layers(network, ranks), base_encoders.get(part))
    ]
    if any(_max_difference(after, before) > task.min_diff for _, after, before, _ in text):
        yield from text
    yield from _network_pairs(task, "unet", unet_layers(tuned.unet, ranks), base.unet)


def _network_pairs(
    task: ExtractLora, part: str, layers: Iterator[tuple[str, nn.Module, int, float]], base_network: nn.Module | None
) -> Iterator[tuple[tuple[str, str], Tensor, Tensor, int]]:
    weights = dict(base_network.named_parameters()) if base_network is not None else {}
    for name, layer, rank, _ in layers:
        before = weights.get(f"{name}.weight")
        if before is None or before.shape != layer.weight.shape:
            raise CalotypeError(
                "{tuned} and {base} are of different kinds: {part} {name} does not fit; give the checkpoint that "
                "the tuned one was trained from",
                tuned=task.tuned,
                base=task.base,
                part=part,
                name=name,
            )
        yield (part, name.replace(".", "_")), layer.weight, before, min(rank, *before.shape[:2])


def _max_difference(after: Tensor, before: Tensor) -> float:
    return float((after.float() - before.float()).abs().max())


def _extract_layer(
    name: tuple[str, str], after: Tensor, before: Tensor, rank: int, quantile: float
) -> MergedLayer | None:
    """None if the weights are equal."""
    matrix = (after.float() - before.float()).flatten(1)
    if not matrix.any():
        return None
    down, up = clamped(spectrum(matrix), rank, quantile)
    tensors = {
        "down": down.reshape(rank, *after.shape[1:]),
        "up": up.reshape(len(up), rank, *[1] * (after.dim() - 2)),
        "alpha": torch.tensor(float(rank)),
    }
    return MergedLayer(name, tensors, float(matrix.double().square().sum()), loss(matrix, down, up))


def _requested_dtype(task: LoraFileOutput) -> torch.dtype | None:
    return None if task.save_precision == "source" else dtype_named(task.save_precision)


def _save_dtype(task: LoraFileOutput, adapters: Sequence[Adapter]) -> torch.dtype:
    """The requested dtype, or the most precise one of the sources."""
    if dtype := _requested_dtype(task):
        return dtype
    dtypes = {
        tensor.dtype
        for adapter in adapters
        for tensors in adapter.modules.values()
        for role, tensor in tensors.items()
        if role not in ("alpha", "scale") and tensor.is_floating_point()
    }
    return reduce(torch.promote_types, dtypes)


def _cast(layers: Sequence[MergedLayer], dtype: torch.dtype) -> dict[tuple[str, str], dict[str, Tensor]]:
    tensors_by_layer = {}
    for layer in layers:
        tensors_by_layer[layer.name] = {role: _cast_tensor(dtype, role, value) for role, value in layer.tensors.items()}
    return tensors_by_layer


def _cast_tensor(dtype: torch.dtype, role: str, value: Tensor) -> Tensor:
    """Casts a tensor; alpha and scale stay exact, as rounding them would change the strength of a whole layer."""
    if role == "alpha":
        return forms.alpha_in(dtype, float(value))
    if role == "scale":
        return value
    return value.to(dtype).contiguous() if value.is_floating_point() else value


def _write(out: Path, layers: Layers, adapter: Adapter, metadata: Mapping[str, Any], in_kohyas: bool) -> None:
    if in_kohyas:
        kohya.write(out, forms.to_kohya(layers, is_xl(adapter), adapter.name) | adapter.bundled, metadata)
        return
    state, settings = forms.to_diffusers(layers, adapter.name)
    kohya.write(out, state, {**metadata, DIFFUSERS: json.dumps(settings, sort_keys=True), "format": "pt"})


def _minimum_metadata(first: Adapter, layers: Sequence[MergedLayer]) -> dict[str, Any]:
    """The minimum metadata of sd-scripts."""
    version = first.metadata.get("ss_base_model_version") or _BASE_VERSIONS.get(first.base, "")
    return {
        "ss_v2": first.base == "SD 2.x",
        "ss_base_model_version": version,
        "ss_network_module": "networks.lora",
        "ss_network_args": {},
        **_rank_metadata(layers),
    }


def _rank_metadata(layers: Sequence[MergedLayer]) -> dict[str, str]:
    """Rank and alpha if equal in all layers, otherwise sd-scripts' "Dynamic"."""
    ranks = {layer.rank for layer in layers if layer.rank}
    alphas = {float(layer.tensors.get("alpha", layer.rank)) for layer in layers if layer.rank}
    return {
        "ss_network_dim": str(ranks.pop()) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": str(alphas.pop()) if len(alphas) == 1 else "Dynamic",
    }


def _tag_metadata(weighed: Sequence[tuple[Adapter, float]]) -> dict[str, Any]:
    """The tag counts of the sources, so that the new file still has its trigger words."""
    tags: dict[str, Any] = {}
    for adapter, _ in weighed:
        tags |= tag_counts(adapter.metadata)
    return {"ss_tag_frequency": tags} if tags else {}


def tag_counts(metadata: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """ss_tag_frequency: tag counts by folder. Empty if missing or damaged."""
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "{}"))
        return {
            str(folder): {str(tag).strip(): int(count) for tag, count in tags.items()}
            for folder, tags in folders.items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return {}


def _report(out: Path, layers: Sequence[MergedLayer], was_cut: bool) -> Iterator[Note | Written]:
    """Yields a note on the energy kept, and Written with the numbers."""
    ranks = [layer.rank for layer in layers if layer.rank]
    facts: dict[str, Any] = {"layers": len(layers), "least_rank": min(ranks, default=0), "rank": max(ranks, default=0)}
    energy = sum(layer.energy for layer in layers)
    if was_cut and energy:
        energy_kept = 1 - sum(layer.lost for layer in layers) / energy
        worst = max((layer for layer in layers if layer.energy), key=lambda layer: layer.lost / layer.energy)
        min_energy_kept = 1 - worst.lost / worst.energy
        rank_range = Message("{rank}", rank=facts["rank"])
        if facts["least_rank"] != facts["rank"]:
            rank_range = Message("{lowest} to {highest}", lowest=facts["least_rank"], highest=facts["rank"])
        yield note(
            "{kept:.2%} of the energy kept in {count} layers of rank {ranks}; minimum {least:.1%}, in {layer}",
            kept=energy_kept,
            count=len(ranks),
            ranks=rank_range,
            least=min_energy_kept,
            layer=" ".join(worst.name),
        )
        facts |= {"kept": round(energy_kept, 6), "least_kept": round(min_energy_kept, 6)}
    yield Written(out, facts)
