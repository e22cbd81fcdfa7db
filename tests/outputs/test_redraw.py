"""From the parameters of any program to a task, with notes about what is not followed."""

import json
from pathlib import Path

import numpy as np
import pytest

from calotype.errors import CalotypeError
from calotype.outputs.redraw import task_from_parameters
from calotype.picture import Picture
from calotype.picture.picture import Metadata

STEPS = "Steps: 6, Sampler: Euler, CFG scale: 3.5, Seed: 9, Size: 64x72, Model: emoji"
INSTALLED = {
    "diffusion": ["emoji", "My.Model v2"],
    "lora": ["Mine", "mine_v2"],
    "vae": ["vae-ft"],
    "upscale": ["realesrgan-x4plus", "4x-UltraSharp.pth"],
}


def task(text, keyword="parameters", size=(72, 64), **given):
    value = text if isinstance(text, str) else json.dumps(text)
    texts = {keyword: value, "Software": "NovelAI" if keyword == "Comment" else ""}
    picture = Picture(np.zeros((*size, 3), np.uint8), metadata=Metadata(texts=texts))
    drawn, notes = task_from_parameters(picture, Path("old.png"), lambda kind: INSTALLED.get(kind, ()), given)
    return drawn, " ".join(map(str, notes))


def test_all_that_an_infotext_says():
    drawn, notes = task(
        f"a cat\nNegative prompt: dog\n{STEPS}, Schedule type: Karras, VAE: vae-ft.safetensors, Clip skip: 2, "
        "Variation seed: 5, Variation seed strength: 0.25, Seed resize from: 32x32, CFG Rescale: 0.5, Tiling: True, "
        "RNG: CPU, Emphasis: No norm"
    )
    assert notes == ""
    assert (drawn.prompt, drawn.negative, drawn.sampler, drawn.schedule) == ("a cat", "dog", "Euler", "karras")
    assert (drawn.seed, drawn.steps, drawn.guidance, drawn.size, drawn.vae) == (9, 6, 3.5, "64x72", "vae-ft")
    assert (drawn.clip_skip, drawn.variation_seed, drawn.variation, drawn.seed_resize) == (2, 5, 0.25, "32x32")
    assert (drawn.rescale, drawn.tiling, drawn.noise, drawn.emphasis) == (0.5, True, "cpu", "no-norm")


@pytest.mark.parametrize(
    "upscaler, right, has_note",
    [
        ("Latent", "latent", False),
        ("Latent (nearest-exact)", "latent (nearest-exact)", False),
        ("R-ESRGAN 4x+", "realesrgan-x4plus", False),
        ("4x-UltraSharp", "4x-UltraSharp.pth", False),
        ("4X-UltraSharp.pth", "4x-UltraSharp.pth", False),
        ("Lanczos", "lanczos", False),
        ("None", "lanczos", False),
        ("Nearest", "lanczos", False),
        ("SwinIR_4x", "lanczos", True),
        ("/etc/passwd", "lanczos", True),
    ],
)
def test_upscalers_of_the_second_pass(upscaler, right, has_note):
    hires = f"Denoising strength: 0.5, Hires resize: 96x144, Hires steps: 4, Hires upscaler: {upscaler}"
    drawn, notes = task(f"a cat\n{STEPS}, {hires}")
    assert (drawn.hires, drawn.hires_steps, drawn.hires_strength, drawn.hires_upscaler) == (2.0, 4, 0.5, right)
    assert ("is not installed, lanczos is used" in notes) == has_note


def test_what_is_not_followed_is_named():
    hires = "Denoising strength: 0.8, Hires upscale: 2, Hires upscaler: Latent"
    _, notes = task(f'a cat\n{STEPS}, {hires}, Hires prompt: "rocket, noto", Refiner: xl, ENSD: 31337, Version: v1.10')
    assert notes == "its parameters are not all followed: Hires prompt (rocket, noto), Refiner (xl), ENSD (31337)"
    _, notes = task(f"a cat\n{STEPS}, " + ", ".join(f"Field {n}: {n}" for n in range(20)))
    assert notes.endswith("Field 11 (11) and 8 more")
    _, notes = task(f"a cat\n{STEPS}, Odd\x1b field: \x1b[2J, Other: x")
    assert "\x1b" not in notes


@pytest.mark.parametrize(
    "old, has_note",
    [("Default", True), ("DPM++ 2S a Karras", True), ("Restart", True), ("DPM fast", True), ("DDIM", False)],
)
def test_samplers_that_are_not_there(old, has_note):
    drawn, notes = task(f"a cat\n{STEPS.replace('Euler', old)}")
    assert bool(notes) == has_note and drawn.steps == 6


def test_models_by_any_name():
    for name in ("My.Model v2", "SD15\\my.model v2.safetensors", "my.Model V2.ckpt [0123abcd]"):
        assert task(f"a\n{STEPS.replace('emoji', name)}")[0].model == "My.Model v2"
    for name in ("other", "/etc/passwd", "../emoji/x", "emoji\x1b"):
        with pytest.raises(CalotypeError, match="is not installed; add it, or give another with model"):
            task(f"a\n{STEPS.replace('emoji', name)}")
    assert task(f"a\n{STEPS.replace('emoji', 'other')}", model="emoji")[0].model == "emoji"
    drawn, notes = task(f"a\n{STEPS.replace(', Model: emoji', '')}")
    assert drawn.model == "emoji" and notes == "its parameters name no model, the default is used"


def test_loras_that_are_installed_and_not():
    drawn, notes = task(f"a <lora:mine:0.5> cat <lora:/etc/passwd:1><lora:x:1>\n{STEPS}")
    assert drawn.prompt == "a <lora:Mine:0.5> cat"
    assert notes == "the LoRA passwd is not installed and left out the LoRA x is not installed and left out"
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "emoji.safetensors"}},
        "2": {
            "class_type": "LoraLoader",
            "inputs": {
                "lora_name": "a/mine_V2.safetensors",
                "strength_model": 0.5,
                "strength_clip": 1,
                "model": ["1", 0],
            },
        },
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 2**64 - 1,
                "steps": 4,
                "cfg": 2,
                "sampler_name": "euler",
                "scheduler": "normal",
                "model": ["2", 0],
            },
        },
    }
    drawn, notes = task(graph, "prompt")
    assert drawn.lora == "mine_v2:1:0.5" and drawn.seed == 2**64 - 1 and drawn.size == "64x72" and notes == ""


def test_the_size_of_the_picture_where_none_is_told():
    novel = {"steps": 6, "sampler": "ddim", "seed": 40, "strength": 0.69, "noise": 0.667, "scale": 5.0, "uc": "blob"}
    drawn, notes = task(novel, "Comment", size=(128, 192))
    assert (drawn.size, drawn.sampler, drawn.negative, drawn.init) == ("192x128", "DDIM", "blob", None)
    assert notes == "its parameters name no model, the default is used"


@pytest.mark.parametrize("told", ["Denoising strength: 0.6", "Mask blur: 4, Inpaint area: Only masked"])
def test_a_picture_made_from_another_needs_it(told):
    with pytest.raises(
        CalotypeError, match="was made from another picture, which its parameters don't contain; give it"
    ):
        task(f"a\n{STEPS}, {told}")
    drawn, _ = task(f"a\n{STEPS}, {told}", init="first.png")
    assert drawn.init == Path("first.png") and drawn.strength == (0.6 if "0.6" in told else 0.75)


def test_a_mask_and_its_options():
    told = "Mask blur: 7, Inpaint area: Only masked, Masked area padding: 16, Masked content: latent noise"
    drawn, notes = task(f"a\n{STEPS}, {told}", init="first.png", mask="mask.png")
    assert (drawn.mask_blur, drawn.only_masked, drawn.padding, drawn.fill) == (7, True, 16, "noise") and notes == ""
    drawn, notes = task(f"a\n{STEPS}, {told}", init="first.png")
    assert (drawn.mask, drawn.mask_blur) == (None, 4) and notes.startswith("it was made with a mask")


def test_options_of_the_person_come_first():
    drawn, notes = task(f"a\n{STEPS.replace('Euler', 'Default')}", sampler="Heun", steps=3, seed=1, prompt="b")
    assert (drawn.sampler, drawn.steps, drawn.seed, drawn.prompt, drawn.guidance, notes) == ("Heun", 3, 1, "b", 3.5, "")
    assert task(f"a\n{STEPS.replace('Steps: 6', 'Steps: 99999')}", steps=3)[0].steps == 3
    with pytest.raises(CalotypeError, match="steps"):
        task(f"a\n{STEPS.replace('Steps: 6', 'Steps: 99999')}")
    with pytest.raises(CalotypeError, match="no sampler is named"):
        task(f"a\n{STEPS}", sampler="Default")


def test_what_is_missing_is_said():
    _, notes = task(f"a\n{STEPS.replace('Seed: 9, ', '')}")
    assert notes == "its parameters have no seed, a random one is used"
    for text in ("a cat", "{}", ""):
        with pytest.raises(CalotypeError, match="no record and no generation parameters"):
            task(text)
