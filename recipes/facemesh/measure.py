"""Measures the guards of restored faces on a folder of aligned, sharp faces; prints the tables of the README.

    python recipes/facemesh/measure.py FACES [EVERY [FIRST_SEED]]

Every EVERYth file is taken (14 unless given), brought to 512 pixels, degraded by GFPGAN's recipe with seeds from
FIRST_SEED on (0 unless given) and restored by faces-v3. With `calotype[likeness]` installed, the likeness by the mesh
is compared with dlib's.
"""

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr

from calotype.engine import Engine
from calotype.inference.face_parts import DRAWN_CREASE, has_crease
from calotype.inference.faces import restore_crops
from calotype.inference.uncertainty import deviations
from calotype.models import face_identity
from calotype.ops import face_measures as measures
from calotype.ops.degrade.face import degrade_faces
from calotype.ops.face_parts import Mesh, face_masks
from calotype.ops.faces import matched, template
from calotype.settings import Settings

SIDE, OTHER_PERSON = 512, 0.6
MIXED = (0.2, 0.35, 0.5, 0.75, 1.0)  # how much of the next face is mixed into a restored one


@dataclass(frozen=True, eq=False)
class Sample:
    """(512, 512, 3) float32 each, and their meshes."""

    sharp: np.ndarray
    photo: np.ndarray
    drawn: np.ndarray
    meshes: tuple[Mesh, Mesh, Mesh]


def main(folder: str, every: str = "14", first_seed: str = "0") -> None:
    engine = Engine(Settings.gather({"offline": True, "device": "cpu"}))
    network, find = engine.models.faces("faces-v3"), engine.models.face_mesh().find
    files = sorted(path for path in Path(folder).iterdir() if path.suffix in (".jpg", ".png"))[:: int(every)]
    samples = [sample(path, seed, network, find) for seed, path in enumerate(files, int(first_seed))]
    print(f"{len(samples)} faces")
    print_likeness(samples, find)
    print_creases(samples)
    print_irises(samples)
    print_uncertainty(samples[:32], network)


def sample(path: Path, seed: int, network, find) -> Sample:
    with Image.open(path) as opened:
        sharp = np.asarray(opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) / 255
    generator = torch.Generator().manual_seed(seed)
    low = degrade_faces(torch.from_numpy(sharp).permute(2, 0, 1)[None], generator)[0].clamp(0, 1)
    photo = np.round(low.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    (drawn,) = restore_crops([photo], network, 0.5, network.sees_mirrored)
    drawn, photo = np.ascontiguousarray(drawn.permute(1, 2, 0).numpy()), photo.astype(np.float32) / 255
    return Sample(sharp, photo, drawn, tuple(find(picture) for picture in (sharp, photo, drawn)))


def print_likeness(samples: list[Sample], find) -> None:
    dlib = face_identity.FaceIdentity() if face_identity.is_installed() else None
    kinds: dict[str, list[tuple[float, float]]] = {}
    for this, following in pairwise([*samples, samples[0]]):
        other = matched(following.drawn, this.photo)
        shown = {"the sharp original": this.sharp, "restored": this.drawn}
        shown |= {f"restored, {part:.0%} of another": this.drawn + part * (other - this.drawn) for part in MIXED}
        for kind, picture in shown.items():
            picture = np.ascontiguousarray(picture.clip(0, 1), np.float32)
            mesh = measures.mesh_distance(this.photo, this.meshes[1], picture, find(picture))
            tensors = (torch.from_numpy(p).permute(2, 0, 1) for p in (this.photo, picture))
            person = dlib.distance(*tensors, template(SIDE)) if dlib else np.nan
            kinds.setdefault(kind, []).append((mesh, person))
    print("\n| compared with the degraded face | mesh | dlib | over 0.6 by mesh | by dlib |\n|---|---|---|---|---|")
    for kind, pairs in kinds.items():
        values = np.array(pairs)
        mesh, person = np.median(values, 0)
        over = (values > OTHER_PERSON).mean(0)
        print(f"| {kind} | {mesh:.2f} | {person:.2f} | {over[0]:.0%} | {over[1]:.0%} |")
    every = np.array([pair for pairs in kinds.values() for pair in pairs])
    if dlib:
        print(f"Spearman over {len(every)} pairs: {spearmanr(*every.T)[0]:.2f}")


def print_creases(samples: list[Sample]) -> None:
    rows = []
    for this in samples:
        sharp, photo, drawn = (measures.luma(picture) for picture in (this.sharp, this.photo, this.drawn))
        for eye in (0, 1):
            mesh = this.meshes[2]
            depths = measures.crease_depth(sharp, this.meshes[0], eye), measures.crease_depth(drawn, mesh, eye)
            rows.append([*depths, *(has_crease(photo, drawn, mesh, eye, version) for version in (1, 2, 3))])
    sharp, drawn, *kept = np.array(rows).T
    for name, lids in (("single (under 0.02)", sharp < 0.02), ("double (over 0.08)", sharp > 0.08)):
        creased = lids & (drawn > DRAWN_CREASE)
        first, second, back = (int((creased & (stands == 0)).sum()) for stands in kept)
        print(
            f"\neyelids that are {name}: {lids.sum()}, drawn with a crease {creased.sum()}, taken back {back} "
            f"(in version 1: {first}, in version 2: {second})"
        )


def print_irises(samples: list[Sample]) -> None:
    errors = []
    for this in samples:
        true, *found = this.meshes
        width = np.linalg.norm(true.lids[:, 8] - true.lids[:, 0], axis=1)
        errors.append([(np.linalg.norm(m.irises[:, 0] - true.irises[:, 0], axis=1) / width).mean() for m in found])
    photo, drawn = np.mean(errors, 0)
    print(f"\nirises away from the true place, of the eye's width: in the photo {photo:.3f}, drawn {drawn:.3f}")


def print_uncertainty(samples: list[Sample], network) -> None:
    ranks = []
    for this in samples:
        crop = np.round(this.photo * 255).astype(np.uint8)
        deviation = deviations(crop, lambda crops: restore_crops(crops, network, 0.5))
        error = np.abs(measures.luma(this.drawn) - measures.luma(matched(this.sharp, this.photo)))
        inside = face_masks(this.meshes[2], SIDE)[0] > 0.9
        ranks.append(spearmanr(deviation[inside], measures.blurred(error, 4)[inside])[0])
    print(f"\ndeviation and error, Spearman over the pixels of a face, median: {np.median(ranks):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
