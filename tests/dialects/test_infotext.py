"""A1111's line of parameters."""

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.dialects.infotext import format_infotext, parse_infotext, quoted, read
from calotype.tasks.prompts import LoraRef

OLD = """a (red:1.2) apple, <lora:foo:0.8>
on a table
Negative prompt: blurry, bad
hands
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1234, Size: 512x768, Model hash: fe4efff1e1, Model: sd-v1-4, \
Denoising strength: 0.7, Lora hashes: "foo: 0123456789ab, bar: ba9876543210", Version: v1.10.1"""


def test_an_old_picture_is_read():
    told = read(OLD)
    assert told.prompt == "a (red:1.2) apple, <lora:foo:0.8>\non a table"
    assert told.negative == "blurry, bad\nhands"
    assert (told.sampler, told.schedule, told.seed, told.guidance) == ("DPM++ 2M Karras", "", 1234, 7)
    assert (told.width, told.height, told.model, told.noise, told.clip_skip) == (512, 768, "sd-v1-4", "a1111", None)
    assert told.is_from_picture and told.strength == 0.7 and not told.unfollowed
    assert told.information["Lora hashes"] == "foo: 0123456789ab, bar: ba9876543210"


def test_a_last_line_with_two_pairs_is_prompt():
    assert parse_infotext("a cat\nlook: left, mood: sad").prompt == "a cat\nlook: left, mood: sad"
    assert read("a cat\nlook: left, mood: sad") is None and read("a: b, cc: d, ee: f") is None


PARAMETERS = "Steps: 6, Sampler: Euler, CFG scale: 3.5, Seed: 9, Size: 64x72, Model: emoji"


@pytest.mark.parametrize(
    "prompt, negative, text",
    [
        ("a cat", "blob", f"a cat\nNegative prompt: blob\n{PARAMETERS}"),
        ("a cat", "", f"a cat\n{PARAMETERS}"),
        ("", "", PARAMETERS),
        ("", "blob", f"Negative prompt: blob\n{PARAMETERS}"),
        ("a cat", "blob", f"a cat\r\nNegative prompt: blob\r\n{PARAMETERS}\0"),
        ("猫，微笑。（苹果）", "坏，手", f"猫，微笑。（苹果）\nNegative prompt：坏，手\n{PARAMETERS}"),
        ("猫", "", "猫\n" + PARAMETERS.replace(": ", "：").replace(", ", "，")),
        (
            'say "x, y"\nSteps: 2, of: three, kinds: here',
            "no",
            f'say "x, y"\nSteps: 2, of: three, kinds: here\nNegative prompt: no\n{PARAMETERS}',
        ),
        (
            "a cat",
            "blob",
            f"a cat\nNegative prompt: blob\n{PARAMETERS}\nTemplate: {{red|green}}, x: y\nNegative Template: b, c",
        ),
        ("a cat", "blob, bad", f"a cat Negative prompt: blob, bad {PARAMETERS}"),
        ("a cat", "", "a cat\n" + PARAMETERS.replace("Steps: 6, ", "") + ", Steps: 6"),
    ],
    ids=range(11),
)
def test_prompts_are_found_around_the_line_of_parameters(prompt, negative, text):
    told = read(text)
    assert (told.prompt, told.negative) == (prompt, negative)
    assert (told.steps, told.sampler, told.guidance, told.seed, told.model) == (6, "Euler", 3.5, 9, "emoji")
    assert (told.width, told.height) == (64, 72) and not told.unfollowed


def test_nested_values_of_extensions():
    text = (
        'cat\nSteps: 6, Sampler: Euler, Hashes: {"model": "ab", "lora:x": "cd"}, ADM Guidance: (1.5, 0.8), '
        'ControlNet 0: "Module: canny, Weight: 1.0", Civitai resources: [{"type":"lora","weight":0.5},{"a":"]"}], '
        'ADetailer prompt: "say \\"hi\\", face", Seed: 9, ADetailer model: face_yolov8n.pt'
    )
    fields = parse_infotext(text).fields
    assert fields["Hashes"] == '{"model": "ab", "lora:x": "cd"}' and fields["ADM Guidance"] == "(1.5, 0.8)"
    assert json.loads(fields["Civitai resources"])[1] == {"a": "]"} and fields["Seed"] == "9"
    told = read(text)
    assert set(told.unfollowed) == {"ADM Guidance", "ControlNet 0", "ADetailer prompt", "ADetailer model"}
    assert told.unfollowed["ADetailer prompt"] == 'say "hi", face'


def test_a_second_pass_and_what_differs_in_it():
    hires = "Denoising strength: 0.8, Hires upscale: 2, Hires steps: 4, Hires upscaler: Latent"
    told = read(f"cat\n{PARAMETERS}, {hires}")
    assert (told.hires.scale, told.hires.steps, told.hires.strength, told.is_from_picture) == (2, 4, 0.8, False)
    assert not list(told.differences()) and not told.unfollowed
    same = "Hires prompt: cat, Hires sampler: Euler, Hires CFG Scale: 3.5, Hires checkpoint: emoji.safetensors [0a1b]"
    assert not list(read(f"cat\n{PARAMETERS}, {hires}, {same}, Hires Module 1: Use same choices").differences())
    other = 'Hires prompt: "rocket, noto", Hires negative prompt: x, Hires sampler: DDIM, Hires CFG Scale: 9'
    assert list(read(f"cat\n{PARAMETERS}, {hires}, {other}").differences()) == [
        *("Hires prompt", "Hires negative prompt", "Hires sampler", "Hires CFG Scale"),
    ]


@pytest.mark.parametrize(
    "field",
    [
        "Refiner: xl [abc], Refiner switch at: 0.8",
        "Eta: 0.5",
        "ENSD: 31337",
        "Noise Schedule: Zero Terminal SNR",
        "Emphasis: Odd",
        "Token merging ratio: 0.5",
        "NGMS: 1",
        "Face restoration: CodeFormer",
        "Hypernet: x",
        "Steps2: 3",
        "Clip skip: two",
    ],
)
def test_fields_that_no_option_follows_are_named(field):
    told = read(f"cat\n{PARAMETERS}, {field}, Version: v1.10.1")
    assert set(told.unfollowed) == {part.split(":")[0] for part in field.split(", ")}


@pytest.mark.parametrize(
    "text, program, noise",
    [
        (f"a\n{PARAMETERS}, Version: v1.10.1", "A1111", "a1111"),
        (f"a\n{PARAMETERS}, RNG: CPU, Version: f2.0.1v1.10.1", "Forge", "cpu"),
        (f"a\n{PARAMETERS}, RNG: NV", "A1111", "a1111"),
        (f"a\n{PARAMETERS}, App: SD.Next, Version: 9a8a3fe, Operations: txt2img", "SD.Next", "a1111"),
        (f"a\n{PARAMETERS}, Version: Fooocus v2.5.0", "Fooocus", "cpu"),
        (f"a\n{PARAMETERS}, Version: ComfyUI", "ComfyUI", "cpu"),
    ],
)
def test_programs_are_told_apart(text, program, noise):
    told = read(text)
    assert (told.program, told.noise) == (program, noise) and not told.unfollowed


def test_fooocus_scheme_of_a1111_and_artbot():
    fooocus = f'a\n{PARAMETERS}, Lora weights: "x: 0.5, y_z: -1"'
    assert read(f"{fooocus}, Scheduler: karras").loras == (LoraRef("x", 0.5, 0.5), LoraRef("y_z", -1.0, -1.0))
    artbot = read("a robot\nSteps: 20, Sampler: k_euler, CFG scale: 9, Seed: 1, Size: 64x64, model: stable_diffusion")
    assert (artbot.model, artbot.sampler, artbot.steps) == ("stable_diffusion", "k_euler", 20)


@pytest.mark.parametrize("value", ["a, b", "a: b", 'say "x"', "two\nlines", "中文, 苹果", "back\\slash, x"])
def test_values_that_would_break_the_line_are_quoted(value):
    fields = parse_infotext(format_infotext("p", "", {"Steps": 1, "Odd": value, "Seed": 2, "Size": "8x8"})).fields
    assert fields["Odd"] == value and fields["Seed"] == "2"


def test_plain_values_are_not_quoted():
    assert quoted("DPM++ 2M") == "DPM++ 2M" and quoted(7.5) == "7.5"


# A prompt whose own line says "Negative prompt:", or whose spaces hang at line ends, is lost in A1111's form as well.
PROMPTS = st.text(min_size=0, max_size=60).filter(
    lambda text: (
        not re.search(r"negative prompt\s*[:：]|steps\s*[:：]\s*\d", text, re.I)
        and "\n".join(line.strip() for line in text.split("\n")).strip() == text
        and not set(text) & set("\0\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    )
)


@given(PROMPTS, PROMPTS, PROMPTS.filter(bool))
def test_what_is_written_is_read(prompt, negative, value):
    read_prompt, read_negative, fields = parse_infotext(
        format_infotext(prompt, negative, {"Steps": 20, "Sampler": "Euler a", "Model": value, "Seed": 5})
    )
    assert read_prompt == prompt and read_negative == negative
    assert fields["Model"] == value and fields["Steps"] == "20" and fields["Seed"] == "5"


@pytest.mark.parametrize(
    "text", ["a " * 40_000, 'ab:"' * 20_000, "a" * 80_000 + ":", "Steps: 1, a: [" * 9000, 'Steps: 1, b: {"x": ' * 6000]
)
def test_no_line_takes_long(text):
    begun = time.process_time()
    read(text)
    assert time.process_time() - begun < 2


FIELDS = "Steps: 6, Sampler: Euler a, CFG scale: 3.5, Seed: 7, Size: 128x96"


@pytest.mark.parametrize(
    "ending, right",
    [
        # stable-diffusion-webui #12128: values with line ends, in quotes or not
        (', W: "one\ntwo, (x:1.2)\n\nthree", Model: emoji', {"W": "one\ntwo, (x:1.2)\n\nthree", "Model": "emoji"}),
        (', A: "x\ny", B: "z,\n\\"w\\": 1", Model: emoji', {"A": "x\ny", "B": 'z,\n"w": 1', "Model": "emoji"}),
        (
            ", W: one\ntwo, __colour__\nHires upscale: 2, Hires upscaler: Lanczos, Model: emoji",
            {"W": "one\ntwo, __colour__", "Hires upscale": "2", "Hires upscaler": "Lanczos", "Model": "emoji"},
        ),
        (', T: "open\nTemplate: a, b: c\nUser: me', {"T": '"open', "Template": "a, b: c", "User": "me"}),
        (", Model: emoji\na note, below", {"Model": "emoji"}),
    ],
)
def test_values_over_several_lines(ending, right):
    prompt, negative, fields = parse_infotext(f"cat\nNegative prompt: bad\n{FIELDS}{ending}")
    assert (prompt, negative) == ("cat", "bad")
    assert {name: fields[name] for name in list(fields)[5:]} == right


def test_open_quotes_take_no_time():
    start = time.perf_counter()
    parse_infotext(f"{FIELDS}\n" + 'a: "b\n' * 20_000)
    assert time.perf_counter() - start < 2
