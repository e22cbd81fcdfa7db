"""A1111's parameters in a picture. The file is decoded, and its texts are parsed, in the decoder process."""

from pathlib import Path


def infotext_of(file: Path, max_pixels: int) -> tuple[str, dict[str, str]]:
    """The text that A1111 or this program wrote, and all parameters by A1111's names, of any program that is read.

    Raises:
        CalotypeError: not a picture, or one that cannot be read.
    """
    from calotype.picture import decoder

    return decoder.read(infotext_of_here, file, max_pixels=max_pixels)


def infotext_of_here(file: Path, max_pixels: int) -> tuple[str, dict[str, str]]:
    """As `infotext_of`, in this process, which a damaged file may crash."""
    from calotype.outputs.redraw import picture_parameters
    from calotype.picture.picture import Picture

    picture = Picture.open_here(file, 0, None, max_pixels)
    parameters = picture_parameters(picture)
    fields = (
        {name: str(value) for name, value in parameters.fields().items() if value is not None} if parameters else {}
    )
    return picture.metadata.infotext, fields
