"""Pages of a PDF, drawn by PDFium (the extra pdf): a scan at its own resolution, others at 300 dots per inch."""

from typing import Any, BinaryIO

import numpy as np

from calotype.errors import PictureError, Remedy
from calotype.picture.codecs.decoded import PictureFile, Pixels, check_page, decoding
from calotype.picture.metadata.color_space import ColorTags

DPI, MAX_DPI = 300.0, 1200.0
_POINTS = 72.0  # per inch
_MAX_OBJECTS = 500


def open_pdf(file: BinaryIO, name: str, page: int = 0) -> PictureFile:
    """Reads the size of a page; `file` stays open for `decode`.

    Raises:
        PictureError: damaged, protected by a password, or the extra pdf is missing.
    """
    pdfium = _pdfium(name)
    with decoding(name):
        file.seek(0)
        try:
            document = pdfium.PdfDocument(file)
        except pdfium.PdfiumError as fault:
            if "password" not in str(fault).lower():
                raise
            document = None
    if document is None:
        raise PictureError("{name} is protected by a password; save it without one first", name=name)
    with decoding(name):
        count = len(document)
        if not count:
            raise ValueError("a file without pages")
    notes = check_page(page, count, name)
    with decoding(name):
        sheet = document[max(page, 1) - 1]
        width, height = sheet.get_size()
        if not (0 < width < 1e6 and 0 < height < 1e6):
            raise ValueError("a page without a size")
        dpi = _resolution(pdfium, sheet, width * height)
        size = max(1, round(height * dpi / _POINTS)), max(1, round(width * dpi / _POINTS))

    def decode() -> Pixels:
        with decoding(name):
            if (scan := _only_image(pdfium, sheet, size)) is not None:
                return Pixels(scan)
            bitmap = pdfium.PdfBitmap.new_native(size[1], size[0], pdfium.raw.FPDFBitmap_BGR)
            bitmap.fill_rect((255, 255, 255, 255), 0, 0, size[1], size[0])
            flags = pdfium.raw.FPDF_ANNOT | pdfium.raw.FPDF_REVERSE_BYTE_ORDER
            pdfium.raw.FPDF_RenderPageBitmap(bitmap, sheet, 0, 0, size[1], size[0], 0, flags)
            colour = np.ascontiguousarray(bitmap.to_numpy())
            is_grey = (colour[:, :, :1] == colour[:, :, 1:]).all()
            return Pixels(np.ascontiguousarray(colour[:, :, :1]) if is_grey else colour)

    resolution = round(dpi, 2)
    return PictureFile(
        size, decode, dpi=(resolution, resolution), notes=notes, color_tags=ColorTags(is_srgb=True), count=count
    )


def _pdfium(name: str) -> Any:
    try:
        import pypdfium2
        import pypdfium2.raw
    except ImportError as fault:
        raise PictureError(
            "{name} is a PDF, which needs the package pypdfium2; {remedy}", name=name, remedy=Remedy("install", "pdf")
        ) from fault
    return pypdfium2


def _only_image(pdfium: Any, sheet: Any, size: tuple[int, int]) -> np.ndarray | None:
    """The image that is all of an upright page, besides text that a text recognition has hidden below it."""
    objects = list(sheet.get_objects(max_depth=1))
    images = [part for part in objects if part.type == pdfium.raw.FPDF_PAGEOBJ_IMAGE]
    texts = [part for part in objects if part.type == pdfium.raw.FPDF_PAGEOBJ_TEXT]
    hidden = pdfium.raw.FPDF_TEXTRENDERMODE_INVISIBLE
    is_alone = len(images) == 1 and len(objects) == 1 + len(texts)
    if not is_alone or any(pdfium.raw.FPDFTextObj_GetTextRenderMode(text) != hidden for text in texts):
        return None
    if sheet.get_rotation() or pdfium.raw.FPDFPage_GetAnnotCount(sheet):
        return None
    image, (width, height) = images[0], sheet.get_size()
    a, b, c, d, *_ = image.get_matrix().get()
    left, bottom, right, top = image.get_bounds()
    box = sheet.get_bbox()
    is_whole = np.allclose((left, bottom, right, top), box, atol=0.01 * max(width, height))
    if not is_whole or b or c or a <= 0 or d <= 0 or image.get_px_size() != size[::-1]:
        return None
    bitmap = image.get_bitmap()
    samples = bitmap.to_numpy()
    if samples.shape[:2] != size:
        return None
    if bitmap.format == pdfium.raw.FPDFBitmap_Gray:
        return np.ascontiguousarray(samples.reshape(*size, 1))
    if bitmap.format in (pdfium.raw.FPDFBitmap_BGR, pdfium.raw.FPDFBitmap_BGRx):
        return np.ascontiguousarray(samples[:, :, 2::-1])
    return None


def _resolution(pdfium: Any, sheet: Any, area: float) -> float:
    """The highest resolution of images that cover half of the page, in dots per inch."""
    found = 0.0
    for number, image in enumerate(sheet.get_objects(filter=[pdfium.raw.FPDF_PAGEOBJ_IMAGE])):
        left, bottom, right, top = image.get_bounds()
        if number >= _MAX_OBJECTS or (right - left) * (top - bottom) < area / 2:
            continue
        long, short = sorted(image.get_px_size(), reverse=True)
        sides = sorted((right - left, top - bottom), reverse=True)
        found = max(found, _POINTS * long / sides[0], _POINTS * short / sides[1])
    return min(found, MAX_DPI) or DPI
