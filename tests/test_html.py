"""Templates: complete, strict, escaped, and part of the installed package."""

import contextlib
import tomllib
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import calotype
from calotype import html

TEMPLATES = sorted((Path(calotype.__file__).parent / "templates").iterdir())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_template_compiles_and_is_in_the_package(path):
    with contextlib.suppress(UndefinedError):  # compiled; the values are missing here
        html.render(path.name)
    project = tomllib.loads((Path(calotype.__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["calotype"]
    assert any(path in path.parents[1].glob(pattern) for pattern in patterns)


def test_a_value_that_is_missing_is_an_error_and_no_gap():
    with pytest.raises(UndefinedError, match="cause"):
        html.render("album_failure.html", name="a.jpg")


def test_values_are_escaped_once():
    page = html.render("album_failure.html", name="<script>", cause=html.as_markup("<b>") + "&")
    assert "&lt;script&gt;" in page and "<b>&amp;" in page
