"""Pictures from words, with the model that ships, for real: few steps, small pictures."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from calotype.checkpoints.bundled import shipped
from calotype.engine import Engine
from calotype.errors import CalotypeError, PictureError
from calotype.inference.diffusion.canvas import open_canvas
from calotype.models.diffusion import Diffusion
from calotype.picture import Picture
from calotype.picture.metadata import icc
from calotype.record import Result
from calotype.samplers import MISSING, SAMPLERS, SCHEDULES, sampler_named
from calotype.tasks import Drawing, Imagine, Note
from calotype.tasks.sheets import cells

GOLDEN = Path(__file__).parent / "golden"
APPLE = "red apple, fluent 3d"


@pytest.fixture(scope="module")
def exact(settings):
    """An engine in float32, in which every machine gives nearly the same numbers."""
    return Engine(dataclasses.replace(settings, precision="float32"))


@pytest.fixture(scope="module")
def small(small_settings):
    return Engine(dataclasses.replace(small_settings, precision="float32"))


@pytest.fixture(scope="module")
def half(settings):
    return Engine(dataclasses.replace(settings, precision="bfloat16"))


def draw(engine, prompt=APPLE, **options) -> list[Result]:
    task = Imagine(prompt=prompt, **{"seed": 1, "steps": 2, "size": "64", **options})
    return [step for step in engine.run(task) if isinstance(step, Result)]


def pixels(engine, *args, **options) -> np.ndarray:
    return draw(engine, *args, **options)[0].picture.pixels


def far(one, other) -> float:
    """The largest difference of two pictures, of 255."""
    return float(np.abs(one.astype(int) - other.astype(int)).max())


def look_hash(picture: np.ndarray) -> np.ndarray:
    """Which of 8x8 fields are brighter than their neighbour to the right."""
    small = np.asarray(Image.fromarray(picture).convert("L").resize((9, 8), Image.LANCZOS), int)
    return small[:, 1:] > small[:, :-1]


@pytest.mark.many(plain=1)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("apple", {"prompt": APPLE, "seed": 5, "sampler": "DPM++ 2M"}),
        ("rocket", {"prompt": "rocket, firefox", "seed": 2, "sampler": "DDIM"}),
    ],
)
def test_the_picture_is_what_it_was(exact, name, options):
    """Golden pictures, made with just these options: whatever the model's own are chosen to be later."""
    options |= {"steps": 8, "guidance": 4.0, "schedule": "sgm uniform", "size": "256"}
    made, golden = pixels(exact, **options), np.asarray(Image.open(GOLDEN / f"{name}.png"))
    assert (look_hash(made) != look_hash(golden)).sum() <= 2
    assert np.abs(made.astype(int) - golden).mean() < 1


@pytest.mark.slow
def test_an_apple_is_red_and_has_a_leaf(half):
    made = pixels(half, seed=5, steps=5, size="").astype(int)
    middle = made[140:180, 100:160].mean((0, 1))
    assert middle[0] > 200 and middle[0] > 2 * middle[1]
    red, green, blue = made[:80].reshape(-1, 3).T
    assert ((green > red + 30) & (green > blue + 30)).sum() > 300
    assert made[:10].mean() > 240


# Parity with diffusers' own pipeline.


@pytest.fixture
def two_threads():
    """Sums in one order wherever it runs: with one thread, a single pixel of DPM++ 3M SDE is 1.04e-4 away."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def theirs():
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(
        shipped("emoji"), local_files_only=True, torch_dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.unet, pipe.vae):
        part.to(memory_format=torch.channels_last)  # as ours; the order of sums differs otherwise
    return pipe


@pytest.mark.many(plain=2)
@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("DPM++ 2M", "sgm uniform"),
        ("DPM++ 2M SDE", "uniform"),
        ("DPM++ 3M SDE", "sgm uniform"),
        ("Euler", "sgm uniform"),
        ("Euler a", "uniform"),
        ("DDIM", "sgm uniform"),
        ("UniPC", "sgm uniform"),
        ("LMS", "sgm uniform"),
        ("PLMS", "sgm uniform"),
        ("LCM", "automatic"),
    ],
)
@pytest.mark.usefixtures("two_threads")
def test_the_loop_is_diffusers_own_in_numbers(exact, theirs, name, schedule):
    """Same weights, seed and scheduler: the pictures are equal within 1e-4."""
    from calotype.inference.diffusion.schedulers import make_scheduler

    made = []
    keep = Diffusion.decode

    def kept(self, latents, is_tiling=False):
        made.append(keep(self, latents, is_tiling))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Diffusion, "decode", kept)
        draw(exact, steps=4, sampler=name, schedule=schedule, guidance=2, seed=3)
    model = exact.models.diffusion("emoji")
    sampler, wanted = sampler_named(name, schedule, has_zero_snr=True)
    theirs.scheduler = make_scheduler(sampler, wanted, 4, model.training)
    generator = torch.Generator().manual_seed(3)
    picture = theirs(
        APPLE, num_inference_steps=4, guidance_scale=2.0, height=64, width=64, generator=generator, output_type="pt"
    ).images
    assert (made[0] - picture).abs().max() < 1e-4


@pytest.mark.many(plain=8)
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_sampler_follows_its_schedules_or_says_so(small, name, schedule):
    if schedule not in ("automatic", *SAMPLERS[name].schedules):
        with pytest.raises(CalotypeError, match="cannot follow"):
            Imagine(sampler=name, schedule=schedule)
        return
    if name in ("LMS", "DPM2", "DPM2 a", "DEIS", "UniPC") and schedule in ("exponential", "ddim"):
        return  # enough of a good thing
    made = pixels(small, model="small", sampler=name, schedule=schedule, steps=3, size="32")
    assert made.shape == (32, 32, 3) and made.std() > 1


@pytest.mark.parametrize("name", MISSING)
def test_a_sampler_that_diffusers_lacks_is_refused_by_name(name):
    with pytest.raises(CalotypeError, match="does not exist in diffusers"):
        Imagine(sampler=name)


def test_old_names_carry_their_schedule():
    assert [part if isinstance(part, str) else part.name for part in sampler_named("DPM++ 2M Karras")] == [
        "DPM++ 2M",
        "karras",
    ]
    assert sampler_named("k_euler_a")[0].name == "Euler a"
    assert sampler_named("dpmpp 2m sde")[1] == "exponential"
    with pytest.raises(CalotypeError, match="did you mean Euler a"):
        sampler_named("Eulera")


# Seeds, batches, noise.


def test_a_seed_gives_the_same_picture_in_any_batch(half, exact):
    together = draw(half, count=3, seed=7)
    alone = [draw(half, seed=7 + n)[0] for n in range(3)]
    assert all(np.array_equal(a.picture.pixels, b.picture.pixels) for a, b in zip(together, alone, strict=True))
    together = draw(exact, count=3, seed=7)
    alone = [draw(exact, seed=7 + n)[0] for n in range(3)]
    assert all(far(a.picture.pixels, b.picture.pixels) <= 1 for a, b in zip(together, alone, strict=True))
    assert [result.record.options["seed"] for result in together] == [7, 8, 9]


def test_the_recorded_batch_gives_the_same_bits(exact):
    second = draw(exact, count=3, seed=7)[1]
    told = second.record.options
    assert (told["batch"], told["place"], told["count"]) == (3, 1, 1)
    again = draw(exact, seed=8, batch=3, place=1)[0]
    assert np.array_equal(second.picture.pixels, again.picture.pixels)


def test_a_seed_left_open_is_chosen_and_recorded(exact):
    one, other = (draw(exact, seed=-1)[0] for _ in range(2))
    assert one.record.options["seed"] != other.record.options["seed"]
    again = draw(exact, seed=one.record.options["seed"])[0]
    assert np.array_equal(one.picture.pixels, again.picture.pixels)


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M SDE", "DPM2 a", "LCM", "DPM++ SDE"])
def test_noise_as_a1111_draws_it(exact, sampler):
    nv, cpu = (pixels(exact, sampler=sampler, noise=kind, steps=4) for kind in ("a1111", "cpu"))
    assert far(nv, cpu) > 20
    assert far(nv, pixels(exact, sampler=sampler, noise="a1111", steps=4, count=2)) <= 1


def test_given_noise_is_what_a_step_adds():
    """Noise that the scheduler insists on drawing itself is taken out and the wanted one put in."""
    from calotype.inference.diffusion.schedulers import Stepper, make_scheduler
    from calotype.ops.noise import source

    training = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    sampler = SAMPLERS["Euler a"]
    x, answer = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    ends = []
    for is_own in (True, False):
        made = make_scheduler(sampler, "uniform", 5, training)
        made.scale_model_input(x, made.timesteps[0])
        draws = source(4)
        sources = [draws] if is_own else [lambda shape, draws=draws: draws(shape)]
        ends.append(Stepper(made, sampler, sources).step(answer, made.timesteps[0], x))
    assert torch.allclose(*ends, atol=2e-4 * float(ends[0].abs().max()))


def test_a_variation_lies_between_two_seeds(exact):
    one, other = pixels(exact, seed=1), pixels(exact, seed=2)
    assert far(pixels(exact, seed=1, variation=1.0, variation_seed=2), other) <= 2
    little = pixels(exact, seed=1, variation=0.1, variation_seed=2)
    assert 0 < np.abs(little.astype(int) - one).mean() < np.abs(other.astype(int) - one).mean()


def test_with_a_variation_the_seed_stays_and_the_other_counts(exact):
    made = draw(exact, seed=1, variation=0.5, variation_seed=5, count=2)
    assert [(r.record.options["seed"], r.record.options["variation_seed"]) for r in made] == [(1, 5), (1, 6)]
    again = pixels(exact, seed=1, variation=0.5, variation_seed=6)
    assert far(made[1].picture.pixels, again) <= 1


def test_seeds_left_open_on_an_axis_are_chosen_and_recorded(exact):
    made = draw(exact, size="32", steps=1, x="seed=-1,-1", y="variation=0,0.5")
    *cells, last = (result.record.options for result in made)
    assert len({cell["seed"] for cell in cells}) == 4 and min(cell["seed"] for cell in cells) >= 0
    varied = {cell["variation_seed"] for cell in cells if cell["variation"]}
    assert len(varied) == 1 and last["variation_seed"] == varied.pop() >= 0


def test_a_batch_asked_for_by_hand_draws_one_picture_once(exact, monkeypatch):
    rows, real = [], Diffusion.predict
    monkeypatch.setattr(Diffusion, "predict", lambda self, x, *more: (rows.append(len(x)), real(self, x, *more))[1])
    draw(exact, batch=4, guidance=1.0)
    assert set(rows) == {1}


# The grammar at work.


def test_prompts_change_on_their_way(exact):
    assert np.array_equal(pixels(exact, f"[blue car:{APPLE}:0]"), pixels(exact))
    assert np.array_equal(pixels(exact, f"[{APPLE}:blue car:5]"), pixels(exact))
    assert far(pixels(exact, f"[{APPLE}:blue car:1]"), pixels(exact)) > 5


def test_weights_and_and(exact):
    assert np.array_equal(pixels(exact, "(red apple:1.0), fluent 3d"), pixels(exact))
    assert far(pixels(exact, "(red apple:1.6), fluent 3d"), pixels(exact)) > 5
    assert np.array_equal(pixels(exact, "(red apple:1.6), fluent 3d", emphasis="ignore"), pixels(exact))
    assert far(pixels(exact, f"{APPLE} AND blue car :0.0"), pixels(exact)) <= 1
    assert far(pixels(exact, f"{APPLE} AND blue car"), pixels(exact)) > 5


def test_long_prompts_are_read_to_their_end(exact):
    long = "green apple, " * 40
    assert far(pixels(exact, long + "blue"), pixels(exact, long + "red")) > 0
    assert far(pixels(exact, "a BREAK b"), pixels(exact, "a b")) > 0


@pytest.mark.slow
def test_ten_thousand_words_are_drawn(exact):
    assert pixels(exact, "apple " * 10_000, size="32", steps=1).shape == (32, 32, 3)


def test_no_words_are_drawn_too(exact):
    assert pixels(exact, "").shape == (64, 64, 3)


def test_guidance_1_runs_the_network_once(exact, monkeypatch):
    rows, real = [], Diffusion.predict
    monkeypatch.setattr(Diffusion, "predict", lambda self, x, *more: (rows.append(len(x)), real(self, x, *more))[1])
    draw(exact, guidance=1.0)
    draw(exact, guidance=3.0)
    draw(exact, f"{APPLE} AND car", guidance=3.0, count=2)
    assert rows == [1, 1, 2, 2, 6, 6]


@pytest.mark.slow
def test_one_graph_serves_every_batch_and_every_length_of_prompt(small_settings, monkeypatch):
    """torch's compiler is asked once. What it makes of the graph on CUDA needs a GPU; here it runs as it is."""
    graphs, real = [], torch.compile

    def counted(graph, inputs):
        graphs.append(1)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda network, mode: real(network, backend=counted))
    engine = Engine(dataclasses.replace(small_settings, precision="float32", compile="on"))
    plain = Engine(dataclasses.replace(small_settings, precision="float32"))
    for options in ({}, {"count": 3}, {"prompt": f"{APPLE} BREAK noto"}, {"prompt": f"{APPLE} AND blue"}):
        options["model"] = "small"
        assert far(pixels(engine, **options), pixels(plain, **options)) <= 1
    assert len(graphs) == 1


def test_equal_prompts_are_encoded_once(exact, monkeypatch):
    texts, real = [], Diffusion.encode_prompt
    monkeypatch.setattr(
        Diffusion, "encode_prompt", lambda self, rows, *more: (texts.append(rows), real(self, rows, *more))[1]
    )
    draw(exact, count=5, steps=4)
    assert len(texts) == 2


def test_a_texture_meets_its_edges(exact):
    made = pixels(exact, "leaves, noto", tiling=True, size="128", steps=6).astype(int)
    plain = pixels(exact, "leaves, noto", size="128", steps=6).astype(int)

    def seam(x):
        return np.abs(x[0] - x[-1]).mean() + np.abs(x[:, 0] - x[:, -1]).mean()

    def usual(x):
        return np.abs(np.diff(x, axis=0)).mean() + np.abs(np.diff(x, axis=1)).mean()

    assert seam(made) < 3 * usual(made) + 4
    assert np.array_equal(pixels(exact, "leaves, noto", size="128", steps=6).astype(int), plain)


# From pictures.


@pytest.fixture
def photo(tmp_path, portrait):
    path = tmp_path / "照片 1.png"
    Image.fromarray(portrait[:190, 150:400]).save(path)
    return path


def masked(photo, box, size=None):
    path = photo.with_name("mask.png")
    width, height = size or Image.open(photo).size
    mask = np.zeros((height, width), np.uint8)
    mask[box[0] : box[1], box[2] : box[3]] = 255
    Image.fromarray(mask).save(path)
    return path


def test_strength_0_is_the_picture_and_1_is_not(exact, photo):
    source = np.asarray(Image.open(photo)).astype(int)
    kept = pixels(exact, init=photo, strength=0.0, size="250x190").astype(int)
    assert kept.shape == (190, 250, 3) and np.abs(kept - source).mean() < 12  # what the VAE loses
    drawn = pixels(exact, init=photo, strength=1.0, size="250x190").astype(int)
    assert np.abs(drawn - source).mean() > 30


def test_a_picture_keeps_its_shape(exact, photo):
    height, width, _ = pixels(exact, init=photo, size="", steps=1).shape
    assert abs(height / width - 190 / 250) < 0.03 and 0.8 < height * width / 256**2 < 1.25


@pytest.mark.parametrize("way", ["crop", "fill", "stretch"])
def test_each_way_to_another_size(exact, photo, way):
    assert pixels(exact, init=photo, size="96x160", resize=way, steps=1).shape == (160, 96, 3)


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("options", [{}, {"only_masked": True}, {"fill": "noise"}, {"fill": "blur"}, {"mask_blur": 0}])
def test_inpainting_keeps_what_is_outside_bit_for_bit(exact, photo, options):
    source = np.asarray(Image.open(photo))
    mask = masked(photo, (60, 120, 80, 170))
    made = pixels(exact, init=photo, mask=mask, strength=1.0, size="", **options)
    outside = np.asarray(Image.open(mask)) == 0
    assert made.shape == source.shape and np.array_equal(made[outside], source[outside])
    assert np.abs(made[~outside].astype(int) - source[~outside]).mean() > 8


def test_a_mask_can_be_turned_around(exact, photo):
    source, mask = np.asarray(Image.open(photo)), masked(photo, (60, 120, 80, 170))
    made = pixels(exact, init=photo, mask=mask, invert_mask=True, strength=1.0, size="")
    inside = np.asarray(Image.open(mask)) > 0
    assert np.array_equal(made[inside], source[inside]) and not np.array_equal(made, source)


def test_outpainting_keeps_the_middle(exact, photo):
    source = np.asarray(Image.open(photo))
    made = pixels(exact, init=photo, outpaint="32,0,16,8", strength=1.0, size="")
    assert made.shape == (198, 298, 3)
    assert np.array_equal(made[:180, 42:270], source[:180, 10:238])
    assert made[:, :32].std() > 1


def test_a_picture_to_start_from_is_converted_to_srgb(tmp_path):
    """The result of img2img has no profile."""
    p3 = icc.rgb_profile("P3", icc.P3_PRIMARIES, (icc.SRGB_CURVE,))
    Image.new("RGB", (64, 64), (234, 51, 35)).save(tmp_path / "in.png", icc_profile=p3)  # Display P3 for sRGB's red
    canvas = open_canvas(Imagine(prompt="x", init=tmp_path / "in.png", size="64x64"), 64, 8, 10_000)
    assert canvas.pixels.reshape(3, -1).mean(1).numpy() * 255 == pytest.approx([255, 0, 0], abs=4)


def see_through(photo, path):
    """The photo with its left half fading away, over colours that nobody is meant to see."""
    with Image.open(photo) as opened:
        source = np.asarray(opened.convert("RGB")).copy()
    alpha = np.full(source.shape[:2], 255, np.uint8)
    alpha[:, :125] = np.arange(125, dtype=np.uint8) * 2
    source[:, :20] = (0, 255, 0)
    Image.fromarray(np.dstack([source, alpha])).save(path)
    return path, source, alpha


def test_transparency_stays_where_nothing_is_new(exact, photo, tmp_path):
    init, source, alpha = see_through(photo, tmp_path / "a.png")
    mask = masked(photo, (60, 120, 80, 170))
    made = draw(exact, init=init, mask=mask, strength=1.0, size="")[0].picture
    outside = np.asarray(Image.open(mask)) == 0
    assert np.array_equal(made.alpha[outside], alpha[outside]) and np.array_equal(made.pixels[outside], source[outside])
    assert made.alpha[70:110, 90:160].min() == 255  # what is drawn can be seen
    made = draw(exact, init=init, outpaint="32,0,0,0", strength=1.0, size="")[0].picture
    assert np.array_equal(made.alpha[:, 50:], alpha[:, 18:]) and made.alpha[:, :32].min() == 255


def test_a_picture_to_start_from_is_seen_on_white(exact, photo, tmp_path):
    init, _, _ = see_through(photo, tmp_path / "a.png")
    task = Imagine(prompt=APPLE, init=init, strength=0.0, size="250x190", steps=1, seed=1)
    events = list(exact.run(task))
    assert any("a.png is transparent in parts" in step.text for step in events if isinstance(step, Note))
    [made] = [step.picture for step in events if isinstance(step, Result)]
    assert made.alpha is None and made.pixels[:, :10].min() > 180


def test_a_hole_may_be_painted_on_a_layer_of_its_own(exact, photo):
    plain = masked(photo, (60, 120, 80, 170))
    hole = np.asarray(Image.open(plain))
    layer = photo.with_name("layer.png")
    Image.fromarray(np.dstack([np.zeros_like(hole)] * 3 + [hole])).save(layer)  # black paint, nothing around it
    options = {"init": photo, "strength": 1.0, "size": "", "steps": 1}
    assert np.array_equal(pixels(exact, mask=layer, **options), pixels(exact, mask=plain, **options))


def test_room_beyond_memory_is_refused_before_it_is_made(exact, photo):
    with pytest.raises(CalotypeError, match=r"GiB of memory for a picture of .*; use a smaller outpaint"):
        draw(exact, init=photo, outpaint="90000")


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("way", ["crop", "fill", "stretch"])
def test_a_thread_of_a_picture_is_brought_to_size(exact, tmp_path, way):
    Image.new("RGB", (20_000, 1), "red").save(tmp_path / "thread.png")
    assert pixels(exact, init=tmp_path / "thread.png", size="64", resize=way, steps=1).shape == (64, 64, 3)


def test_a_mask_of_another_size_is_named(exact, photo):
    mask = masked(photo, (0, 5, 0, 5), size=(100, 100))
    with pytest.raises(PictureError, match=r"mask\.png is 100x100 .* is 250x190") as caught:
        draw(exact, init=photo, mask=mask)
    assert caught.value.option == "mask"


def test_a_mask_without_a_hole_is_named(exact, photo):
    with pytest.raises(CalotypeError, match="empty mask"):
        draw(exact, init=photo, mask=masked(photo, (0, 0, 0, 0)))


@pytest.mark.parametrize("size", ["70x50", "8", "100x64"])
def test_sizes_that_the_network_does_not_take_are_padded(exact, size):
    width, _, height = size.partition("x")
    assert pixels(exact, size=size, steps=1).shape == (int(height or width), int(width), 3)


@pytest.mark.parametrize("upscaler", ["latent", "lanczos", "realesr-animevideov3-x2"])
def test_the_second_pass_is_larger(exact, upscaler):
    [made] = draw(exact, hires=2.0, hires_upscaler=upscaler, hires_strength=0.5)
    assert made.picture.pixels.shape == (128, 128, 3)
    assert "Hires upscale: 2" in made.picture.metadata.infotext and "Size: 64x64" in made.picture.metadata.infotext


def test_upscalers_have_a1111s_names_too(exact):
    ours, theirs = (
        draw(exact, size="32", hires=2.0, hires_upscaler=name)[0]
        for name in ("realesr-animevideov3", "R-ESRGAN AnimeVideo")
    )
    assert np.array_equal(ours.picture.pixels, theirs.picture.pixels)


def test_a_missing_upscaler_is_told_before_any_work(exact):
    steps = exact.run(Imagine(prompt=APPLE, size="32", hires=2.0, hires_upscaler="4x-none"))
    with pytest.raises(CalotypeError, match="no model is named 4x-none"):
        next(steps)


# Progress, previews, cancelling.


def test_progress_counts_every_step_and_shows_the_picture(exact):
    task = Imagine(prompt=APPLE, seed=5, steps=8, size="128")
    steps = [step for step in exact.run(task) if isinstance(step, Drawing)]
    assert [step.done for step in steps] == list(range(1, 9)) and {step.total for step in steps} == {8}
    look = steps[-2].look()
    assert look.shape == (16, 16, 3) and look.dtype == np.uint8
    made = pixels(exact, seed=5, steps=8, size="128")
    small = np.asarray(Image.fromarray(made).resize((16, 16), Image.BOX)).astype(int)
    assert np.abs(look.astype(int) - small).mean() < 25


def test_closing_ends_it_within_a_step(exact, monkeypatch):
    runs, real = [], Diffusion.predict
    monkeypatch.setattr(Diffusion, "predict", lambda self, *given: (runs.append(1), real(self, *given))[1])
    steps = exact.run(Imagine(prompt=APPLE, steps=50, size="64"))
    while not isinstance(next(steps), Drawing):
        pass
    steps.close()
    assert len(runs) == 1


def test_two_drawings_may_take_turns(exact, tmp_path):
    """One with a LoRA and one without, step by step; each comes out as if it were alone."""
    path = lora_file(tmp_path / "mine.safetensors", exact)
    tasks = [Imagine(prompt=APPLE, seed=1, steps=3, size="64", lora=lora) for lora in (f"{path}:1", "")]
    alone = [next(s for s in exact.run(task) if isinstance(s, Result)) for task in tasks]
    runs, ends = [exact.run(task) for task in tasks], [None, None]
    while None in ends:
        for n, run in enumerate(runs):
            step = next(run, None)
            ends[n] = step if isinstance(step, Result) else ends[n]
    assert all(np.array_equal(a.picture.pixels, b.picture.pixels) for a, b in zip(alone, ends, strict=True))
    assert far(alone[0].picture.pixels, alone[1].picture.pixels) > 0


def test_a_step_that_half_precision_breaks_is_repeated(half):
    model = half.models.diffusion("emoji")
    wanted = pixels(half)
    broken = []

    def overflow(layer, given, made):
        if made.dtype == torch.bfloat16 and not broken:
            broken.append(1)
            return made * float("inf")
        return made

    hook = model.unet.conv_in.register_forward_hook(overflow)
    try:
        made = pixels(half)
    finally:
        hook.remove()
    assert broken and np.abs(made.astype(int) - wanted).mean() < 12 and made.std() > 10


# LoRA.


def lora_file(path, engine, scale=0.3, width=256):
    generator = torch.Generator().manual_seed(0)
    state = {}
    for n, name in enumerate(("attn2_to_k", "attn2_to_v")):
        key = f"lora_unet_mid_block_attentions_0_transformer_blocks_0_{name}"
        state[f"{key}.lora_down.weight"] = torch.randn(4, width, generator=generator)
        state[f"{key}.lora_up.weight"] = torch.randn(256, 4, generator=generator) * scale / (n + 1)
        state[f"{key}.alpha"] = torch.tensor(4.0)
    save_file(state, path)
    return path


def weights(model) -> str:
    return hashlib.sha256(
        b"".join(p.contiguous().view(torch.uint8).numpy().tobytes() for p in model.unet.parameters())
    ).hexdigest()


def test_a_lora_leaves_no_trace(half, tmp_path):
    path = lora_file(tmp_path / "mine.safetensors", half)
    plain, before = pixels(half), weights(half.models.diffusion("emoji"))
    with_lora = pixels(half, lora=f"{path}:1")
    assert far(with_lora, plain) > 0
    assert np.array_equal(pixels(half), plain)
    assert weights(half.models.diffusion("emoji")) == before
    assert np.array_equal(pixels(half, lora=f"{path}:0"), plain)
    [told] = draw(half, lora=f"{path}:0.5")
    assert "Lora hashes: mine: " in told.picture.metadata.infotext.replace('"', "")
    assert [model.name for model in told.record.models] == ["emoji", "mine"]


def test_a_lora_for_another_base_is_refused(half, tmp_path):
    path = lora_file(tmp_path / "sd15.safetensors", half, width=768)
    with pytest.raises(
        CalotypeError, match=r"sd15 is for another base model than emoji \(it was trained for SD 1.x\).*attn2_to_k"
    ):
        draw(half, lora=str(path))
    assert len(draw(half)) == 1


def test_a_picture_tells_of_its_loras_and_styles(half, tmp_path):
    path = lora_file(tmp_path / "mine.safetensors", half)
    (half.models.settings.home).mkdir(exist_ok=True)
    (half.models.settings.home / "styles.csv").write_text('name,prompt\nin 3d,"{prompt}, fluent 3d"\n', "utf-8")
    [made] = draw(half, "red apple", style="in 3d", lora=f"{path}:0.5")
    assert made.picture.metadata.infotext.startswith("red apple, fluent 3d <lora:mine:0.5>\nSteps: ")


# What a model predicts.


@pytest.mark.slow
def test_the_prediction_may_be_given_and_is_recorded(exact):
    """The model that ships predicts v: taken for epsilon it draws something else, and flow cannot be sampled."""
    [auto], [v], [epsilon] = (draw(exact, prediction=kind) for kind in ("auto", "v", "epsilon"))
    assert np.array_equal(auto.picture.pixels, v.picture.pixels)
    assert far(auto.picture.pixels, epsilon.picture.pixels) > 50
    assert epsilon.record.options["prediction"] == "epsilon"
    with pytest.raises(CalotypeError, match=r"predicts flow, which Calotype cannot sample.*with prediction"):
        draw(exact, prediction="flow")


# Learned words.


def learned(engine, tmp_path, name, width):
    path = tmp_path / f"{name}.safetensors"
    save_file({"emb_params": torch.randn(1, width, generator=torch.Generator().manual_seed(0))}, path)
    return engine.models.store.put(name, path, "embedding")


def test_a_learned_word_is_a_whole_word_and_of_the_models_width(settings, tmp_path):
    engine = Engine(dataclasses.replace(settings, precision="float32", home=tmp_path))
    plain = pixels(engine, "red apple, noto")
    learned(engine, tmp_path, "app", 256), learned(engine, tmp_path, "noto", 768)
    task = Imagine(prompt="red apple, noto", seed=1, steps=2, size="64")
    events = list(engine.run(task))
    [made] = [step for step in events if isinstance(step, Result)]
    assert np.array_equal(made.picture.pixels, plain) and "TI hashes" not in made.picture.metadata.infotext
    assert [step.text.partition(":")[0] for step in events if isinstance(step, Note)] == [
        "the embedding noto was trained for text encoders of width 768, and 256 are those of emoji"
    ]
    assert far(pixels(engine, "red app, noto"), pixels(exact_without(settings), "red app, noto")) > 0


def exact_without(settings):
    return Engine(dataclasses.replace(settings, precision="float32"))


def test_words_within_a_lora_are_learned_while_it_is_on(settings, tmp_path):
    engine = Engine(dataclasses.replace(settings, precision="float32", home=tmp_path))
    vectors = torch.randn(2, 256, generator=torch.Generator().manual_seed(0))
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
    state = {f"{layer}.lora_down.weight": torch.ones(1, 256), f"{layer}.lora_up.weight": torch.zeros(256, 1)}
    path = tmp_path / "mine.safetensors"
    save_file({**state, "bundle_emb.zkz.emb_params": vectors}, path)
    plain = pixels(engine, "red zkz")
    [made] = draw(engine, "red zkz", lora=str(path), size="64", steps=2)
    assert far(made.picture.pixels, plain) > 0 and "TI hashes" not in made.picture.metadata.infotext
    assert np.array_equal(pixels(engine, "red zkz"), plain)  # without the LoRA it is text again
    save_file({"emb_params": vectors}, tmp_path / "zkz.safetensors")
    engine.models.store.put("zkz", tmp_path / "zkz.safetensors", "embedding")
    assert np.array_equal(pixels(engine, "red zkz"), made.picture.pixels)


# Sheets.


def test_a_sheet_has_every_combination(exact):
    made = draw(exact, size="32", steps=1, x="steps=1,2", y="guidance=1-3 (+2)")
    assert len(made) == 5 and made[-1].is_sheet
    assert [(r.record.options["steps"], r.record.options["guidance"]) for r in made[:-1]] == [
        (1, 1.0),
        (2, 1.0),
        (1, 3.0),
        (2, 3.0),
    ]
    height, width, _ = made[-1].picture.pixels.shape
    assert width > 2 * 32 and height > 2 * 32


def test_equal_values_have_places_of_their_own(exact):
    made = draw(exact, size="32", steps=1, x="seed=1,1,2", y="guidance=2,2")
    assert len(made) == 7
    once = draw(exact, size="32", steps=1, x="seed=1,3,2", y="guidance=2,4")[-1]
    assert made[-1].picture.pixels.shape == once.picture.pixels.shape


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("steps=1-9 (+4)", [1, 5, 9]),
        ("strength=0.1-0.3 (+0.1)", [0.1, 0.2, 0.3]),
        ("seed=4294967290-4294967292", [4294967290, 4294967291, 4294967292]),
        ("strength=0-1 [3]", [0, 0.5, 1]),
        ("seed=3-1", [3, 2, 1]),
        ('prompt=a,"b, c"', ["a", "b, c"]),
    ],
)
def test_values_of_an_axis_keep_their_digits(axis, values):
    name = axis.partition("=")[0]
    made = cells(Imagine(prompt="a", x=axis))
    assert [getattr(cell.task, name) for cell in made] == values
    assert [cell.across.removeprefix(f"{name} ") for cell in made] == [str(value) for value in values]


def test_a_matrix_has_every_part(exact):
    made = draw(exact, "apple|red|fluent 3d", size="32", steps=1, matrix=True)
    prompts = [result.record.options["prompt"] for result in made[:-1]]
    assert prompts == ["apple", "apple, red", "apple, fluent 3d", "apple, red, fluent 3d"]


def test_words_are_swapped_along_an_axis(exact):
    made = draw(exact, "red apple", size="32", steps=1, x="prompt=red,green,blue")
    assert [result.record.options["prompt"] for result in made[:-1]] == ["red apple", "green apple", "blue apple"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"x": "stepz=1,2"}, "did you mean steps"),
        ({"x": "steps=1,two"}, "steps takes"),
        ({"x": "prompt=green,red"}, "is not in the prompt"),
        ({"x": "steps=1,2", "count": 2}, "leave out count"),
        ({"y": "sampler=Euler,Eulerr"}, "no sampler is named"),
    ],
)
def test_an_axis_that_is_none_is_named(exact, options, word):
    with pytest.raises(CalotypeError, match=word):
        draw(exact, "red apple", **options)


# What is refused, and what is said.


def test_a_size_beyond_memory_is_refused_before_any_work(settings):
    small = Engine(dataclasses.replace(settings, memory=0.5))
    with pytest.raises(CalotypeError, match=r"emoji needs about .* GiB of memory for a picture of 4096x4096"):
        draw(small, size="4096")
    assert len(draw(small)) == 1


def test_what_cannot_be_called_is_said(exact):
    task = Imagine(prompt=f"{APPLE} <hypernet:x:1>", steps=1, size="32")
    said = [step.text for step in exact.run(task) if isinstance(step, Note)]
    assert said and "<hypernet:x:1>" in said[0]


@pytest.mark.parametrize(
    "options",
    [
        {"init": None, "mask": "m.png"},
        {"size": "0"},
        {"size": "axb"},
        {"outpaint": "1,2", "init": "x.png"},
        {"hires": 0.5},
    ],
)
def test_what_does_not_go_together_is_refused(options):
    with pytest.raises(CalotypeError):
        Imagine(**options)


def test_a_picture_carries_its_parameters_and_its_record(exact):
    [made] = draw(exact, negative="blue", seed=9)
    assert made.picture.metadata.infotext.startswith(f"{APPLE}\nNegative prompt: blue\nSteps: 2, Sampler: DPM++ 2M, ")
    assert isinstance(made.picture, Picture) and made.record.task == "imagine"
