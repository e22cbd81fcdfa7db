"""A picture that A1111's API made is the command line's: the same parameters and pixels, and `again` remakes it."""

import base64
import io
import json

import pytest
from PIL import Image

from calotype.api.service import Service
from calotype.api.settings import ServiceSettings
from calotype.cli import main
from calotype.jobs.store import JobStore
from tests.api.conftest import client_of, drawing

SIZE = {"width": 64, "height": 64, "steps": 2}
CASES = {
    "plain": ("txt2img", {"seed": 5}, ["--seed", "5"], 0),
    "sampler": (
        "txt2img",
        {"negative_prompt": "text", "sampler_name": "DPM++ 2M Karras", "seed": 6, "cfg_scale": 4.5},
        ["--negative", "text", "--sampler", "DPM++ 2M Karras", "--seed", "6", "--guidance", "4.5"],
        0,
    ),
    "batch": ("txt2img", {"seed": 7, "batch_size": 2, "n_iter": 2}, ["--seed", "7", "--count", "4", "--batch", "2"], 3),
    "hires": (
        "txt2img",
        {"seed": 8, "enable_hr": True, "hr_scale": 2, "denoising_strength": 0.6},
        ["--seed", "8", "--hires", "2", "--hires-strength", "0.6"],
        0,
    ),
    "variation": (
        "txt2img",
        {"seed": 9, "subseed": 4, "subseed_strength": 0.3, "override_settings": {"CLIP_stop_at_last_layers": 2}},
        ["--seed", "9", "--variation-seed", "4", "--variation", "0.3", "--clip-skip", "2"],
        0,
    ),
    "inpainting": (
        "img2img",
        {"seed": 3, "steps": 4, "denoising_strength": 0.8, "inpainting_fill": 2, "inpaint_full_res": False},
        ["--seed", "3", "--steps", "4", "--strength", "0.8", "--fill", "noise"],
        0,
    ),
}


@pytest.fixture(scope="module")
def client(shared_app, tmp_path_factory, small_settings):
    """Of a service with a real worker and a small model."""
    store = JobStore("", tmp_path_factory.mktemp("service"))
    shared_app.state.service = Service(store, small_settings, ServiceSettings())
    with drawing(store, small_settings):
        yield client_of(shared_app)
    store.close()


@pytest.fixture
def photo(tmp_path):
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def mask(tmp_path):
    picture = Image.new("L", (64, 64))
    picture.paste(255, (0, 0, 32, 64))
    picture.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("case", CASES)
def test_a_picture_of_the_api_is_that_of_the_command_line(case, client, small_settings, tmp_path, photo, mask, capsys):
    route, fields, flags, number = CASES[case]
    home = ["--home", str(small_settings.home), "--device", "cpu"]
    sources = {"init_images": [encoded(photo)], "mask": encoded(mask)} if route == "img2img" else {}
    fields = {"prompt": "(fox:1.2), noto", **SIZE, **sources, **fields}
    fields["override_settings"] = {"sd_model_checkpoint": "small", **fields.get("override_settings", {})}
    answer = client.post(f"/sdapi/v1/{route}", json=fields)
    assert answer.status_code == 200, answer.text
    made = tmp_path / "api.png"
    made.write_bytes(base64.b64decode(answer.json()["images"][number]))
    flags = ["--model", "small", "--size", "64x64", "--steps", "2", "--sampler", "Euler", "--guidance", "7", *flags]
    if route == "img2img":
        flags += ["--init", str(photo), "--mask", str(mask), "--resize", "stretch"]
    assert main(["imagine", "(fox:1.2), noto", *flags, "-o", str(tmp_path / "cli"), *home]) == 0, capsys.readouterr()
    drawn = sorted((tmp_path / "cli").glob("*.png"))[number]
    assert parameters(made) == parameters(drawn) == json.loads(answer.json()["info"])["infotexts"][number]
    assert "Model: small" in parameters(made) and "Seed: " in parameters(made)
    assert Image.open(made).tobytes() == Image.open(drawn).tobytes()
    photo.rename(tmp_path / "init")  # pictures of a request have the names of their options
    mask.rename(tmp_path / "mask")
    status = main(["again", str(made), "-o", str(tmp_path / "again.png"), *home])
    printed = capsys.readouterr()
    assert status == 0, printed
    assert str(tmp_path.parent).encode() not in made.read_bytes()  # no path of this computer
    assert (tmp_path / "again.png").read_bytes() == made.read_bytes()


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def parameters(path):
    return Image.open(io.BytesIO(path.read_bytes())).text["parameters"]
