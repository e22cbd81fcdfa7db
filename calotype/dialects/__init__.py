"""Other programs' words and ours: their names of options, their files of settings and prompts. No torch."""
