"""dlib's face descriptor without dlib: its file is read, and what it computes is what dlib computes."""

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from calotype.errors import CalotypeError
from calotype.models.face_identity import FaceDescriptor, FaceIdentity, read_descriptor
from calotype.ops.faces import template

# every eighth number of what dlib 20.0.1 computes of the astronaut's rows 40 to 190 and columns 150 to 300
DESCRIPTOR = [-0.045005, 0.057022, -0.1084, -0.101123, -0.163982, -0.209681, 0.138951, 0.006798]
DESCRIPTOR += [0.167031, -0.151548, -0.029962, 0.201404, -0.131453, -0.180374, 0.171363, -0.069418]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = FaceDescriptor().eval()
    for tensor in network.state_dict().values():
        torch.nn.init.normal_(tensor, std=0.03)
    return network


def number(value: int) -> bytes:
    data = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "little")
    return bytes([len(data)]) + data


def file_of(network: FaceDescriptor) -> bytes:
    """The layout of dlib's file: layers from the picture on, a convolution's weights and offsets as one tensor."""
    state, found = network.state_dict(), [b"\x01\x01\x0dloss_metric_2\x03\x0a\xd7\xa3\x81\x1c"]

    def layer(name: bytes, *tensors: torch.Tensor, first: tuple[int, ...] = ()) -> None:
        data = torch.cat([tensor.flatten() for tensor in tensors])
        head = b"".join(map(number, (*first, 2, len(data), 1, 1, 1)))
        found.append(number(len(name)) + name + head + data.numpy().astype("<f4").tobytes() + b"\x01\x00110\x01\x02")

    for key, weight in state.items():
        if key.endswith("0.weight"):
            layer(b"con_4", weight, state[key.replace("weight", "bias")])
        elif key.endswith("1.weight"):
            layer(b"affine_", weight, state[key.replace("weight", "bias")])
            found.append(b"\x01\x05relu_")
    layer(b"fc_2", state["head.weight"].T.contiguous(), first=(128, 256))
    return b"".join(found)


def test_a_file_of_its_layout_is_read_whole(network, tmp_path):
    path = tmp_path / "网络.dat"
    path.write_bytes(file_of(network))
    read, x = read_descriptor(path), torch.rand(2, 3, 150, 150)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), read.state_dict().values(), strict=True)
    )
    assert torch.equal(read(x), network(x)) and read(x).shape == (2, 128)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-40_000],
        lambda data: data + data[-200_000:],
        lambda data: data.replace(b"affine_", b"affane_", 1),
        lambda data: b"",
        lambda data: bytes(1000),
        lambda data: b"\x01\x05con_4" + b"\xff" * 40,
        lambda data: b"\x01\x05con_4\x01\x02" + 4 * (b"\x0f" + b"\xff" * 15) + data,
        lambda data: b"\x01\x05con_4\x01\x02\x08" + (2**64 - 20).to_bytes(8, "little") + 3 * b"\x01\x01" + data,
    ],
)
def test_another_file_is_one_sentence(network, tmp_path, damage):
    path = tmp_path / "network.dat"
    path.write_bytes(damage(file_of(network)))
    with pytest.raises(CalotypeError, match=r"network.dat is not dlib's network of face descriptors; install"):
        read_descriptor(path)
    with pytest.raises(CalotypeError, match="nowhere is not dlib's"):
        read_descriptor(tmp_path / "nowhere")


@pytest.mark.likeness
def test_it_computes_what_dlib_computes():
    network = FaceIdentity().network
    chip = torch.from_numpy(astronaut()[40:190, 150:300].copy()).permute(2, 0, 1)[None] / 255
    descriptor = network(chip)[0]
    assert descriptor[::8].numpy() == pytest.approx(np.array(DESCRIPTOR), abs=2e-6)
    assert float(descriptor.norm()) == pytest.approx(1.441287, abs=1e-5)


@pytest.mark.likeness
def test_the_same_picture_is_at_no_distance_and_grey_is_near():
    face = torch.from_numpy(astronaut()[0:250, 100:350].copy()).permute(2, 0, 1) / 255
    measure, landmarks = FaceIdentity(), template(250)
    assert measure.distance(face, face, landmarks) == 0
    assert 0 < measure.distance(face, face.mean(0, keepdim=True).expand(3, -1, -1), landmarks) < 0.4
