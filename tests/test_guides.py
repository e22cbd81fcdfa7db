"""The commands of the guides really run, one after the other in one folder, as far as what they need is at hand: small
pictures and the models that ship. Pictures are drawn in one step, and training is planned, not done."""

import json
import shutil

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageDraw, PngImagePlugin

from calotype.cli import main
from tests.pages import GUIDES, ROOT, SETTINGS_FILES, commands, words

NOT_HERE = (  # checkpoints that nobody ships, and what the guides would have trained
    *("chilloutmix", "stable-diffusion-1.5", "gfpgan-1.4", "codeformer", "general-x4v3", "4x-UltraSharp", "ultrasharp"),
    *("wd14", "tuned.safetensors", "my-gan", "out/diffusion", "upscaler/upscaler", "restorer/restorer", "models pull"),
    *("marks/repairer", "found-mask.png"),  # a mask that was painted on
)
AT_HAND = {"models info gfpgan-1.4"}
CHEAP = tuple(f"calotype {name}" for name in ("models ", "lora ", "train caption ", "doctor", "users "))
PARAMETERS = "cat face, noto\nSteps: 1, Sampler: Euler, CFG scale: 3, Seed: 1, Size: 64x64, Model: emoji"

COMFYUI_GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "other.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "red apple", "clip": ["1", 1]}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
    "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "5": {
        "class_type": "KSampler",
        "inputs": {
            **{"seed": 3, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
            **{"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]},
        },
    },
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """All that the guides' commands name and that is small or ships."""
    photo = Image.open(ROOT / "examples" / "collins.jpg")
    small, face = photo.resize((48, 60)), photo.crop((60, 20, 316, 276)).resize((512, 512))
    monkeypatch.chdir(tmp_path)
    for name in ("album/1960", "scans", "photos/10_zkz", "masks", "faces", "drawings", "moved", "out"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "photo.png",
        "picture.png",
        "drawing.png",
        "album/a.jpg",
        "album/1960/b.jpg",
        "scans/1.jpg",
        *(f"{name}.jpg" for name in ("collins", "silk", "slide", "yellowed", "small", "lamplight", "tiny")),
        *("newspaper.png", "scratched.png"),
    ):
        small.save(name)
    group = Image.new("RGB", (288, 120))
    for x in (0, 96, 192):
        group.paste(photo.resize((96, 120)), (x, 0))
    group.save("photo.jpg", quality=95)  # three faces to choose from
    shutil.copy("photo.jpg", "moved")
    data = (tmp_path / "photo.jpg").read_bytes()
    (tmp_path / "cut-off.jpg").write_bytes(data[: len(data) * 2 // 3])
    pillow_heif.from_pillow(small).save("phone.heic")
    tifffile.imwrite("scan.tif", np.asarray(small, np.uint16) * 257, photometric="rgb")
    tifffile.imwrite("pages.tif", np.stack([np.asarray(small)] * 2), photometric="rgb")
    face.save("face.png")
    _scan_of_two(photo).save("flatbed.png")
    _grey_with_strokes(photo, tmp_path)
    for n in range(4):
        photo.rotate(n, expand=False).save(f"photos/10_zkz/{n}.jpg")
        Image.new("L", photo.size, 255).save(f"masks/{n}.png")
        face.rotate(n).save(f"faces/{n}.png")
        small.rotate(n).save(f"drawings/{n}.png")
        (tmp_path / f"drawings/{n}.txt").write_text(f"drawing {n}\n")
    Image.fromarray(np.indices((60, 48))[0].astype(np.uint8) * 4).save("mask.png")
    told = PngImagePlugin.PngInfo()
    told.add_text("parameters", PARAMETERS)
    small.save("from-a1111.png", pnginfo=told)
    told = PngImagePlugin.PngInfo()
    told.add_text("prompt", json.dumps(COMFYUI_GRAPH))
    small.save("from-comfyui.png", pnginfo=told)
    for name, content in SETTINGS_FILES.items():
        (tmp_path / name).write_text(content)
    for name in ("grandma", "ink"):
        shutil.copy(ROOT / "tests/data/head/out/grandma.safetensors", f"{name}.safetensors")
    webui = tmp_path / "stable-diffusion-webui/models/Lora"
    webui.mkdir(parents=True)
    shutil.copy("ink.safetensors", webui / "webui.safetensors")
    for name, value in (("HOME", tmp_path / "home"), ("OFFLINE", 1), ("MEMORY", 4), ("DEVICE", "cpu")):
        monkeypatch.setenv(f"CALOTYPE_{name}", str(value))
    for name in ("grandma", "ink"):
        assert main(["models", "add", f"{name}.safetensors"]) == 0
    return tmp_path


def _scan_of_two(photo):
    """Two photos on a white scan, one of them turned."""
    scan = Image.new("RGB", (500, 330), (250, 250, 250))
    scan.paste(photo.resize((192, 240)), (20, 30))
    turned = photo.resize((160, 200)).convert("RGBA").rotate(5, Image.Resampling.BICUBIC, expand=True)
    scan.paste(turned, (270, 60), turned)
    return scan


def _grey_with_strokes(photo, folder):
    """A grey photo, strokes for it on a layer and painted over it, a folder of it, and a photo in colour."""
    grey, layer = photo.resize((96, 120)).convert("L"), Image.new("RGBA", (96, 120))
    ImageDraw.Draw(layer).line([(30, 90), (60, 100)], (230, 110, 60, 255), 5)
    grey.save(folder / "grey.png")
    layer.save(folder / "strokes.png")
    Image.alpha_composite(grey.convert("RGBA"), layer).convert("RGB").save(folder / "painted.png")
    (folder / "bw").mkdir()
    grey.save(folder / "bw" / "1.png")
    photo.resize((96, 120)).save(folder / "summer.jpg", quality=95)


def is_at_hand(line):
    return line.removeprefix("calotype ") in AT_HAND or not any(name in line for name in NOT_HERE)


def quickened(line):
    """The arguments, and what makes them quick."""
    arguments = words(line)
    if arguments[0] == "train" and arguments[1] != "caption" and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    if arguments[0] == "restore" and "--speed" not in arguments:
        arguments += ["--upscaler", "realesr-animevideov3"]
    if arguments[0] == "imagine" and "steps=" not in line:
        arguments += ["--steps", "1"]
    return arguments


def run_all(lines, capsys):
    """Runs what can be run of the commands. Returns how many that were."""
    run = 0
    for line in lines:
        arguments = quickened(line)
        if is_named_alone(arguments) or "--help" in arguments or not is_at_hand(line):
            continue
        assert main(arguments) == 0, (line, capsys.readouterr().err[-2000:])
        run += 1
    return run


def is_named_alone(arguments):
    """Whether the text only names a command, such as `calotype models add`."""
    if arguments[0] in ("serve", "worker", "mcp", "bot"):  # these run until they are stopped
        return True
    return arguments[0] in ("train", "models") and len(arguments) < 3 and arguments[1:] not in (["list"], ["verify"])


def test_the_commands_that_run_no_network_run(folder, capsys):
    lines = [line for guide in GUIDES for line in commands(f"docs/{guide}.md") if line.startswith(CHEAP)]
    assert run_all(lines, capsys) > 12


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_the_commands_of_a_guide_run_one_after_the_other(guide, folder, capsys):
    assert run_all(commands(f"docs/{guide}.md"), capsys) > 3
