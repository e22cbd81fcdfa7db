"""`calotype bench`: measurements on one's own machine."""

import dataclasses
from typing import Any

from calotype.cli.flags import argument, flag, flags, given_options, set_signature
from calotype.cli.show import print_json, table
from calotype.errors import Message
from calotype.settings import Settings

HELP = "Measure on this machine how exact results are."
QUICK = "realesr-animevideov3"


def tiles(**values: Any) -> int:
    """Measure the difference between upscaling in tiles and without tiling.

    Differences are in steps of 255, computed in float32. Context is the margin of each tile that is discarded.
    """
    from calotype.bench import tiles as measure
    from calotype.engine import Engine

    settings = Settings.gather({"precision": "float32"} | given_options(Settings, values))
    rows = list(measure(Engine(settings), values["model"], values["tile"] or 112))
    if values["json"]:
        for row in rows:
            print_json(dataclasses.asdict(row))
        return 0
    cells = [[r.model, r.tile, r.overlap, r.context, f"{r.largest:.2f}", f"{r.mean:.4f}"] for r in rows]
    table("", ["network", "tile", "overlap", "context", "largest difference", "mean"], cells)
    return 0


set_signature(
    tiles,
    argument("model", str, Message("a network's name or file (default {name})", name=QUICK), "[MODEL]", QUICK),
    flag("tile", "tile side in input pixels (default 112)", kind=int, metavar="N"),
    *flags(Settings),
    flag("json", "as JSON"),
)

COMMANDS = (tiles,)
