"""A1111's prompt syntax: from the text to weighted chunks of tokens."""

from calotype.ops.prompt.chunks import Chunk, Vectors, chunks
from calotype.ops.prompt.emphasis import BREAK, EMPHASES, apply_weights, emphasis
from calotype.tasks.prompts import LoraRef, composition, extras, matrix
from calotype.tasks.schedule import schedule

__all__ = [
    "BREAK",
    "EMPHASES",
    "Chunk",
    "LoraRef",
    "Vectors",
    "apply_weights",
    "chunks",
    "composition",
    "emphasis",
    "extras",
    "matrix",
    "schedule",
]
