"""Gathers emoji from their packages into one .tar for `calotype train diffusion`, with English and Chinese captions.

    python recipes/emoji/gather.py emoji.tar

It needs npm on the path, and `pip install resvg-py` to draw SVG. Each picture is WebP without loss, 256x256 on white;
the folder it lies in is its style, `4_` for what counts four times as much as the same thing in other tones of skin.
Packages, versions and licences are written into the README.md of the .tar, and from there into the model's card.
"""

import argparse
import io
import json
import os
import random
import re
import shutil
import subprocess
import tarfile
import tempfile
import unicodedata
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import resvg_py
from PIL import Image

SIDE = 256
STYLES = {  # package: version, English, Chinese, who drew it
    "@iconify-json/fluent-emoji-flat": ("1.2.6", "fluent flat", "流畅扁平", "Fluent Emoji, Microsoft"),
    "@iconify-json/noto": ("1.2.9", "noto", "诺托", "Noto Emoji, Google"),
    "@iconify-json/noto-v1": ("1.2.5", "blob", "软糖", "Noto Emoji's older blobs, Google"),
    "@iconify-json/twemoji": ("1.2.5", "twemoji", "推特", "Twemoji, Twitter"),
    "@iconify-json/fxemoji": ("1.2.2", "firefox", "火狐", "FxEmojis, Mozilla"),
    "@iconify-json/emojione": ("1.2.3", "emojione", "表情一号", "EmojiOne 2, Ranks.com"),
    "@lobehub/fluent-emoji-3d": ("1.1.0", "fluent 3d", "流畅立体", "Fluent Emoji in 3-D, Microsoft"),
}
WORDS = ("emojibase-data", "17.0.0")  # names and tags in many languages
TONE = re.compile(r"(light|medium|dark)[ -]?(light|dark)? ?skin tone")
HELD_OUT = 0.02
CAPTIONS = (8, 4)  # of a picture, in English and in Chinese


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the .tar; held_out.txt is written beside it")
    parser.add_argument("--packages", type=Path, help="folder with node_modules; fetched by npm where not given")
    parser.add_argument("--style", choices=[style for _, style, *_ in STYLES.values()], help="only this one")
    parser.add_argument("--limit", type=int, default=0, help="only so many drawings, chosen at random")
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        modules = (given.packages or fetched(Path(folder))) / "node_modules"
        items = [told for told in drawings(modules) if given.style in (None, told["style"])]
        if given.limit:
            items = random.Random(0).sample(items, min(given.limit, len(items)))
        packed(items, modules, given.out)


def fetched(folder: Path) -> Path:
    names = [f"{name}@{version}" for name, (version, *_) in STYLES.items()] + ["@".join(WORDS)]
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("the drawings come by npm, which is not on the path; install Node.js, or give --packages")
    if subprocess.run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *names]).returncode:
        raise SystemExit("npm could not fetch the packages; what it says stands above")
    return folder


def drawings(modules: Path) -> Iterator[dict]:
    """Each with its style, its words in both languages, and either its SVG or the file it lies in."""
    english, chinese = words(modules, "en"), words(modules, "zh")
    exact, loose = {slug(told["label"]): code for code, told in english.items()}, names(english)
    for package, (_, style, style_zh, _) in STYLES.items():
        folder = modules / package
        is_svg = (folder / "icons.json").is_file()
        found = list(iconify(folder) if is_svg else lobehub(folder))
        seen, own = set(), {slug(name) for name, *_ in found}
        for name, code, drawing in found:
            code = code if code in english else exact.get(slug(name), code)
            if code not in english:
                code = loose.get(squeezed(name).replace("flagfor", "flag", 1), code)
                if code in english and slug(english[code]["label"]) in seen | own:  # another drawing of the same
                    code = ""
            label = english.get(code, {}).get("label") or name.replace("-", " ").lower()
            if code not in english and not is_svg:  # these have no names but their code points
                continue
            key = slug(label)
            if key in seen:
                continue
            seen.add(key)
            told = {"style": style, "style_zh": style_zh, "label": label, "key": key, **drawing}
            told["tags"] = english.get(code, {}).get("tags", [])
            told["label_zh"] = chinese.get(code, {}).get("label", "")
            told["tags_zh"] = chinese.get(code, {}).get("tags", [])
            told["is_toned"] = bool(TONE.search(label))
            yield told


def words(modules: Path, language: str) -> dict[str, dict]:
    """Names and tags by code points."""
    found = {}
    for one in json.loads((modules / WORDS[0] / language / "data.json").read_text("utf-8")):
        tags = [str(tag).lower() for tag in one.get("tags", [])]
        for told in (one, *one.get("skins", [])):
            found[plain(told["hexcode"])] = {"label": told["label"].lower(), "tags": tags}
    return found


def names(english: dict[str, dict]) -> dict[str, str]:
    """Code points by what packages call them: CLDR's names and Unicode's own, without spaces and dashes."""
    single = [code for code in english if "-" not in code]
    found = {squeezed(unicodedata.name(chr(int(code, 16)), "")): code for code in single}
    return found | {squeezed(told["label"]): code for code, told in english.items()}


def iconify(folder: Path) -> Iterator[tuple[str, str, dict]]:
    told = json.loads((folder / "icons.json").read_text("utf-8"))
    codes = folder / "chars.json"
    by_name = {n: plain(c) for c, n in json.loads(codes.read_text("utf-8")).items()} if codes.is_file() else {}
    for name, icon in told["icons"].items():
        if icon.get("hidden"):
            continue
        left, top, width, height = (
            icon.get(key, told.get(key, usual))
            for key, usual in zip(("left", "top", "width", "height"), (0, 0, 16, 16), strict=True)
        )
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}" width="{SIDE}" height="{SIDE}">{icon["body"]}</svg>'
        )
        yield name, by_name.get(name, ""), {"svg": svg}


def lobehub(folder: Path) -> Iterator[tuple[str, str, dict]]:
    for path in sorted((folder / "assets").glob("*.webp")):
        yield path.stem, plain(path.stem), {"path": str(path)}


def captions(told: dict) -> list[str]:
    """The usual one first; then others, chosen by its name. Chinese ones name the style in both ways."""
    dice, style, label = random.Random(told["style"] + told["label"]), told["style"], told["label"]
    usual = f"{label.replace(':', '')}, {style}"
    tags, english = [tag for tag in told["tags"] if tag not in label], []
    for _ in range(CAPTIONS[0] - 1):
        name = label.replace(":", "," if dice.random() < 0.5 else "")
        short = style.removeprefix("fluent ") if dice.random() < 0.2 else style
        some = dice.sample(tags, min(len(tags), dice.randint(1, 3)))
        kinds = [f"{name}, {short}"] * 6 + [name, f"{short} {name}", f"{name} emoji, {short} style"]
        kinds += [", ".join([name, *some, short])] * 3 + [", ".join([*some, short])] if some else []
        english.append(dice.choice(kinds))
    if not told["label_zh"]:
        return [usual, *english]
    label, chinese = re.sub(r"[:：]\s*", "，", told["label_zh"]), []
    tags = [tag for tag in told["tags_zh"] if tag not in label]
    for _ in range(CAPTIONS[1]):
        short = dice.choice((style, told["style_zh"]))
        some = dice.sample(tags, min(len(tags), dice.randint(1, 3)))
        kinds = [f"{label}，{short}"] * 3 + [label, f"{short}风格的{label}"]
        chinese.append(dice.choice([*kinds, "，".join([label, *some, short])] if some else kinds))
    return [usual, *english, *chinese]


def packed(items: list[dict], modules: Path, out: Path) -> None:
    held, kept, part = [], [], out.with_name(out.name + ".part")
    with Pool() as pool, tarfile.open(part, "w") as tar:
        for told, data in zip(items, pool.imap(rendered, items, chunksize=32), strict=True):
            if data is None:
                continue
            folder = f"1_{told['style']} skin tones" if told["is_toned"] else f"4_{told['style']}"
            name = f"{folder}/{told['key']}"
            add(tar, f"{name}.webp", data)
            add(tar, f"{name}.txt", "\n".join(captions(told)).encode())
            if not told["is_toned"] and random.Random(told["style"] + told["label"]).random() < HELD_OUT:
                held.append(name)
            kept.append(told)
        add(tar, "README.md", about(modules, kept).encode())
    os.replace(part, out)
    out.with_name("held_out.txt").write_text("\n".join(held) + "\n", "utf-8")
    lost = len(items) - len(kept)
    print(f"{len(kept)} drawings in {out}, {lost} could not be drawn; {len(held)} to hold out in held_out.txt")


def rendered(told: dict) -> bytes | None:
    """WebP without loss; None where nothing can be seen."""
    try:
        if "svg" in told:
            data = resvg_py.svg_to_bytes(svg_string=told["svg"], width=SIDE, height=SIDE, skip_system_fonts=True)
            image = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
        else:
            image = Image.open(told["path"]).convert("RGBA")
    except (ValueError, OSError):
        return None
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    image = paper.convert("RGB")
    if min(low for low, _ in image.getextrema()) >= 250:
        return None
    file = io.BytesIO()
    image.save(file, "WebP", lossless=True, quality=60, method=3)
    return file.getvalue()


def about(modules: Path, items: list[dict]) -> str:
    """The README.md of the set: where everything comes from, as the packages themselves say it."""
    rows = []
    for package, (_, style, _, who) in [*STYLES.items(), (WORDS[0], (WORDS[1], "", "", "names and tags, after CLDR"))]:
        told = json.loads((modules / package / "package.json").read_text("utf-8"))
        info = modules / package / "info.json"
        licence = json.loads(info.read_text("utf-8"))["license"]["spdx"] if info.is_file() else told["license"]
        count = sum(one["style"] == style for one in items) if style else ""
        if count == 0:
            continue
        rows.append(f"| {style} | {count} | {who} | `{package}` {told['version']} | {licence} |")
    head = "| style | drawings | who | package | licence |\n|---|---|---|---|---|\n"
    named = sum(bool(one["label_zh"]) for one in items)
    told = f"Drawings of emoji, {len(items)}, with captions in English; {named} have names in Chinese as well."
    return f"{told}\n\n{head}" + "\n".join(rows) + "\n"


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def squeezed(text: str) -> str:
    return slug(text).replace("-", "")


def plain(code: str) -> str:
    """Code points without the one that only asks for colour."""
    return code.lower().replace("-fe0f", "")


if __name__ == "__main__":
    main()
