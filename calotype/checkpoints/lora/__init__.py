"""LoRA, LoHa, LoKr and DoRA adapters: loading, attaching, detaching without a trace, fusing."""

from calotype.checkpoints.lora.attach import Attached, attach, fuse
from calotype.checkpoints.lora.read import Adapter, read_adapter, read_folder

__all__ = ["Adapter", "Attached", "attach", "fuse", "read_adapter", "read_folder"]
