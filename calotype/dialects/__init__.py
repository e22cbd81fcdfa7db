"""Formats of other programs: their option names, config files and prompt files. Imports no torch."""
