"""LoRA and its kin: what they change in a model's weights, put on and taken off without trace."""

from calotype.checkpoints.lora.attach import Attached, attach, fuse
from calotype.checkpoints.lora.read import Adapter, read_adapter, read_folder

__all__ = ["Adapter", "Attached", "attach", "fuse", "read_adapter", "read_folder"]
