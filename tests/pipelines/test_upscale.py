"""Enlarging with the real networks that ship, on small pictures."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from calotype.checkpoints import open_network
from calotype.checkpoints.models import Models
from calotype.checkpoints.store import ModelStore
from calotype.errors import CalotypeError
from calotype.inference.upscale import enlarge, enlarge_alpha, enlarged_size, plan_tiles
from calotype.models.network import Network, has_bfloat16, pick_device
from calotype.record import Result
from calotype.settings import Settings
from calotype.tasks import Note, Progress, Upscale

pipeline = importlib.import_module("calotype.inference.upscale")

QUICK = "realesr-animevideov3"  # reaches 18 pixels: 18 convolutions of 3x3


def drawn(height=60, width=84, channels=3, dtype=np.uint8):
    """Shapes and texture, seeded."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rng = np.random.default_rng(7)
    planes = [0.5 + 0.3 * np.sin(x / (4 + c)) * np.cos(y / 5) + 0.2 * ((x + y) % 23 > 11) for c in range(channels)]
    noisy = np.stack(planes, 2) - 0.1 + rng.normal(0, 0.02, (height, width, channels))
    return (noisy.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def finish(run):
    *events, result = list(run)
    assert isinstance(result, Result)
    return events, result


def run(engine, pixels, tmp_path, **options):
    path = tmp_path / "in.png"
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)
    return finish(engine.run(Upscale(source=path, **{"model": QUICK, **options})))[1]


def whole(pixels, network, scale, **options):
    """Runs `enlarge` alone and returns the pixels."""
    models = options.pop("models")
    task = Upscale(source="x", **options)
    return value(enlarge(pixels, network, enlarged_size(pixels, scale), task, models)).pixels


@pytest.fixture(scope="module")
def exact(settings):
    """Models in float32."""
    return Models(replace(settings, precision="float32"))


@pytest.fixture(scope="module")
def loaded(settings):
    """The file of the quick network, read."""
    return open_network.load(ModelStore(settings).find(QUICK))


def test_a_picture_grows_by_the_networks_own_factor_and_keeps_its_look(engine, tmp_path):
    pixels = drawn()
    result = run(engine, pixels, tmp_path)
    assert result.picture.pixels.shape == (240, 336, 3)
    back = np.asarray(Image.fromarray(result.picture.pixels).resize((84, 60), Image.BOX), np.float32)
    assert np.abs(back - pixels).mean() < 12  # of 255


@pytest.mark.parametrize("scale", [0.5, 1, 1.37, 2, 3, 4, 5.5])
def test_any_scale_gives_the_size_it_says(engine, tmp_path, scale):
    result = run(engine, drawn(33, 41), tmp_path, scale=scale)
    assert result.picture.pixels.shape == (round(33 * scale), round(41 * scale), 3)


def test_grey_stays_grey(engine, tmp_path):
    assert run(engine, drawn(channels=1), tmp_path).picture.pixels.shape == (240, 336, 1)


@pytest.mark.parametrize("largest", [65535, 255])
def test_16_bits_stay_16_bits_even_in_a_dark_scan(engine, tmp_path, largest):
    pixels = (drawn(channels=1, dtype=np.uint16).astype(np.float32) * (largest / 65535)).astype(np.uint16)
    result = run(engine, pixels, tmp_path)
    assert result.picture.pixels.dtype == np.uint16
    assert result.picture.pixels.mean() == pytest.approx(pixels.mean(), rel=0.1)
    assert result.record.computed["precision"] == "float32"


@pytest.mark.parametrize("way", ["network", "lanczos"])
def test_transparency_is_enlarged_too(engine, tmp_path, way):
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:30, 10:30] = 255
    pixels = np.dstack([drawn(40, 40), alpha])
    result = run(engine, pixels, tmp_path, alpha=way)
    assert result.picture.alpha.shape == (160, 160)
    assert result.picture.alpha[80, 80] > 250 and result.picture.alpha[4, 4] < 5


@pytest.mark.parametrize("scale", [0.4, 1, 2.5])
def test_colours_hidden_by_transparency_leave_no_trace(engine, tmp_path, scale):
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:30, 10:30] = 255
    colour = drawn(40, 40)
    results = []
    for hidden in ((0, 255, 0), (0, 0, 0)):
        pixels = np.where(alpha[:, :, None] > 0, colour, np.array(hidden, np.uint8))
        results.append(run(engine, np.dstack([pixels, alpha]), tmp_path, scale=scale).picture)
    assert np.array_equal(results[0].pixels, results[1].pixels)
    assert np.array_equal(results[0].alpha, results[1].alpha)


@pytest.mark.parametrize("scale", [0.25, 1, 1.7, 4])
@pytest.mark.parametrize("way", ["network", "lanczos"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_stays_empty_or_full_where_it_is_so_all_round(engine, scale, way, dtype):
    full = np.iinfo(dtype).max
    y, x = np.mgrid[0:48, 0:56]
    alpha = (np.clip(16.5 - np.hypot(y - 24, x - 28), 0, 1) * full).astype(dtype)
    alpha[5, 3:30] = full // 2  # a thin line
    size = enlarged_size(alpha, scale)
    network = engine.models.upscaler(QUICK, 0.5, deep=dtype == np.uint16)
    task = Upscale(source="x", alpha=way)
    result = value(enlarge_alpha(alpha, network, size, task, engine.models))
    assert result.shape == size and result.dtype == dtype
    for top in range(0, size[0], 3):
        for left in range(0, size[1], 3):
            near = alpha[around(top, size[0], 48), around(left, size[1], 56)]
            if near.max() == 0:
                assert result[top, left] == 0
            if near.min() == full:
                assert result[top, left] == full
    line = result[round(5.5 * scale - 0.5), round(15 * scale)]
    assert 0.1 * full * min(scale, 1) < line < 0.8 * full


def around(n, size, source_size):
    """The source's pixels that a pixel of the result covers, and one on each side."""
    step = source_size / size
    return slice(max(0, int(n * step) - 1), min(source_size, int(np.ceil((n + 1) * step)) + 1))


def value(generator):
    while True:
        try:
            next(generator)
        except StopIteration as done:
            return done.value


@pytest.mark.many(plain=2)
@pytest.mark.parametrize(("tile", "overlap"), [(64, 48), (100, 48), (80, 44)])
def test_tiles_equal_the_whole_where_the_context_covers_the_reach(exact, tile, overlap):
    """(overlap - 8) / 2 pixels of context on each side, 18 are needed."""
    pixels, network = drawn(150, 131), exact.upscaler(QUICK)
    untiled = whole(pixels, network, 4, models=exact, tile=4096)
    tiled = whole(pixels, network, 4, models=exact, tile=tile, overlap=min(overlap, tile // 2))
    context = (min(overlap, tile // 2) - 8) // 2
    difference = int(np.abs(untiled.astype(int) - tiled).max())
    assert difference <= (1 if context >= 18 else 40)


def test_too_little_overlap_is_not_equal(exact):
    """The other half of the proof: without context the seams would show, so the test above can fail."""
    pixels, network = drawn(150, 131), exact.upscaler(QUICK)
    untiled = whole(pixels, network, 4, models=exact, tile=4096)
    tiled = whole(pixels, network, 4, models=exact, tile=64, overlap=4)
    assert np.abs(untiled.astype(int) - tiled).max() > 1


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
def test_bfloat16_is_within_45_decibels_of_float32(exact, settings):
    quick, pixels = Models(replace(settings, precision="bfloat16")), drawn(64, 64)
    for name in (QUICK, "realesrgan-x4plus"):
        one = whole(pixels, exact.upscaler(name), 4, models=exact).astype(np.float32)
        other = whole(pixels, quick.upscaler(name), 4, models=quick).astype(np.float32)
        assert 10 * np.log10(255**2 / np.square(one - other).mean()) > 45


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3)])
def test_the_smallest_pictures_work(engine, tmp_path, shape):
    result = run(engine, drawn(*shape), tmp_path)
    assert result.picture.pixels.shape == (shape[0] * 4, shape[1] * 4, 3)


def test_little_memory_means_small_tiles(exact):
    network = exact.upscaler("realesrgan-x4plus")
    task = Upscale(source="x")
    roomy = plan_tiles((1000, 1000), network, task, 2**34)
    tight = plan_tiles((1000, 1000), network, task, 2**28)
    assert roomy.tiles.rows.tile > tight.tiles.rows.tile >= 32
    assert tight.tiles.rows.tile * tight.tiles.columns.tile * network.bytes_per_pixel < 2**28


class Scarce(Network):
    """A real network on a device that holds only small tiles."""

    chain = None

    def __call__(self, x, fidelity=0.5):
        if x.shape[-1] > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(x, fidelity)


def test_out_of_memory_halves_the_tile_and_goes_on(exact, loaded):
    network = exact.upscaler(QUICK)
    scarce = Scarce(loaded, network.device, torch.float32)
    pixels = drawn(90, 90)
    work = enlarge(pixels, scarce, (360, 360), Upscale(source="x", tile=80, overlap=16), exact)
    said = []
    try:
        while True:
            event = next(work)
            said += [event.text] if isinstance(event, Note) else []
    except StopIteration as done:
        result = done.value.pixels
    assert said == ["out of memory with tiles of 54 pixels, continuing with 32"]
    assert np.array_equal(result, whole(pixels, network, 4, models=exact, tile=32, overlap=16))


class Failing(Network):
    """Fails on the third tile, as a broken device does."""

    chain, calls = None, 0

    def __call__(self, x, fidelity=0.5):
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("device fault")
        return super().__call__(x, fidelity)


def test_a_tile_that_fails_fails_the_picture(exact, loaded):
    broken = Failing(loaded, torch.device("cpu"), torch.float32)
    with pytest.raises(RuntimeError, match="device fault"):
        whole(drawn(90, 90), broken, 4, models=exact, tile=40, overlap=8)


def test_nothing_fits_is_one_sentence(exact, loaded):
    class Hopeless(Network):
        chain = None

        def __call__(self, x, fidelity=0.5):
            raise torch.OutOfMemoryError("CUDA out of memory")

    none = Hopeless(loaded, torch.device("cpu"), torch.float32)
    with pytest.raises(CalotypeError, match="not enough memory even for tiles"):
        whole(drawn(90, 90), none, 4, models=exact)


def test_what_half_precision_breaks_is_computed_again(loaded):
    def call(module, x, fidelity):
        is_half = any(parameter.dtype == torch.bfloat16 for parameter in module.parameters())
        return loaded.call(module, x, fidelity) * (float("nan") if is_half else 1)

    network = Network(replace(loaded, call=call), torch.device("cpu"), torch.bfloat16)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(x), Network(loaded, torch.device("cpu"), torch.float32)(x))


def test_progress_rises_to_the_number_of_tiles_and_closing_stops(engine, tmp_path):
    path = tmp_path / "in.png"
    Image.fromarray(drawn(90, 90)).save(path)
    task = Upscale(source=path, model=QUICK, tile=40, overlap=8)
    events, _ = finish(engine.run(task))
    counts = [event.done for event in events if isinstance(event, Progress)]
    assert counts == list(range(events[0].total + 1))
    running = engine.run(task)
    next(running), next(running)
    running.close()
    with pytest.raises(StopIteration):
        next(running)


@pytest.mark.slow
def test_long_work_is_announced_with_what_would_be_quicker(monkeypatch, exact):
    """A clock that runs a hundred times as fast makes six tiles long work."""
    begun = pipeline.time.monotonic()
    now = pipeline.time.monotonic
    monkeypatch.setattr(pipeline.time, "monotonic", lambda: begun + (now() - begun) * 1000)
    task = Upscale(source="x", tile=32, overlap=8)
    work = enlarge(drawn(60, 60), exact.upscaler("realesrgan-x4plus"), (240, 240), task, exact)
    said = [event.text for event in work if isinstance(event, Note)]
    assert len(said) == 1 and "this will take about" in said[0] and said[0].endswith("; photo-x4 would be much faster")


def test_a_result_beyond_memory_is_refused_before_any_work(settings, exact):
    bounded = Models(replace(settings, memory=0.01))
    with pytest.raises(CalotypeError, match=r"5120 x 5120 pixels needs about 0.1 GiB.*scale"):
        whole(drawn(80, 80), exact.upscaler(QUICK), 64, models=bounded)


def test_a_grey_picture_stored_as_rgb_stays_grey(engine, tmp_path):
    result = run(engine, drawn(channels=1).repeat(3, 2), tmp_path).picture.pixels
    assert result.shape == (240, 336, 3)
    assert (result == result[..., :1]).all()


def test_a_network_that_gives_no_numbers_fails_the_picture(exact, loaded):
    spoilt = replace(
        loaded, by_rows=False, call=lambda module, x, fidelity: loaded.call(module, x, fidelity) * float("nan")
    )
    broken = Network(spoilt, torch.device("cpu"), torch.float32)
    with pytest.raises(CalotypeError, match="is NaN or infinite"):
        whole(drawn(), broken, 4, models=exact)


@pytest.mark.parametrize("device", ["cuda:99", "foo", "meta"])
def test_a_device_that_is_not_there_is_one_sentence(device):
    with pytest.raises(CalotypeError, match=f"no device {device}; leave device out"):
        pick_device(device)


@pytest.mark.parametrize(("word", "meant"), [("1", True), ("yes", True), ("off", False), ("0", False)])
def test_switches_in_the_environment(word, meant):
    assert Settings.gather({}, {"CALOTYPE_OFFLINE": word}).offline is meant


def test_a_switch_that_is_neither_yes_nor_no_is_refused():
    with pytest.raises(CalotypeError, match="CALOTYPE_OFFLINE is 1 or 0"):
        Settings.gather({}, {"CALOTYPE_OFFLINE": "banana"})


def test_settings_bound_the_memory(settings):
    bounded = Models(replace(settings, memory=0.25))
    assert bounded.free_memory(torch.device("cpu")) <= 2**28


def test_settings_are_read_from_the_environment():
    read = Settings.gather({}, {"CALOTYPE_OFFLINE": "1", "CALOTYPE_MAX_PIXELS": "1000"})
    assert read.offline and read.max_pixels == 1000
    with pytest.raises(CalotypeError, match="precision is one of"):
        Settings.gather({"precision": "float8"}, {})
