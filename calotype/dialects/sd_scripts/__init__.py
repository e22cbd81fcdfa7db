"""Settings that people have from lora-scripts and sd-scripts, read as options of ours. Nothing in them is ever run."""
