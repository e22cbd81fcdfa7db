"""Rank of this process, without torch (unlike `distributed`)."""

import os


def rank() -> int:
    """Rank from the environment; 0 with a single process."""
    return int(os.environ.get("RANK", 0)) if int(os.environ.get("WORLD_SIZE", 1)) > 1 else 0
