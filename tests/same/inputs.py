"""The pictures, captions and settings that the commands of `sameness.py` work on.

All are drawn by a fixed rule or cut out of NASA's portrait of Eileen Collins (public domain, in scikit-image), so that
every call makes the same bytes with the same libraries.
"""

import os
import struct
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageDraw, PngImagePlugin

FACE = (170, 20, 298, 148)  # left, top, right, bottom of the face in the portrait
CLOCK = 1_000_000_000  # the time that every file bears
INFOTEXT = (
    "red apple, fluent 3d\nNegative prompt: blue\nSteps: 2, Sampler: Euler a, Schedule type: Automatic, "
    "CFG scale: 3.5, Seed: 11, Size: 64x72, Model hash: 0123456789, Model: emoji, Version: v1.10.1"
)
CONFIG = """pretrained_model_name_or_path = "emoji"
train_data_dir = "in/photos"
resolution = "64,64"
network_dim = 2
optimizer_type = "AdamW8bit"
max_train_epochs = 2
"""
SHELL = """#!/bin/bash
pretrained_model="emoji"
train_data_dir="in/photos"
resolution="64,64"
network_dim=4
network_alpha=2
max_train_epoches=3
lr="1e-4"
output_name="told"

python -m accelerate.commands.launch sd-scripts/train_network.py \\
  --pretrained_model_name_or_path=$pretrained_model --train_data_dir=$train_data_dir --resolution=$resolution \\
  --network_dim=$network_dim --network_alpha=$network_alpha --max_train_epochs=$max_train_epoches \\
  --learning_rate=$lr --output_name=$output_name --min_bucket_reso=32 --xformers
"""


def make(folder: Path) -> None:
    """Writes all inputs into `folder`."""
    folder.mkdir(parents=True)
    for part in (
        _photos,
        _album,
        _prints,
        _drawing,
        _lora,
        _caption,
        _faces,
        _pieces,
        _discs,
        _diffusion,
        _settings,
        _broken,
    ):
        part(folder)
    age(folder)


def age(folder: Path) -> None:
    """Gives every file below `folder` the same time."""
    for path in sorted(folder.rglob("*")):
        os.utime(path, (CLOCK, CLOCK))


def _portrait() -> Image.Image:
    from skimage.data import astronaut

    return Image.fromarray(astronaut())


def _face(side: int) -> Image.Image:
    return _portrait().crop(FACE).resize((side, side), Image.Resampling.LANCZOS)


def _exif(turned: bool = False) -> Image.Exif:
    """Date, camera and place."""
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Box Brownie"
    exif[ExifTags.Base.Orientation] = 6 if turned else 1
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "1961:05:05 09:34:00"
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef], place[ExifTags.GPS.GPSLatitude] = "N", (28.0, 29.0, 20.0)
    place[ExifTags.GPS.GPSLongitudeRef], place[ExifTags.GPS.GPSLongitude] = "W", (80.0, 34.0, 40.0)
    return exif


def _srgb() -> bytes:
    """The profile with a fixed date in place of today's."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + struct.pack(">6H", 2001, 9, 9, 0, 0, 0) + made[36:]


def _photos(folder: Path) -> None:
    """One for each format and kind of pixels."""
    import cv2
    import tifffile

    face = _face(96)
    face.save(folder / "photo.jpg", quality=90, exif=_exif(), icc_profile=_srgb(), dpi=(300, 300))
    face.rotate(90).save(folder / "turned.jpg", quality=90, exif=_exif(turned=True))
    face.convert("L").save(folder / "grey.png")
    pair = Image.new("RGB", (192, 96))
    pair.paste(face, (0, 0))
    pair.paste(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (96, 0))
    pair.save(folder / "pair.png")
    y, x = np.mgrid[:40, :48]
    deep = np.stack([x * 1300, y * 1600, (x + y) * 700], -1).astype(np.uint16)
    cv2.imwrite(str(folder / "deep.png"), deep)
    tifffile.imwrite(folder / "scan.tif", deep[..., 0], resolution=(600, 600), resolutionunit="INCH")
    discs = _disc((48, 40), (200, 60, 40)).convert("RGBA")
    discs.putalpha(_disc((48, 40), (255, 255, 255)).convert("L"))
    discs.save(folder / "clear.webp", lossless=True)


def _album(folder: Path) -> None:
    """A tree of pictures in which one is cut and one is no picture."""
    album = folder / "album"
    (album / "more").mkdir(parents=True)
    _face(64).save(album / "2.jpg", quality=90)
    _disc((40, 32), (30, 90, 200)).save(album / "10.png")
    _disc((32, 40), (30, 190, 20)).save(album / "more" / "a.png")
    data = (album / "2.jpg").read_bytes()
    (album / "cut.jpg").write_bytes(data[: len(data) // 2])
    (album / "notes.txt").write_text("no picture\n")


def _prints(folder: Path) -> None:
    """Two photos on a white scan."""
    scan = Image.new("RGB", (400, 300), (250, 250, 250))
    scan.paste(_face(140), (30, 30))
    turned = _face(150).convert("RGBA").rotate(6, Image.Resampling.BICUBIC, expand=True)
    scan.paste(turned, (210, 90), turned)
    scan.save(folder / "prints.png", dpi=(300, 300))
    strokes = Image.new("RGBA", (96, 96))
    ImageDraw.Draw(strokes).line([(30, 40), (60, 60)], (220, 160, 130, 255), 5)
    strokes.save(folder / "strokes.png")


def _drawing(folder: Path) -> None:
    """What imagine starts from."""
    _disc((64, 64), (240, 120, 20)).save(folder / "start.png")
    Image.fromarray(np.kron(np.eye(2, dtype=np.uint8), np.full((32, 32), 255, np.uint8))).save(folder / "mask.png")
    told = PngImagePlugin.PngInfo()
    told.add_text("parameters", INFOTEXT)
    Image.new("RGB", (64, 72)).save(folder / "a1111.png", pnginfo=told)
    (folder / "prompts.txt").write_text('# mine\nred apple\n--prompt "blue car" --steps 1 --width 64 --height 32\n')


def _lora(folder: Path) -> None:
    room = folder / "photos" / "2_zkz cat"
    room.mkdir(parents=True)
    for n in range(3):
        _portrait().crop((60 * n, 90 * n, 60 * n + 80, 90 * n + 80 + 16 * n)).save(room / f"{n}.png")
    (room / "1.txt").write_text("zkz, square, (red:1.2)\n")
    (folder / "samples.txt").write_text("zkz --w 64 --h 64 --s 2 --d 5\n")


def _caption(folder: Path) -> None:
    """Photos without captions, one with one, and a tagger with random weights."""
    room = folder / "words" / "10_anna person"
    room.mkdir(parents=True)
    for n, name in enumerate(("a.png", "b.c.jpg", "third.webp")):
        _disc((40, 30), (200 - 60 * n, 30, 30 + 60 * n)).save(room / name)
    _face(128).save(room / "face.png")
    (room / "a.txt").write_text("a red disc\n")
    _tagger(folder / "tagger")


def _tagger(folder: Path) -> None:
    """A WD14 tagger in its smallest form: a sum over the picture for each tag."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir()
    side, count = 16, 6
    weights = np.random.default_rng(0).normal(0, 1e-4, (side * side * 3, count)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["picture"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["sums"]),
        helper.make_node("Sigmoid", ["sums"], ["tags"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["N", side, side, 3])],
        [helper.make_tensor_value_info("tags", TensorProto.FLOAT, ["N", count])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    tags = [("general", 9), ("red_disc", 0), ("blue_sky", 0), ("anna", 4), ("^_^", 0), ("round", 0)]
    rows = [f"{n},{name},{category},10" for n, (name, category) in enumerate(tags)]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows]))


def _faces(folder: Path) -> None:
    """Faces as sheets of them are named; a sheet is held back whole."""
    room = folder / "faces"
    room.mkdir()
    for n, name in enumerate(("a_r00c00", "a_r01c02", "b_r00c00", "b_r00c01", "c_r00c03")):
        face = _face(64).transpose(Image.Transpose.FLIP_LEFT_RIGHT) if n % 2 else _face(64)
        face.point(lambda value, n=n: value * (1 - 0.12 * n)).save(room / f"{name}.png")


def _pieces(folder: Path) -> None:
    """Sharp pictures for an upscaler."""
    room = folder / "sharp"
    room.mkdir()
    for n, (x, y) in enumerate([(130, 0), (250, 0), (60, 180), (256, 256), (100, 300)]):
        _portrait().crop((x, y, x + 64, y + 64)).save(room / f"{n}.png")


def _discs(folder: Path) -> None:
    """Pictures for a GAN."""
    (folder / "discs" / "more").mkdir(parents=True)
    for n in range(10):
        where = folder / "discs" / "more" if n == 9 else folder / "discs"
        _disc((48, 40), (250, 200, 20 * n), 8 + n).save(where / f"{n}.png")


def _diffusion(folder: Path) -> None:
    """Captioned pictures."""
    for n in range(6):
        name = ("red", "blue")[n % 2]
        room = folder / "captioned" / f"{n % 2 + 1}_{name}s"
        room.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (32, 32), "white")
        ImageDraw.Draw(image).ellipse((4 + n, 6, 20 + n, 24), fill=name)
        image.save(room / f"{n}.png")
        (room / f"{n}.txt").write_text(f"{name} circle\na circle that is {name}\n")


def _settings(folder: Path) -> None:
    """Files of settings, as other programs have them."""
    (folder / "config.toml").write_text(CONFIG)
    (folder / "train.sh").write_text(SHELL)
    (folder / "styles.csv").write_text('name,prompt,negative_prompt\nmine,"{prompt}, noto",blurry\n')


def _broken(folder: Path) -> None:
    """Files that are not what their names say, and folders that nothing can be learnt from."""
    room = folder / "broken"
    (room / "empty").mkdir(parents=True)
    (room / "one").mkdir()
    _disc((32, 32), (9, 9, 9)).save(room / "one" / "only.png")
    (room / "text.png").write_text("no picture\n")
    (room / "cut.safetensors").write_bytes(b"\xff\x00\x00\x00\x00\x00\x00\x00{")
    (room / "junk.pth").write_bytes(b"PK\x03\x04 junk")
    (room / "record.json").write_text('{"record": {"task": 1}}')
    (room / "list.txt").write_text("good\n--prompt x --stepz 3\n")
    (room / "config.toml").write_text("network_dim = [\n")
    (room / "unknown.toml").write_text("unknown_option = 1\n")
    (room / "model.onnx").write_bytes(b"nonsense")


def _disc(size: tuple[int, int], colour: tuple[int, int, int], radius: int = 14) -> Image.Image:
    image = Image.new("RGB", size, "white" if colour != (255, 255, 255) else "black")
    x, y = size[0] // 2, size[1] // 2
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image
