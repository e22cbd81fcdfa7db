"""Which of several training processes this is; apart from `processes`, which needs torch."""

import os


def rank() -> int:
    """Which process this is, from 0, by its environment; 0 where there is only one."""
    return int(os.environ.get("RANK", 0)) if int(os.environ.get("WORLD_SIZE", 1)) > 1 else 0
