"""`calotype bench`: checks to run on one's own machine."""

import dataclasses
from typing import Any

from calotype.cli.flags import argument, flag, flags, given, shape
from calotype.cli.show import print_json, table
from calotype.settings import Settings

HELP = "Check on this machine what the program promises."
QUICK = "realesr-animevideov3"


def tiles(**values: Any) -> int:
    """Measure how far a picture enlarged in tiles is from the same one enlarged whole.

    Differences are in steps of 255, computed in float32. Context is how far each tile sees beyond what is kept of it.
    """
    from calotype.bench import tiles as measure
    from calotype.engine import Engine

    settings = Settings.gather({"precision": "float32"} | given(Settings, values))
    rows = list(measure(Engine(settings), values["model"], values["tile"] or 112))
    if values["json"]:
        for row in rows:
            print_json(dataclasses.asdict(row))
        return 0
    cells = [[r.model, r.tile, r.overlap, r.context, f"{r.largest:.2f}", f"{r.mean:.4f}"] for r in rows]
    table("", ["network", "tile", "overlap", "context", "largest difference", "mean"], cells)
    return 0


shape(
    tiles,
    argument("model", str, f"a network's name or file (default {QUICK})", "[MODEL]", QUICK),
    flag("tile", "tile side in input pixels (default 112)", kind=int, metavar="N"),
    *flags(Settings),
    flag("json", "as JSON"),
)

COMMANDS = (tiles,)
