"""Pictures in files and in memory; nothing else in the program knows image formats."""

from calotype.picture.picture import Metadata, Picture, pages_of, scaled_size, size_of
from calotype.picture.save import read_record, save

__all__ = ["Metadata", "Picture", "pages_of", "read_record", "save", "scaled_size", "size_of"]
