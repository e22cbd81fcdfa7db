"""Parameters of every program but A1111 and ComfyUI, whose files have tests of their own."""

import json
import time
from dataclasses import fields

import pytest

from calotype.dialects import easydiffusion, novelai, samplers
from calotype.dialects.emphasis import from_comfyui, from_compel
from calotype.dialects.parameters import Parameters, file_stem
from calotype.dialects.readers import is_parameters, read_parameters
from calotype.samplers import SAMPLERS, SCHEDULES, sampler_named
from calotype.tasks.prompts import LoraRef

FOOOCUS = {
    **{"adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "emoji", "base_model_hash": "aa", "full_prompt": ["a", "b"]},
    **{"guidance_scale": 4, "loras": [["x.safetensors", 0.5, "h"]], "metadata_scheme": "fooocus", "prompt": "cat"},
    **{"negative_prompt": "bad", "performance": "Speed", "refiner_model": "None", "refiner_switch": 0.5, "steps": 30},
    **{"resolution": "(1152, 896)", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "123"},
    **{"sharpness": 2, "styles": "['Fooocus V2']", "vae": "Default (model)", "version": "Fooocus v2.5.0"},
}
OLD_FOOOCUS = {
    **{"Prompt": "cat", "Negative Prompt": "bad", "Styles": "[]", "Performance": "Speed", "Resolution": "(64, 72)"},
    **{"Guidance Scale": 4, "Base Model": "emoji.safetensors", "Sampler": "euler", "Scheduler": "karras", "Seed": 5},
    **{"LoRA 1": "x.safetensors : 0.25", "LoRA 2": "None : 1.0", "Steps": 7},
}
RUINED = {
    **{"Prompt": "cat", "Negative": "bad", "steps": 7, "cfg": 4, "width": 64, "height": 72, "seed": 5},
    **{"sampler_name": "euler", "scheduler": "karras", "base_model_name": "emoji", "software": "RuinedFooocus"},
}
SWARM = {
    "sui_image_params": {
        **{"prompt": "cat", "negativeprompt": "bad", "model": "SD/emoji", "seed": 3, "steps": 4, "cfgscale": 7.0},
        **{"width": 64, "height": 72, "loras": ["x", "y"], "loraweights": ["0.5"], "swarm_version": "0.9"},
        **{"refinerupscale": 2, "refinercontrolpercentage": 0.4, "refinerupscalemethod": "model-4x.pth"},
        **{"clipstopatlayer": -2, "freeu": True},
    },
    "sui_extra_data": {"date": "2025-01-01"},
}
INVOKE = {
    **{"generation_mode": "txt2img", "positive_prompt": "cat++ (big)1.2", "negative_prompt": "bad", "width": 64},
    **{"height": 72, "seed": 5, "rand_device": "cpu", "cfg_scale": 3.5, "steps": 6, "scheduler": "dpmpp_2m_k"},
    **{"model": {"key": "x", "name": "emoji", "base": "sd-1"}, "app_version": "4.2.7", "controlnets": [{"a": 1}]},
    **{"loras": [{"lora": {"model_name": "x"}, "weight": 0.5}, {"model": {"name": "y"}, "weight": 1}], "clip_skip": 1},
}
OLD_INVOKE = {
    "model_weights": "emoji",
    "image": {
        **{"prompt": [{"prompt": "cat [bad]", "weight": 1}], "steps": 6, "seed": 5, "sampler": "k_euler_a"},
        **{"width": 64, "height": 72, "cfg_scale": 3, "type": "txt2img", "threshold": 0, "variations": [], "perlin": 0},
    },
}
HORDE = {
    "prompt": "cat ### bad",
    "params": {
        **{"sampler_name": "k_dpmpp_2m", "karras": True, "cfg_scale": 5, "seed": "77", "width": 64, "height": 72},
        **{
            "steps": 9,
            "clip_skip": 2,
            "loras": [{"name": "x", "model": 0.5, "clip": 1}],
            "post_processing": ["GFPGAN"],
        },
        **{"hires_fix": False, "n": 1, "tiling": False},
    },
    "models": ["Deliberate"],
    "nsfw": False,
}
NOVEL = {
    **{"prompt": "cat", "steps": 6, "height": 72, "width": 64, "scale": 6.0, "uncond_scale": 1.0, "cfg_rescale": 0.2},
    **{"seed": 123, "n_samples": 1, "noise_schedule": "native", "sampler": "k_dpmpp_2m_sde", "uc": "bad", "sm": True},
    "v4_prompt": {"caption": {"base_caption": "cat", "char_captions": [{"char_caption": "girl", "centers": []}]}},
}
NOVEL_TEXTS = {"Software": "NovelAI", "Source": "NovelAI Diffusion V4 1A", "Description": "cat"}


EASY = {
    **{"prompt": "cat++", "negative_prompt": "bad", "seed": 5, "num_inference_steps": 6, "guidance_scale": 3.5},
    **{"width": 64, "height": 72, "use_stable_diffusion_model": "emoji", "sampler_name": "euler_a", "clip_skip": True},
    **{"use_lora_model": ["x", "y"], "lora_alpha": [0.5, 1], "use_vae_model": None, "tiling": "xy"},
}
INVOKE_300 = {
    **{"type": "t2l", "positive_conditioning": "cat", "negative_conditioning": "bad", "width": 64, "height": 72},
    **{"seed": 5, "cfg_scale": 3.5, "steps": 6, "scheduler": "ddim", "model": "null", "clip": {"skipped_layers": 1}},
    "unet": {"model_name": "emoji", "base_model": "sd-1", "loras": [{"model_name": "x", "weight": 0.5}]},
}
MRE = {
    **{"prompt": "cat", "negative_prompt": "bad", "styles": [], "seed": 5, "width": 64, "height": 72, "cfg": 4},
    **{"sampler": "euler", "scheduler": "karras", "performance": "Speed", "steps": 7, "base_clip_skip": -2},
    **{"base_model": "emoji", "l1": "x.safetensors", "w1": 0.25, "l2": "None", "w2": 0.5},
}


def read(value, keyword="parameters", **texts):
    return read_parameters({**texts, keyword: value if isinstance(value, str) else json.dumps(value)})


TOLD = [
    (read(FOOOCUS), ("Fooocus", "cat", "bad", 123, 30, 4, (1152, 896), "emoji")),
    (read(OLD_FOOOCUS), ("Fooocus", "cat", "bad", 5, 7, 4, (64, 72), "emoji.safetensors")),
    (read(RUINED, "UserComment"), ("RuinedFooocus", "cat", "bad", 5, 7, 4, (64, 72), "emoji")),
    (read(SWARM, "UserComment"), ("SwarmUI", "cat", "bad", 3, 4, 7, (64, 72), "SD/emoji")),
    (read(INVOKE, "invokeai_metadata"), ("InvokeAI", "(cat:1.21) (big:1.2)", "bad", 5, 6, 3.5, (64, 72), "emoji")),
    (read(OLD_INVOKE, "sd-metadata"), ("InvokeAI", "cat", "bad", 5, 6, 3, (64, 72), "emoji")),
    (read(HORDE, "UserComment"), ("AI Horde", "cat", "bad", 77, 9, 5, (64, 72), "Deliberate")),
    (read(NOVEL, "Comment", **NOVEL_TEXTS), ("NovelAI", "cat", "bad", 123, 6, 6, (64, 72), "NovelAI Diffusion V4 1A")),
    # NovelAI's WebP (Aaalice_NAI_Launcher #103): all texts of a PNG in the EXIF comment
    (
        read({**NOVEL_TEXTS, "Comment": json.dumps(NOVEL)}, "UserComment"),
        ("NovelAI", "cat", "bad", 123, 6, 6, (64, 72), "NovelAI Diffusion V4 1A"),
    ),
    (read(NOVEL, "UserComment"), ("NovelAI", "cat", "bad", 123, 6, 6, (64, 72), "")),
    # easydiffusion #1552: in a PNG's texts, by both of their names, and in the comment of the others
    (read(EASY, "UserComment"), ("Easy Diffusion", "(cat:1.21)", "bad", 5, 6, 3.5, (64, 72), "emoji")),
    (
        read_parameters({name: str(value) for name, value in EASY.items()}),
        ("Easy Diffusion", "(cat:1.21)", "bad", 5, 6, 3.5, (64, 72), "emoji"),
    ),
    (
        read_parameters({label: str(EASY[name]) for label, name in easydiffusion.LABELS.items() if name in EASY}),
        ("Easy Diffusion", "(cat:1.21)", "bad", 5, 6, 3.5, (64, 72), "emoji"),
    ),
    (read(INVOKE_300, "invokeai_metadata"), ("InvokeAI", "cat", "bad", 5, 6, 3.5, (64, 72), "emoji")),  # #3738
    # in the EXIF comment of JPEG and WebP, alone or by the keywords of a PNG
    (read(INVOKE, "UserComment"), ("InvokeAI", "(cat:1.21) (big:1.2)", "bad", 5, 6, 3.5, (64, 72), "emoji")),
    (read(INVOKE_300, "comment"), ("InvokeAI", "cat", "bad", 5, 6, 3.5, (64, 72), "emoji")),
    (read(OLD_INVOKE, "UserComment"), ("InvokeAI", "cat", "bad", 5, 6, 3, (64, 72), "emoji")),
    (
        read({"invokeai_metadata": INVOKE_300, "invokeai_graph": {}}, "UserComment"),
        ("InvokeAI", "cat", "bad", 5, 6, 3.5, (64, 72), "emoji"),
    ),
    (
        read({"sd-metadata": json.dumps(OLD_INVOKE)}, "parameters"),
        ("InvokeAI", "cat", "bad", 5, 6, 3, (64, 72), "emoji"),
    ),
    (read(MRE, "Comment"), ("Fooocus", "cat", "bad", 5, 7, 4, (64, 72), "emoji")),  # Fooocus-MRE #128
    (
        read('"cat [bad]" -s 6 -S5 -W 64 -H72 -C 3 -A k_lms', "Dream"),
        ("InvokeAI", "cat", "bad", 5, 6, 3, (64, 72), ""),
    ),
]


@pytest.mark.parametrize("told, right", TOLD, ids=range(len(TOLD)))
def test_prompt_seed_steps_guidance_size_and_model(told, right):
    size = told.width, told.height
    assert (told.program, told.prompt, told.negative, told.seed, told.steps, told.guidance, size, told.model) == right
    shown = told.fields()
    assert (shown["Prompt"], shown["Seed"], shown["Size"]) == (told.prompt, str(told.seed), f"{size[0]}x{size[1]}")


def test_samplers_loras_and_what_is_not_followed():
    for easy in (read(EASY), read_parameters({name: str(value) for name, value in EASY.items()})):
        assert easy.loras == (LoraRef("x", 0.5, 0.5), LoraRef("y", 1.0, 1.0))
        assert (easy.clip_skip, easy.tiling, easy.vae, dict(easy.unfollowed)) == (2, True, "", {})
    assert read(EASY | {"tiling": "x", "use_upscale": "RealESRGAN_x4plus"}).unfollowed.keys() == {
        "tiling",
        "use_upscale",
    }
    invoke = read(INVOKE_300, "invokeai_metadata")
    assert (invoke.loras, invoke.clip_skip, dict(invoke.unfollowed)) == ((LoraRef("x", 0.5, 0.5),), 2, {})
    mre = read(MRE)
    assert (mre.loras, mre.clip_skip) == ((LoraRef("x.safetensors", 0.25, 0.25),), 2)
    told = read(FOOOCUS)
    assert (told.sampler, told.schedule, told.vae) == ("dpmpp_2m_sde_gpu", "karras", "")
    assert told.loras == (LoraRef("x.safetensors", 0.5, 0.5),)
    assert set(told.unfollowed) == {"adm_guidance", "sharpness", "styles"}
    assert read(OLD_FOOOCUS).loras == (LoraRef("x.safetensors", 0.25, 0.25),) and not read(OLD_FOOOCUS).unfollowed
    told = read(SWARM)
    assert told.loras == (LoraRef("x", 0.5, 0.5), LoraRef("y")) and told.clip_skip == 2
    assert (told.hires.scale, told.hires.strength, told.hires.upscaler) == (2, 0.4, "4x.pth")
    assert set(told.unfollowed) == {"freeu"} and told.information["date"] == "2025-01-01"
    told = read(INVOKE, "invokeai_metadata")
    assert (told.sampler, told.schedule, told.clip_skip) == ("dpmpp_2m_k", "karras", 2)
    assert told.loras == (LoraRef("x", 0.5, 0.5), LoraRef("y")) and set(told.unfollowed) == {"controlnets"}
    second = {"hrf_enabled": True, "hrf_method": "ESRGAN", "hrf_strength": 0.45}
    assert {*second} <= {*read({**INVOKE, **second}, "invokeai_metadata").unfollowed}
    told = read(HORDE)
    assert (told.schedule, told.clip_skip, told.loras) == ("karras", 2, (LoraRef("x", 1.0, 0.5),))
    assert set(told.unfollowed) == {"post_processing"}
    told = read(NOVEL, "Comment", **NOVEL_TEXTS)
    assert (told.sampler, told.schedule, told.rescale, told.has_own_model) == ("k_dpmpp_2m_sde", "uniform", 0.2, True)
    assert dict(told.unfollowed) == {"sm": "true", "Character prompts": "girl"}


@pytest.mark.parametrize(
    "value, keyword",
    [
        ({**NOVEL, "request_type": "Img2ImgRequest", "strength": 0.6}, "Comment"),
        ({**INVOKE, "generation_mode": "sdxl_img2img", "strength": 0.6}, "invokeai_metadata"),
        ({"image": {**OLD_INVOKE["image"], "type": "img2img", "strength": 0.6}}, "sd-metadata"),
        ({**HORDE, "source_image": "x", "params": {**HORDE["params"], "denoising_strength": 0.6}}, "parameters"),
        ({"sui_image_params": {**SWARM["sui_image_params"], "initimagecreativity": 0.6}}, "parameters"),
    ],
)
def test_pictures_made_from_others(value, keyword):
    told = read(value, keyword, Software="NovelAI" if keyword == "Comment" else "")
    assert told.is_from_picture and told.strength == 0.6


@pytest.mark.parametrize(
    "text, right",
    [
        ("{{girl}} (x)", r"(girl:1.103) \(x\)"),
        ("apple, [[shadow]], //four", "apple, (shadow:0.907), //four"),
        ("{a [b]} c}", "(a (b:0.9524):1.05) c"),
        ("{{a} b}", "((a:1.05) b:1.05)"),
        ("1.5::x y::, -1::z::", "(x y:1.5), (z:-1)"),
        (r"\(x\)", r"\(x\)"),
    ],
)
def test_weights_of_novelai(text, right):
    assert novelai.weights_converted(text) == right


def test_weights_of_compel_and_comfyui():
    text = r"a word++ (two words)-, (x y)1.3 (plain) [lit] semi-- \(esc\) self-made A+B"
    assert from_compel(text) == (
        r"a (word:1.21) (two words:0.9), (x y:1.3) plain \[lit\] (semi:0.81) \(esc\) self-made A+B"
    )
    assert from_compel("((a b)1.2 c)+") == "((a b:1.2) c:1.1)" and from_compel("((a)b(") == "ab"
    assert from_comfyui(r"[a] (b:1.2) \[c\]") == r"\[a\] (b:1.2) \[c\]"


@pytest.mark.parametrize(
    "sampler, schedule, right, has_note",
    [
        ("DPM++ 2M Karras", "", ("DPM++ 2M", "karras"), False),
        ("DPM++ 2M SDE Karras", "Automatic", ("DPM++ 2M SDE", "karras"), False),
        ("k_dpmpp_2s_a", "", ("DPM++ SDE", "automatic"), True),
        ("Restart", "Automatic", ("DPM++ 2M SDE", "automatic"), True),
        ("DPM fast", "Karras", ("DPM++ 2M", "karras"), True),
        ("Default", "", ("auto", "automatic"), True),
        ("dpmpp_2m_sde_gpu", "karras", ("DPM++ 2M SDE", "karras"), False),
        ("euler_ancestral", "normal", ("Euler a", "normal"), False),
        ("uni_pc_bh2", "simple", ("UniPC", "sgm uniform"), True),
        ("kdpm_2_a_k", "karras", ("DPM2 a", "karras"), False),
        ("k_dpm_2_a", "", ("DPM2 a", "automatic"), False),
        ("ddim", "ddim_uniform", ("DDIM", "ddim"), False),
        ("ddim", "karras", ("Euler", "karras"), False),
        ("lcm", "sgm_uniform", ("LCM", "automatic"), True),
        ("LCM", "Lcm", ("LCM", "automatic"), False),
        ("LMS", "kl_optimal", ("LMS", "karras"), True),
        ("euler_k", "", ("Euler", "karras"), False),
        ("", "", ("auto", "automatic"), False),
        ("x" * 10_000, "\n\x1b", ("auto", "automatic"), True),
    ],
)
def test_samplers_of_other_programs(sampler, schedule, right, has_note):
    name, found, notes = samplers.resolve(sampler, schedule)
    assert (name, found) == right and bool(notes) == has_note
    assert name == "auto" or sampler_named(name, found)


def test_tables_of_samplers_name_ours():
    assert {*samplers.SAME.values(), *samplers.NEAREST.values()} <= SAMPLERS.keys()
    assert {*samplers.SCHEDULE_NAMES.values(), *samplers.NEAREST_SCHEDULES.values()} <= {*SCHEDULES}


@pytest.mark.parametrize(
    "name", ["SD\\a.b.safetensors [0123abcd]", "a.b.safetensors", "x/y/a.b.ckpt", "a.b", " a.b [0123abcd]"]
)
def test_names_of_models(name):
    assert file_stem(name) == "a.b"


def test_a_persons_words_are_no_parameters():
    for text in (
        "Summer 2019, at the lake",
        '{"positive_prompt": "x"}',
        '{"image": {"prompt": "x"}}',
        "a: b, c: d, e: f",
        "{}",
        '{"a": 1}',
        "[]",
        "{" * 50,
        "",
        "Steps: go on",
    ):
        assert not is_parameters(text)
    assert is_parameters(json.dumps(SWARM)) and is_parameters("a\nSteps: 1, Sampler: Euler, Seed: 3")
    assert read_parameters({"Description": "a lake", "Software": "GIMP", "Comment": "at dawn"}) is None
    assert read('{"some": "json"}') is None and read("a cat").prompt == "a cat"


WRONG = [None, True, "x", -1, 2**70, 1e400, [], {}, [[1]], [None], {"a": 1}, "9" * 5000, {"caption": 3}, [[], {}]]


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_any_field_may_have_a_wrong_type(value):
    inner = [
        (SWARM, "sui_image_params", "parameters"),
        (OLD_INVOKE, "image", "sd-metadata"),
        (HORDE, "params", "parameters"),
    ]
    cases = [(data, None, key) for data, key in ((FOOOCUS, "parameters"), (OLD_FOOOCUS, "parameters"))]
    cases += [(INVOKE, None, "invokeai_metadata"), (INVOKE, None, "UserComment"), (NOVEL, None, "Comment"), *inner]
    for data, inside, keyword in cases:
        for name in data[inside] if inside else data:
            changed = {**data, inside: {**data[inside], name: value}} if inside else {**data, name: value}
            told = read(changed, keyword, Software="NovelAI" if keyword == "Comment" else "")
            assert told is None or _is_sound(told)


def _is_sound(told: Parameters) -> bool:
    kinds = {"seed": int, "steps": int, "width": int, "height": int, "guidance": float, "prompt": str, "model": str}
    assert all(isinstance(getattr(told, name), (kind, type(None))) for name, kind in kinds.items())
    assert all(isinstance(key, str) and isinstance(text, str) for key, text in told.fields().items())
    return {spec.name for spec in fields(told)} >= kinds.keys()


@pytest.mark.parametrize(
    "text",
    [
        *("{" * 100_000, '{"a":' * 50_000, "[" * 10**6, "1::" * 30_000, "(" * 50_000, "word" + "+" * 50_000),
        *('{"sui_image_params":' * 5000 + "1" + "}" * 5000, "Negative prompt:" * 5000, "Steps: 1, " * 20_000),
    ],
    ids=range(9),
)
def test_deep_and_long_texts_take_no_time(text):
    begun = time.process_time()
    for keyword in ("parameters", "Comment", "prompt", "invokeai_metadata", "Dream", "sd-metadata"):
        read(text, keyword, Software="NovelAI")
    read({**NOVEL, "uc": text}, "Comment")
    read({**INVOKE, "positive_prompt": text}, "invokeai_metadata")
    assert time.process_time() - begun < 2
