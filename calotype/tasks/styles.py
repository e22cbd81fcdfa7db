"""Styles of prompts: A1111's styles.csv in the home folder."""

import csv
import io
import os
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.files import read_text

STYLES_FILE = "styles.csv"


def styles(path: Path) -> dict[str, tuple[str, str]]:
    """A1111's styles.csv: name -> (prompt, negative prompt). Raises CalotypeError if it cannot be read."""
    if not os.path.lexists(path):
        return {}
    text = read_text(path)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as fault:
        raise CalotypeError(
            "{path} cannot be read as a table of styles ({fault}); fix or delete it", path=path, fault=fault
        ) from None
    return {
        row["name"]: (row.get("prompt") or row.get("text") or "", row.get("negative_prompt") or "")
        for row in rows
        if row.get("name")
    }
