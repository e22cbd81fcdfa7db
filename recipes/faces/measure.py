"""Measures a face network on faces by how blurred they are; prints the tables of its card and of the README.

    python recipes/faces/measure.py HELD [NETWORK]

HELD is a folder of aligned, sharp faces that the network (faces-v3 unless given) didn't learn from. Each is degraded
`DRAWS` times by the recipe it was trained with, and once more strongly. What remains is told by the sigma by which the
sharp face has to be blurred to resemble the degraded one best: thirds by it are `light`, `middle` and `hard`, and the
more strongly degraded ones `beyond`. The network is run once, and as `restore` runs it: also on the mirror image. Needs
`calotype[train]`; with `calotype[likeness]` there is a column of dlib's distances.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from calotype.engine import Engine
from calotype.inference.face_parts import RestoredCrop, is_unclear
from calotype.inference.faces import restore_crop
from calotype.models import face_identity
from calotype.ops import face_measures as measures
from calotype.ops.degrade.face import FaceRecipe, degrade_faces
from calotype.ops.face_parts import Mesh
from calotype.ops.faces import template
from calotype.pipelines.train_restorer import recipe
from calotype.settings import Settings
from calotype.training.data.faces import Face, faces_in, tensor_of
from calotype.training.enhance.loop import psnr
from calotype.training.optim.perceptual import Lite

SIDE, DRAWS, SHARPEN = 512, 2, 0.6
SIGMAS = np.geomspace(0.5, 24, 24)  # of 512 pixels, at which sharp faces are compared with degraded ones
MIDDLE = slice(140, 440), slice(110, 402)  # rows and columns of eyes, nose and mouth
FACE = slice(112, 464), slice(80, 432)  # of what is compared by features
CLASSES = ("light", "middle", "hard", "beyond")
OTHER_PERSON, MISPLACED = 0.55, 8.0  # dlib's distance and pixels of landmarks, from which a face is not restored


@dataclass(frozen=True, eq=False)
class Figures:
    """Of a picture against the sharp one."""

    perceptual: float  # of the face; mean over the picture and its mirror image
    psnr: float  # dB
    landmarks: float  # pixels of 512, mean over the mesh's points of outline and parts
    eyes: float  # by how much the eyes are open unequally otherwise than in the sharp one, of their width
    likeness: float  # distance by the mesh, as the guard measures it
    person: float  # distance of dlib's descriptors, NaN without them


@dataclass(frozen=True, eq=False)
class Sample:
    sigma: float
    crop: RestoredCrop
    photo: Figures
    once: Figures  # by the network, run once
    drawn: Figures  # as `restore` draws it


class Measurer:
    """Compares pictures, (512, 512, 3) float32 in [0, 1]."""

    def __init__(self, find: Callable[[np.ndarray], Mesh]):
        self.find, self.features = find, Lite()
        self.dlib = face_identity.FaceIdentity() if face_identity.is_installed() else None

    @torch.no_grad()
    def figures(self, picture: np.ndarray, mesh: Mesh, sharp: np.ndarray, sharp_mesh: Mesh) -> Figures:
        x, y = tensor(picture)[None], tensor(sharp)[None]
        faces = (x[..., *FACE], y[..., *FACE])
        perceptual = np.mean([float(self.features(*pair)) for pair in (faces, [face.flip(3) for face in faces])])
        eyes, sharp_eyes = (np.subtract(*measures.eye_openness(m)) for m in (mesh, sharp_mesh))
        points = [m.points[list(measures.INNER), :2] for m in (mesh, sharp_mesh)]
        return Figures(
            float(perceptual),
            psnr(x, y),
            float(np.linalg.norm(points[0] - points[1], axis=1).mean()),
            abs(float(eyes - sharp_eyes)),
            measures.mesh_distance(picture, mesh, sharp, sharp_mesh),
            self.dlib.distance(x[0], y[0], template(SIDE)) if self.dlib else np.nan,
        )


def main(folder: str, name: str = "faces-v3") -> None:
    engine = Engine(Settings.gather({"offline": True, "device": "cpu"}))
    network, measurer = engine.models.faces(name), Measurer(engine.models.face_mesh().find)
    faces = faces_in(Path(folder), SIDE, True, engine.models.detector(), None, 10**9, SHARPEN)
    faces = [face for face in faces if isinstance(face, Face)]
    usual = recipe(SIDE)
    within = list(samples(faces, usual, range(DRAWS), network, measurer))
    beyond = list(samples(faces, stronger(usual), [DRAWS], network, measurer))
    within.sort(key=lambda sample: sample.sigma)
    classes = [*(within[n * len(within) // 3 : (n + 1) * len(within) // 3] for n in range(3)), beyond]
    print_classes(dict(zip(CLASSES, classes, strict=True)), name)
    print_unclear(dict(zip(CLASSES, classes, strict=True)))


def stronger(usual: FaceRecipe) -> FaceRecipe:
    """Faces whose eyes are 5 to 16 pixels apart, as in the background of a group."""
    kernels = replace(usual.kernels, sigma=(2.0, 16.0))
    return replace(usual, kernels=kernels, smaller=(8.0, 24.0), sigma=(0.0, 25.0), quality=(50.0, 95.0))


def samples(faces: list[Face], degradation: FaceRecipe, draws, network, measurer: Measurer) -> Iterator[Sample]:
    for number, face in enumerate(faces):
        sharp = pixels(tensor_of(face))
        sharp_mesh = measurer.find(sharp)
        for draw in draws:
            generator = torch.Generator().manual_seed(number + 1000 * draw)
            low = degrade_faces(tensor(sharp)[None], generator, degradation)[0]
            photo = pixels(low)
            given = np.round(photo * 255).astype(np.uint8)
            once, drawn = (pixels(restore_crop(given, network, 0.5, mirrored)) for mirrored in (False, True))
            crop = RestoredCrop(photo, drawn, measurer.find(photo), measurer.find(drawn))
            sigma = matching_sigma(measures.luma(photo), measures.luma(sharp))
            pairs = ((photo, crop.photo_mesh), (once, measurer.find(once)), (drawn, crop.mesh))
            yield Sample(sigma, crop, *(measurer.figures(*pair, sharp, sharp_mesh) for pair in pairs))


def matching_sigma(light: np.ndarray, sharp: np.ndarray) -> float:
    errors = [float(np.square((measures.blurred(sharp, s) - light)[MIDDLE]).mean()) for s in SIGMAS]
    return float(SIGMAS[int(np.argmin(errors))])


def tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)


def pixels(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.permute(1, 2, 0).numpy(), np.float32)


def print_classes(classes: dict[str, list[Sample]], name: str) -> None:
    print("| class | blur, sigma | | perceptual | PSNR | landmarks | eyes | likeness | person |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind, rows in classes.items():
        sigmas = [row.sigma for row in rows]
        for label, attribute in (("unrestored", "photo"), (f"{name}, once", "once"), (name, "drawn")):
            picked = [getattr(row, attribute) for row in rows]
            means = [np.mean([getattr(f, field) for f in picked]) for field in Figures.__dataclass_fields__]
            figures = " | ".join(f"{m:.{d}f}" for m, d in zip(means, (3, 2, 2, 3, 3, 3), strict=True))
            print(f"| {kind} ({len(rows)}) | {min(sigmas):.1f}-{max(sigmas):.1f} | {label} | {figures} |")


def print_unclear(classes: dict[str, list[Sample]]) -> None:
    """How well the faces that are left softer are those that come out as somebody else."""
    rows = [row for kind in classes.values() for row in kind]
    bad = np.array([row.drawn.person > OTHER_PERSON or row.drawn.landmarks > MISPLACED for row in rows])
    left = np.array([is_unclear(row.crop) for row in rows])
    print(f"\nnot restored: {bad.sum()} of {len(rows)}; left softer: {left.sum()}")
    print(f"precision {bad[left].mean():.2f}, recall {left[bad].mean():.2f}")
    numbers = np.cumsum([0, *(len(kind) for kind in classes.values())])
    for kind, start, end in zip(classes, numbers, numbers[1:], strict=False):
        print(f"{kind}: not restored {bad[start:end].sum()}, left softer {left[start:end].sum()} of {end - start}")
    confidence = [-row.crop.photo_mesh.confidence for row in rows]
    for field in ("person", "landmarks", "perceptual"):
        rank = spearmanr(confidence, [getattr(row.drawn, field) for row in rows])[0]
        print(f"the mesh's doubt and the error in {field}: Spearman {rank:.2f}")
    gain = np.array([row.photo.person - row.drawn.person for row in rows])
    print(f"restoring brings the person nearer by {gain[left].mean():.3f} there, by {gain[~left].mean():.3f} elsewhere")


if __name__ == "__main__":
    main(*sys.argv[1:])
