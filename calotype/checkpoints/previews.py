"""Small pictures of models, as A1111 keeps them: in files beside that of the model."""

from pathlib import Path

ENDINGS = (".preview.png", ".png", ".preview.jpg", ".jpg", ".preview.jpeg", ".jpeg", ".preview.webp", ".webp")
OURS = ".preview.jpg"  # of a model that was trained here


def preview_of(model: Path) -> Path | None:
    """The picture beside a model: NAME.preview.png, NAME.png, and the like."""
    return next((path for ending in ENDINGS if (path := model.with_name(model.stem + ending)).is_file()), None)
