"""The grammar of prompts, as Stable Diffusion's users write them: A1111's, from the text to chunks of tokens."""

from calotype.ops.prompt.chunks import Chunk, Vectors, chunks
from calotype.ops.prompt.emphasis import BREAK, EMPHASES, emphasis, weighed
from calotype.ops.prompt.schedule import schedule
from calotype.tasks.prompts import LoraRef, composition, extras, matrix

__all__ = [
    "BREAK",
    "EMPHASES",
    "Chunk",
    "LoraRef",
    "Vectors",
    "chunks",
    "composition",
    "emphasis",
    "extras",
    "matrix",
    "schedule",
    "weighed",
]
