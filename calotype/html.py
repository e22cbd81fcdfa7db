"""Pages: HTML in one file, light and dark, nothing fetched, from `templates/`, where every value is escaped."""

import base64
import hashlib
import io
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from calotype import __version__
from calotype.errors import PLAIN, Wording

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL.Image import Image

GENERATOR = '<meta name="generator" content="Calotype'  # as templates/page.html begins


def render(template: str, wording: Wording = PLAIN, /, **values: Any) -> str:
    """A template filled in, marked as HTML. Its own texts, `{{ _("Before") }}`, are in the wording's language."""
    return as_markup(_environment().get_template(template).render(_with_texts(values, wording)))


def render_chunks(template: str, wording: Wording = PLAIN, /, **values: Any) -> Iterator[str]:
    """A template filled in as it is read, for pages that are larger than memory should hold."""
    return _environment().get_template(template).generate(_with_texts(values, wording))


def _with_texts(values: dict[str, Any], wording: Wording) -> dict[str, Any]:
    from markupsafe import escape

    def translated(text: str, **named: Any) -> str:
        return escape(wording.translate(text)).format(**named)  # which escapes values that are no HTML

    return {**values, "_": translated, "language": wording.language}


def as_markup(html: str) -> str:
    """The text marked as HTML: a template does not escape it again."""
    from markupsafe import Markup

    return Markup(html)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("calotype"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["version"] = __version__
    environment.filters |= {"csp_hash": csp_hash, "data_uri": data_uri, "px": "{:.1f}".format}
    return environment


def csp_hash(text: str) -> str:
    """As a content security policy names a style or script that may stand in the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def encode_jpeg(image: "Image") -> bytes:
    """A picture as pages show it."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=86, optimize=True)
    return file.getvalue()


def data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
