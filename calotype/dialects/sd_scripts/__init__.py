"""Config files of lora-scripts and sd-scripts, converted to options of Calotype. Scripts are parsed, never run."""
