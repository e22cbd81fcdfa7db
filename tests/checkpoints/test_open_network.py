"""Files become networks: what is read, what is refused, and what goes into and comes out of a network."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.RestoreFormer import RestoreFormer
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.SwinIR import SwinIR
from torch import nn

from calotype.checkpoints.of_spandrel import call_gfpgan, call_restoreformer
from calotype.checkpoints.open_network import load, read_state
from calotype.checkpoints.store import CATALOG, Checkpoint, ModelStore
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError, Remedy
from calotype.models.codeformer import CodeFormer
from calotype.models.face_restorer import Restorer
from calotype.settings import Settings
from tests.models.test_codeformer import tiny as tiny_codeformer


def compact(seed: int = 0, **more) -> Compact:
    torch.manual_seed(seed)
    return Compact(**{"num_feat": 8, "num_conv": 2, "upscale": 2, **more}).eval()


def save(network: nn.Module, path, wrapper: str = "params"):
    torch.save({wrapper: network.state_dict()}, path)
    return Checkpoint(path.stem, path)


def run(loaded, x: torch.Tensor, fidelity: float = 0.5) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.call(loaded.module, x, fidelity)


@pytest.mark.parametrize("wrapper", ["params_ema", "params-ema", "params", "state_dict", "model", ""])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_weights_are_found_wherever_they_lie(tmp_path, wrapper, suffix):
    network, path = compact(), tmp_path / f"x{suffix}"
    if suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save({wrapper: network.state_dict()} if wrapper else network.state_dict(), path)
    loaded = load(Checkpoint("x", path))
    x = torch.rand(2, 3, 9, 7)
    assert (loaded.kind, loaded.scale, loaded.name) == ("upscale", 2, "x")
    assert torch.equal(run(loaded, x), network(x))
    assert not any(p.requires_grad for p in loaded.module.parameters()) and not loaded.module.training


def test_averaged_weights_are_preferred(tmp_path):
    one, other = compact(0), compact(1)
    torch.save({"params": one.state_dict(), "params_ema": other.state_dict()}, tmp_path / "x.pth")
    state = read_state(tmp_path / "x.pth")
    assert all(torch.equal(state[key], value) for key, value in other.state_dict().items())


def test_half_weights_and_keys_of_parallel_training_are_taken(tmp_path):
    network = compact()
    torch.save({f"module.{key}": value.half() for key, value in network.state_dict().items()}, tmp_path / "x.pth")
    loaded = load(Checkpoint("x", tmp_path / "x.pth"))
    x = torch.rand(1, 3, 8, 8)
    assert next(loaded.module.parameters()).dtype == torch.float32
    assert torch.allclose(run(loaded, x), network(x), atol=0.01)


SWINIR = {"window_size": 8, "embed_dim": 12, "depths": [2], "num_heads": [2], "upscale": 2, "upsampler": "pixelshuffle"}
NETWORKS = {
    "esrgan": (lambda: ESRGAN(num_filters=8, num_blocks=1, scale=4), 4, 1),
    "x2plus": (lambda: ESRGAN(in_nc=12, num_filters=8, num_blocks=1, scale=4, shuffle_factor=2), 2, 4),
    "compact": (lambda: compact(upscale=4), 4, 1),
    "denoiser": (lambda: compact(upscale=1), 1, 1),
    "span": (lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2), 2, 1),
    "swinir": (lambda: SwinIR(**SWINIR), 2, 16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_community_networks_work_by_path(tmp_path, name):
    torch.manual_seed(0)
    make, scale, multiple = NETWORKS[name]
    found = save(make(), tmp_path / f"{name}.pth")
    loaded = load(ModelStore(Settings(home=tmp_path)).find(str(found.path)))
    assert (loaded.kind, loaded.scale, loaded.name) == ("upscale", scale, name)
    assert multiple % loaded.multiple == 0
    x = torch.rand(2, 3, 32, 16)
    y = run(loaded, x)
    assert y.shape == (2, 3, 32 * scale, 16 * scale)
    assert torch.allclose(y[1:], run(loaded, x[1:]), atol=1e-4)  # pictures in a batch don't meet
    assert run(loaded, x[:, :, :13, :11]).shape == (2, 3, 13 * scale, 11 * scale)


def test_a_grey_network_takes_the_colours_one_by_one(tmp_path):
    network = compact(num_in_ch=1, num_out_ch=1)
    loaded = load(save(network, tmp_path / "grey.pth"))
    x = torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        expected = torch.cat([network(x[:, c : c + 1]) for c in range(3)], 1)
    assert torch.allclose(run(loaded, x), expected, atol=1e-6)


def test_what_comes_out_is_not_clamped(tmp_path):
    network = compact()
    network.body[-1].bias.data += 3
    assert run(load(save(network, tmp_path / "x.pth")), torch.rand(1, 3, 8, 8)).max() > 1


# What is refused


def refused(path) -> str:
    with pytest.raises(CalotypeError) as fault:
        load(Checkpoint(path.stem, path))
    text = str(fault.value)
    assert str(path) in text and "\n" not in text and len(text) < 500
    return text


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**8 + 1, 5000])
def test_a_safetensors_header_longer_than_the_file(tmp_path, length):
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}" + bytes(100))
    text = refused(path)
    assert "does not begin as a safetensors file" in text or "cut off within its header" in text


@pytest.mark.parametrize("content", [b"", b"abc", b"hello, I am a text\n" * 9, bytes(300), b"\x80\x02", b"PK\x03\x04"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_is_no_file_of_weights(tmp_path, content, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    refused(path)


def test_a_cut_safetensors_file(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(compact().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-10])
    assert "is cut off: 10 bytes are missing" in refused(path)


def test_a_folder_a_picture_and_nothing(tmp_path):
    folder = tmp_path / "folder.pth"
    folder.mkdir()
    assert "is a folder" in refused(folder)
    assert "there is no file" in refused(tmp_path / "gone.pth")
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(b"x")
    assert "no file of weights" in refused(picture)


def test_a_file_that_loads_nothing(tmp_path):
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "none.pth")
    assert "holds no weights" in refused(tmp_path / "none.pth")
    torch.save({"lora_up.weight": torch.ones(3, 3), "b": torch.ones(2)}, tmp_path / "lora.pth")
    assert "2 tensors, the first b" in refused(tmp_path / "lora.pth")


def test_keys_that_have_no_place_are_refused(tmp_path):
    state = compact().state_dict()
    torch.save(state | {"extra.weight": torch.ones(1)}, tmp_path / "more.pth")
    assert "extra.weight" in refused(tmp_path / "more.pth")
    state["body.2.weight"] = torch.ones(8, 8, 5, 5)
    torch.save(state, tmp_path / "shape.pth")
    assert "body.2.weight" in refused(tmp_path / "shape.pth")


def test_an_index_without_end_is_refused(tmp_path):
    """spandrel would build as many layers as the keys say."""
    torch.save(compact().state_dict() | {"body.99999999.weight": torch.ones(1)}, tmp_path / "x.pth")
    assert "body.99999999.weight" in refused(tmp_path / "x.pth")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path, bad):
    network = compact()
    network.body[2].bias.data[3] = bad
    assert "body.2.bias" in refused(save(network, tmp_path / "x.pth").path)


def test_a_file_that_changed_since_it_was_fetched_is_refused(tmp_path):
    path = save(compact(), tmp_path / "x.pth").path
    with pytest.raises(CalotypeError, match="is not the x it was"):
        load(Checkpoint("x", path, sha256="0" * 64))


# realesr-general-x4v3 and its twin


@pytest.fixture
def general(tmp_path):
    """The shelf with random files in the layout of the pair, and both networks."""
    shelf = ModelStore(Settings(home=tmp_path))
    shelf.folder.mkdir()
    pair = [compact(seed, num_conv=3, upscale=4) for seed in (1, 2)]
    for name, network in zip(("realesr-general-x4v3", "realesr-general-wdn-x4v3"), pair, strict=True):
        torch.save({"params": network.state_dict()}, shelf.folder / CATALOG[name].file)
    return shelf, *pair


def at_hand(shelf: ModelStore) -> Checkpoint:
    """The general network as the shelf finds it, without the sha256 that random weights cannot have."""
    found = shelf.find("realesr-general-x4v3", kind="upscale")
    return Checkpoint(found.name, found.path, found.kind, found.entry, "", found.twin)


@pytest.mark.parametrize("denoise", [0.0, 0.3, 0.5, 1.0])
def test_denoise_mixes_the_weights(general, denoise):
    shelf, one, twin = general
    loaded = load(at_hand(shelf), denoise=denoise)
    for key, value in loaded.module.state_dict().items():
        expected = denoise * one.state_dict()[key] + (1 - denoise) * twin.state_dict()[key]
        assert torch.allclose(value, expected, atol=1e-7)
    assert loaded.sha256.count("+") == (denoise < 1)


def test_the_mix_takes_params_not_the_average(general):
    shelf, one, twin = general
    path = at_hand(shelf).path
    torch.save({"params_ema": twin.state_dict(), "params": one.state_dict()}, path)
    key, value = next(iter(load(at_hand(shelf), denoise=0.5).module.state_dict().items()))
    assert torch.allclose(value, (one.state_dict()[key] + twin.state_dict()[key]) / 2)


def test_a_missing_twin_is_said_with_its_command(general):
    shelf, one, _ = general
    (shelf.folder / "realesr-general-wdn-x4v3.pth").unlink()
    with pytest.raises(CalotypeError, match="not at hand; fetch it, or give denoise 1") as caught:
        load(at_hand(shelf), denoise=0.5)
    assert caught.value.remedy == Remedy("pull_model", "realesr-general-wdn-x4v3")
    assert WORDING.fill(caught.value).endswith(
        "; fetch it: calotype models pull realesr-general-wdn-x4v3, or give --denoise 1"
    )
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(run(load(at_hand(shelf), denoise=1), x), one(x))


def test_the_pair_works_by_path(general, tmp_path):
    shelf = general[0]
    elsewhere = tmp_path / "elsewhere"
    shelf.folder.rename(elsewhere)
    found = shelf.find(str(elsewhere / "realesr-general-x4v3.pth"))
    assert found.twin == elsewhere / "realesr-general-wdn-x4v3.pth"
    assert "+" in load(found, denoise=0.5).sha256


# Faces


class Recorder(nn.Module):
    """Notes what it is given and returns a constant."""

    def __init__(self, answer: float):
        super().__init__()
        self.answer = answer

    def forward(self, x, *given, **named):
        self.x, self.named = x, named
        return torch.full_like(x, self.answer), []


@pytest.mark.parametrize("call", [call_gfpgan, call_restoreformer])
def test_face_networks_see_minus_one_to_one(call):
    """By hand: 0, 0.25 and 1 become -1, -0.5 and 1; -1, 0.5 and 1.2 come back as 0, 0.75 and 1.1."""
    x = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 512, 512)
    for answer, expected in ((-1.0, 0.0), (0.5, 0.75), (1.2, 1.1)):
        network = Recorder(answer)
        y = call(network, x, 0.5)
        assert network.x[0, :, 0, 0].tolist() == [-1.0, -0.5, 1.0]
        assert torch.allclose(y, torch.full_like(y, expected))
    if call is call_gfpgan:
        assert network.named["randomize_noise"] is False


def test_our_restorer_works_by_path(tmp_path):
    torch.manual_seed(0)
    loaded = load(save(Restorer((8, 16), (1, 1)), tmp_path / "mine.pth"))
    assert (loaded.kind, loaded.side, loaded.scale, loaded.has_fidelity) == ("faces", 256, 1, False)
    x = torch.rand(1, 3, 64, 64)
    assert torch.allclose(run(loaded, x), x, atol=1e-6)  # untrained: -1..1 and back


def test_codeformer_takes_fidelity(tmp_path):
    network = tiny_codeformer()
    loaded = load(save(network, tmp_path / "cf.pth", "params_ema"))
    assert (loaded.kind, loaded.side, loaded.has_fidelity, loaded.half) == ("faces", 64, True, False)
    x = torch.rand(1, 3, 64, 64)
    for fidelity in (0.0, 0.7):
        with torch.inference_mode():
            expected = (network(x * 2 - 1, fidelity) + 1) / 2
        assert torch.allclose(run(loaded, x, fidelity), expected, atol=1e-6)


def test_a_small_restoreformer_is_recognised(tmp_path):
    torch.manual_seed(0)
    network = RestoreFormer(ch=32, ch_mult=(1, 1, 1, 1, 1, 1), n_embed=16, embed_dim=32, z_channels=32).eval()
    loaded = load(save(network, tmp_path / "rf.pth"))
    assert (loaded.kind, loaded.side, loaded.has_fidelity) == ("faces", 512, False)
    x = torch.rand(1, 3, 64, 64)  # any multiple of 32 runs
    with torch.inference_mode():
        expected = (network(x * 2 - 1)[0] + 1) / 2
    assert torch.equal(run(loaded, x), expected)


@pytest.mark.slow
def test_gfpgan_in_its_real_size(tmp_path):
    torch.manual_seed(0)
    network = GFPGAN(
        out_size=512,
        num_style_feat=512,
        channel_multiplier=2,
        decoder_load_path=None,
        fix_decoder=False,
        num_mlp=8,
        input_is_latent=True,
        different_w=True,
        narrow=1,
        sft_half=True,
    ).eval()
    loaded = load(save(network, tmp_path / "GFPGANv1.4.pth", "params_ema"))
    assert (loaded.kind, loaded.side, loaded.half, loaded.bfloat16) == ("faces", 512, False, True)
    x = torch.rand(1, 3, 512, 512)
    y = run(loaded, x)
    with torch.inference_mode():
        expected = (network(x * 2 - 1, randomize_noise=False)[0] + 1) / 2
    assert y.shape == x.shape and torch.equal(y, expected)
    assert torch.equal(run(loaded, x), y)  # the same face comes out the same


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: RestoreFormer(), lambda: real_codeformer()])
def test_the_other_face_networks_in_their_real_size(tmp_path, make):
    torch.manual_seed(0)
    loaded = load(save(make(), tmp_path / "faces.pth", "params_ema"))
    assert (loaded.kind, loaded.side) == ("faces", 512)
    y = run(loaded, torch.rand(1, 3, 512, 512))
    assert y.shape == (1, 3, 512, 512) and np.isfinite(y.numpy()).all()


def real_codeformer() -> CodeFormer:
    return CodeFormer(64, 256, 1024, 256, 512, 9, {"32": 256, "64": 256, "128": 128, "256": 128}).eval()


@pytest.mark.slow
def test_an_inpainting_network_is_refused(tmp_path):
    from spandrel.architectures.LaMa import LaMa

    torch.manual_seed(0)
    assert "inpainting" in refused(save(LaMa(), tmp_path / "lama.pth", "state_dict").path)
