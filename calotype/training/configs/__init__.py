"""Settings that people have from lora-scripts and sd-scripts, read as options of ours. Nothing in them is ever run."""

from calotype.training.configs.read import Config, read_config

__all__ = ["Config", "read_config"]
