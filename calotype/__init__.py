"""Calotype: restore, enlarge, make and learn pictures on one's own computer."""

__version__ = "0.1.0"
