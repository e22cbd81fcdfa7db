"""File suffixes of the pictures that every command finds; the format itself is read from a file's first bytes."""

SUFFIXES = {  # suffix to format; the first of a format is that of files we write
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".mpo": "jpeg",
    ".png": "png",
    ".apng": "png",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
    ".dib": "bmp",
    ".avif": "avif",
    ".heic": "heic",
    ".heif": "heic",
    ".hif": "heic",
    ".gif": "gif",
}

REPLACED = {  # read, but results are written under a better known suffix
    ".mpo": ".jpg",
    ".apng": ".png",
    ".dib": ".bmp",
    ".hif": ".heic",
    ".gif": ".png",
}
