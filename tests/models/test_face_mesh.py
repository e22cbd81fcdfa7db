"""The face mesh against what TensorFlow.js answers for the same crops (recipes/facemesh), and the form of its files."""

import json
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from calotype.errors import CalotypeError
from calotype.models.graph import GraphNetwork, read_graph
from calotype.ops.faces import align, similarity, template

# Printed by recipes/facemesh/reference.py: (x, y) in pixels of the networks' crops
MESH = {
    1: (96.247, 110.728),
    10: (100.261, 45.652),
    33: (65.708, 80.111),
    61: (73.195, 120.346),
    105: (69.117, 64.240),
    133: (85.764, 82.783),
    152: (93.737, 160.418),
    234: (50.140, 90.593),
    263: (130.622, 82.921),
    291: (118.822, 122.201),
    334: (128.695, 66.541),
    454: (144.916, 94.427),
}
EYE = {
    0: (23.817, 30.949),
    4: (32.391, 34.427),
    8: (41.926, 33.779),
    12: (31.423, 27.919),
    71: (31.898, 31.036),
    72: (35.964, 31.179),
    73: (31.977, 27.167),
    74: (27.658, 30.871),
}


@pytest.fixture(scope="module")
def face_mesh(engine):
    return engine.models.face_mesh()


@pytest.fixture(scope="module")
def crop(portrait, engine):
    """The portrait's face, aligned, and the matrix to the crop."""
    (face,) = engine.models.detector().find(portrait)
    matrix = similarity(face.landmarks, template(512))
    return align(portrait, matrix, 512).astype(np.float32) / 255, matrix, face


def answer(network, pixels, name):
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return network(x)[name].numpy().reshape(-1, 3)[:, :2]


def test_points_are_those_of_tensorflow_js(face_mesh, portrait):
    mesh = answer(face_mesh.mesh_network, portrait[20:212, 128:320], "mesh")
    eye = answer(face_mesh.iris_network, portrait[70:134, 172:236], "points")
    assert mesh.shape == (468, 2) and eye.shape == (76, 2)
    for points, expected in ((mesh, MESH), (eye, EYE)):
        assert np.abs(points[list(expected)] - np.array(list(expected.values()))).max() < 0.01


def test_the_mesh_of_an_aligned_face_lies_on_its_landmarks(face_mesh, crop):
    pixels, matrix, face = crop
    mesh = face_mesh.find(pixels)
    assert mesh.is_sure
    landmarks = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    eyes, nose, mouth = mesh.irises[:, 0], mesh.points[4, :2], mesh.points[[61, 291], :2]
    assert np.abs(eyes - landmarks[:2]).max() < 8  # of 512; the detector's are centres of eyes
    assert np.abs(nose - landmarks[2]).max() < 16 and np.abs(mouth - landmarks[3:]).max() < 16
    widths = np.linalg.norm(mesh.irises[:, 1] - mesh.irises[:, 3], axis=1)
    assert widths.min() > 18 and widths.max() < 27  # an iris is 11.7 mm wide, eyes are 63 mm apart: 126 pixels


def test_a_mirrored_face_has_the_mirrored_mesh(face_mesh, crop):
    pixels = crop[0]
    mesh, mirrored = face_mesh.find(pixels), face_mesh.find(pixels[:, ::-1])
    back = mirrored.irises[::-1] * [-1, 1] + [511, 0]
    assert np.linalg.norm(back[:, 0] - mesh.irises[:, 0], axis=1).max() < 6


def test_a_grey_crop_and_another_size_have_the_same_mesh(face_mesh, crop):
    pixels = crop[0]
    mesh = face_mesh.find(pixels)
    grey = face_mesh.find(pixels.mean(2, keepdims=True))
    half = face_mesh.find(pixels.reshape(256, 2, 256, 2, 3).mean((1, 3)))
    for found, scale in ((grey, 1), (half, 2)):
        for points, true in ((found.points[:, :2], mesh.points[:, :2]), (found.irises, mesh.irises)):
            assert np.abs((points + 0.5) * scale - 0.5 - true).mean() < 3


def test_no_face_is_not_sure(face_mesh):
    noise = np.random.default_rng(0).random((512, 512, 3), np.float32)
    assert not face_mesh.find(noise).is_sure
    assert not face_mesh.find(np.full((64, 64, 1), 0.5, np.float32)).is_sure


def test_a_face_takes_less_than_50_ms_of_one_core(face_mesh, crop):
    def seconds():
        start = time.thread_time()
        face_mesh.find(crop[0])
        return time.thread_time() - start

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert min(seconds() for _ in range(10)) < 0.05  # 27 to 30 ms on the slowest seen
    finally:
        torch.set_num_threads(threads)


def test_layers_compute_as_in_tensorflow():
    """A convolution with stride 2 and SAME padding begins at the first pixel of an even side, not before it."""
    weight = torch.ones(1, 1, 3, 3)
    nodes = [{"op": "conv", "inputs": [0], "stride": 2, "padding": "same", "groups": 1}]
    graph = GraphNetwork({"side": 4, "nodes": nodes, "outputs": {"y": 1}}, {"1.weight": weight})
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert graph(x)["y"].tolist() == [[45.0, 39.0, 66.0, 50.0]]


@pytest.mark.parametrize(
    "plan",
    [
        "no JSON",
        "[]",
        '{"side": 4, "outputs": {"y": 1}, "nodes": [{"op": "exec", "inputs": [0]}]}',
        '{"side": 4, "outputs": {"y": 1}, "nodes": [{"op": "add", "inputs": [0, 1]}]}',
        '{"side": 4, "outputs": {"y": 5}, "nodes": [{"op": "add", "inputs": [0, 0]}]}',
        "[" * 100_000,
    ],
)
def test_a_file_without_a_graph_is_refused(tmp_path, plan):
    save_file({"1.weight": torch.zeros(1)}, tmp_path / "a.safetensors", {"graph": plan})
    with pytest.raises(CalotypeError, match=r"a\.safetensors cannot be read as a network with its graph"):
        read_graph(tmp_path / "a.safetensors")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(json.dumps({}).encode())
    with pytest.raises(CalotypeError, match="cannot be read as a network"):
        read_graph(tmp_path / "a.safetensors")
