"""Describes a LoRA file: base model, ranks, training settings, hashes."""

from typing import Any

from calotype.checkpoints.lora.facts import facts_of, model_hash
from calotype.checkpoints.lora.kohya_file import hashes
from calotype.checkpoints.lora.read import Adapter
from calotype.checkpoints.state_dict import read_state


def describe(adapter: Adapter) -> dict[str, Any]:
    """Name, path, base model, ranks, settings, hashes; unknown values are empty."""
    facts = {"name": adapter.name, "path": str(adapter.path), **facts_of(adapter)}
    if adapter.path.is_dir():
        return facts
    size = adapter.path.stat().st_size
    facts |= {"size": size, "sha256": adapter.sha256, "autov2": adapter.sha256[:10]}
    facts["sshs_model_hash"] = model_hash(adapter.path)
    facts["sshs_legacy_hash"] = hashes(read_state(adapter.path), adapter.metadata)["sshs_legacy_hash"]
    written = adapter.metadata.get("sshs_model_hash", "")
    changed = bool(written) and written != facts["sshs_model_hash"]
    return facts | ({"note": "the weights do not match the header's sshs_model_hash"} if changed else {})
