"""The album: which pictures are meant, where each result goes, what was done before. Nothing here needs torch."""

from calotype.album.inputs import Album, Item, Plan, plan
from calotype.album.names import readable

__all__ = ["Album", "Item", "Plan", "plan", "readable"]
