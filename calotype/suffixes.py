"""File suffixes of the pictures that every command finds; the format itself is read from a file's first bytes."""

SUFFIXES = {  # suffix to format; the first of a format is that of files we write
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".mpo": "jpeg",
    ".jls": "jpeg",
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
    ".jxl": "jxl",
    ".gif": "gif",
    **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jph", ".jhc"), "jp2"),
    **dict.fromkeys((".psd", ".psb"), "psd"),
    **dict.fromkeys((".tga", ".icb", ".vda", ".vst"), "tga"),
    ".pcx": "pcx",
    ".dcx": "dcx",
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm"), "pnm"),
    ".qoi": "qoi",
    **dict.fromkeys((".ico", ".cur"), "ico"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf"), "raw"),
    **dict.fromkeys((".rw2", ".rwl", ".pef", ".srw", ".x3f", ".mrw", ".3fr", ".fff", ".iiq", ".mef", ".mos"), "raw"),
    **dict.fromkeys((".erf", ".kdc", ".dcr", ".gpr"), "raw"),
}

# Of the formats that are written.
MEDIA_TYPES = {name: f"image/{name}" for name in ("jpeg", "png", "webp", "tiff", "bmp", "avif", "heic", "jxl")}

DOCUMENTS = {".pdf": "pdf"}  # read where a command names them; collected from folders with --pages

_READ_ONLY = ("gif", "jp2", "psd", "tga", "pcx", "dcx", "pnm", "qoi", "ico", "raw")

REPLACED = {  # read, but results are written under a better known suffix
    ".mpo": ".jpg",
    ".jls": ".png",
    ".apng": ".png",
    ".dib": ".bmp",
    ".hif": ".heic",
    **{suffix: ".png" for suffix, format in SUFFIXES.items() if format in _READ_ONLY},
}
