"""LoRA and its kin: what they change in a model's weights, put on and taken off without trace."""

from calotype.checkpoints.lora.attach import Attached, attach
from calotype.checkpoints.lora.read import Adapter, read_adapter

__all__ = ["Adapter", "Attached", "attach", "read_adapter"]
