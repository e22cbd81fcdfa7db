"""Draws the faces of four emoji sets onto one sheet."""

import io
import json
import re
from pathlib import Path

import resvg_py
from PIL import Image

SIDE, COLUMNS, DRAWN = 64, 24, 256
GROUPS = (*range(11), 12, 13)  # of emojibase's smileys: faces, cats, monkeys


def plain(name):
    return re.sub("[^a-z0-9]", "", name.lower())


def svg(icons, name):
    icon = icons["icons"][name]
    left, top, width, height = (
        icon.get(k, icons.get(k, d)) for k, d in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{DRAWN}" height="{DRAWN}">{icon["body"]}</svg>'
    )


def drawn(text):
    data = resvg_py.svg_to_bytes(svg_string=text, width=DRAWN, height=DRAWN, skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    return paper.convert("RGB").resize((SIDE, SIDE), Image.LANCZOS)


emoji = json.loads(next(Path().glob("emojibase-data-*/package/en/data.json")).read_text("utf-8"))
faces = [e for e in emoji if e.get("group") == 0 and e["subgroup"] in GROUPS and "skull" not in e["label"]]
tiles = []
for package in sorted(Path().glob("iconify-json-*/package")):
    icons = json.loads((package / "icons.json").read_text("utf-8"))
    aliases = icons.get("aliases", {})
    by_name = {plain(name): name for name in [*aliases, *icons["icons"]]}
    chars = json.loads((package / "chars.json").read_text("utf-8"))
    for face in faces:
        code = face["hexcode"].lower()
        name = chars.get(code) or chars.get(code.split("-fe0f")[0]) or by_name.get(plain(face["label"]))
        while name in aliases:
            name = aliases[name]["parent"]
        if name in icons["icons"]:
            tiles.append(drawn(svg(icons, name)))
sheet = Image.new("RGB", (COLUMNS * SIDE, -(-len(tiles) // COLUMNS) * SIDE), "white")
for n, tile in enumerate(tiles):
    sheet.paste(tile, (n % COLUMNS * SIDE, n // COLUMNS * SIDE))
sheet.save("faces.webp", lossless=True, quality=100, method=6)
print(len(tiles), "faces")
