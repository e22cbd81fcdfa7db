"""Draws ten shapes in ten colours and four styles, with captions in English and Chinese: python render.py FOLDER.

Twelve of the hundred pairs of shape and colour are listed in FOLDER/held_out.txt: no style of theirs is learnt from.
"""

import math
import sys
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIDE, FINE = 64, 8  # pixels; drawn so many times larger
SHAPES = {
    "circle": "圆形",
    "square": "方形",
    "triangle": "三角形",
    "star": "星形",
    "heart": "心形",
    "diamond": "菱形",
    "cross": "十字形",
    "moon": "月牙形",
    "arrow": "箭头",
    "hexagon": "六边形",
}
COLOURS = {
    "red": ("红色", (220, 38, 38)),
    "orange": ("橙色", (249, 140, 22)),
    "yellow": ("黄色", (250, 212, 40)),
    "green": ("绿色", (34, 160, 70)),
    "turquoise": ("青色", (40, 200, 190)),
    "blue": ("蓝色", (37, 80, 230)),
    "purple": ("紫色", (140, 50, 200)),
    "pink": ("粉色", (250, 130, 190)),
    "brown": ("棕色", (130, 80, 40)),
    "grey": ("灰色", (140, 140, 140)),
}
STYLES = {"solid": "实心", "outline": "空心", "striped": "条纹", "night": "夜晚"}
PAPER, NIGHT = (255, 255, 255), (24, 28, 48)


def is_held(shape, colour):
    """One pair of each row and column, and two more."""
    return (3 * shape + colour) % 10 == 4 or (shape, colour) in ((0, 0), (3, 9))


def ring(*points):
    """Points by (angle in turns, radius), from the top."""
    return [(0.5 + r * math.sin(math.tau * a), 0.5 - r * math.cos(math.tau * a)) for a, r in points]


def corners(shape):
    """Of a shape with straight sides, in a square of 1."""
    if shape == "square":
        return [(0.18, 0.18), (0.82, 0.18), (0.82, 0.82), (0.18, 0.82)]
    if shape == "triangle":
        return [(0.5, 0.12), (0.9, 0.84), (0.1, 0.84)]
    if shape == "star":
        return ring(*((n / 10, 0.42 if n % 2 == 0 else 0.17) for n in range(10)))
    if shape == "diamond":
        return [(0.5, 0.08), (0.8, 0.5), (0.5, 0.92), (0.2, 0.5)]
    if shape == "cross":
        a, b, c, d = 0.12, 0.37, 0.63, 0.88
        return [(b, a), (c, a), (c, b), (d, b), (d, c), (c, c), (c, d), (b, d), (b, c), (a, c), (a, b), (b, b)]
    if shape == "arrow":
        return [(0.1, 0.38), (0.5, 0.38), (0.5, 0.15), (0.92, 0.5), (0.5, 0.85), (0.5, 0.62), (0.1, 0.62)]
    return ring(*((n / 6 + 1 / 12, 0.4) for n in range(6)))


def mask(shape):
    """The shape in white, large."""
    size = SIDE * FINE
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)

    def disc(x, y, radius, fill=255):
        draw.ellipse([size * v for v in (x - radius, y - radius, x + radius, y + radius)], fill)

    if shape == "circle":
        disc(0.5, 0.5, 0.37)
    elif shape == "moon":
        disc(0.46, 0.5, 0.38)
        disc(0.63, 0.42, 0.32, 0)
    elif shape == "heart":
        disc(0.32, 0.36, 0.2)
        disc(0.68, 0.36, 0.2)
        draw.polygon([(size * x, size * y) for x, y in ((0.152, 0.47), (0.848, 0.47), (0.5, 0.9))], 255)
        draw.rectangle([size * v for v in (0.32, 0.36, 0.68, 0.5)], 255)
    else:
        draw.polygon([(size * x, size * y) for x, y in corners(shape)], 255)
    return image


def styled(image, style):
    if style == "outline":
        inner = image
        for _ in range(5):
            inner = inner.filter(ImageFilter.MinFilter(13))
        return ImageChops.subtract(image, inner)
    if style == "striped":
        bars = Image.new("L", image.size)
        draw, step = ImageDraw.Draw(bars), image.size[0] // 8
        for n in range(8):
            draw.rectangle((0, n * step, image.size[0], n * step + step * 0.55), 255)
        return ImageChops.multiply(image, bars)
    return image


def drawing(shape, colour, style):
    image = Image.new("RGB", (SIDE * FINE,) * 2, NIGHT if style == "night" else PAPER)
    image.paste(COLOURS[colour][1], mask=styled(mask(shape), style))
    return image.resize((SIDE, SIDE), Image.LANCZOS)


def captions(shape, colour, style):
    form, tint, way = SHAPES[shape], COLOURS[colour][0], STYLES[style]
    return (
        f"{colour} {shape}, {style}",
        f"{tint}{form},{way}",
        f"{style} {colour} {shape}",
        f"{way}的{tint}{form}",
    )


def main(folder):
    held = []
    for style in STYLES:
        (folder / style).mkdir(parents=True, exist_ok=True)
        for m, shape in enumerate(SHAPES):
            for n, colour in enumerate(COLOURS):
                name = f"{style}/{colour}_{shape}"
                drawing(shape, colour, style).save(folder / f"{name}.png")
                (folder / f"{name}.txt").write_text("\n".join(captions(shape, colour, style)) + "\n", "utf-8")
                held += [name] if is_held(m, n) else []
    (folder / "held_out.txt").write_text("\n".join(held) + "\n", "utf-8")
    print(f"{len(STYLES) * len(SHAPES) * len(COLOURS)} pictures, {len(held)} held out")


main(Path(sys.argv[1]))
