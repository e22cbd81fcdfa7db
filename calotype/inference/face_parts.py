"""What the mesh of a face is used for in restoring: masks, strengths of parts, and guards.

The guards compare the restored crop with the photo's: eyes that are closed stay closed, single eyelids stay single,
and the face stays that of the same person. What goes too far is blended back to the photo, and that is said.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from calotype.checkpoints.models import Models
from calotype.inference.identity import identity_measure, identity_score
from calotype.ops import face_measures as measures
from calotype.ops.face_parts import PARTS, Mesh, eye_mask, face_masks, part_mask
from calotype.ops.faces import FaceBlend, yaw
from calotype.record import FaceRecord
from calotype.tasks import Note, Restore, Strengths, note

MESH_YAW = 50  # degrees to the side, up to which the mesh fits
PROFILE_YAW, PROFILE_STRENGTH = 60, 0.3  # degrees from which strength falls, to this factor at 90
MOUTH_CORNERS = (61, 291)  # of the mesh
CLOSED, OPENED = 0.13, 0.1  # an eye's height over its width: of a closed one at most, and what opens it
# Eyes whose irises are drawn this far from where the photo has them, of the eyes' width, look elsewhere. Only a photo
# that is no more blurred than this, of 512 pixels, tells: in others the drawn iris is nearer to the true place
# (0.10 away in the mean) than the one that is found in the photo (0.14).
GAZE_SHIFT, GAZE_BLUR = 0.15, 2.0
# A crease of DRAWN_CREASE or deeper stands in the photo too if it has PHOTO_CREASE, and is darker where it is drawn
# (recipes/facemesh/measure.py has how many are taken back rightly and wrongly). Version 1: if it has EARLIER_CREASE and
# this fraction of what the drawn one has where it is blurred as the photo is.
DRAWN_CREASE, PHOTO_CREASE = 0.06, 0.005
# A photo blurred by CREASE_BLUR or more, of 512 pixels, may hide a real crease. Invented ones are drawn faintly there:
# creases of both eyes that are this deep in the mean are taken for real; from version 3 on.
DEEP_CREASE, CREASE_BLUR = 0.25, 4.0
EARLIER_CREASE, EARLIER_FRACTION = 0.02, 0.4
# A photo shows too little of a face if the mesh is less sure of it than CLEAR, and if it is at least as blurred as
# UNCLEAR_BLUR, of 512 pixels (recipes/faces/measure.py measures how well this tells faces that come out as others)
CLEAR, UNCLEAR_BLUR = 0.95, 4.0
BACK = (0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.0)  # factors of strength that are tried when a face is blended back


@dataclass(frozen=True, eq=False)
class RestoredCrop:
    """A face as the photo has it and as the network draws it: (side, side, C) float32 in [0, 1] each."""

    photo: np.ndarray
    drawn: np.ndarray
    photo_mesh: Mesh
    mesh: Mesh  # of the drawn one

    @property
    def side(self) -> int:
        return self.photo.shape[0]

    def at(self, strength: np.ndarray) -> np.ndarray:
        """The crop at a (side, side) strength."""
        return self.photo + strength[..., None] * (self.drawn - self.photo)


def guarded(
    photo: Tensor, drawn: Tensor, face: FaceRecord, task: Restore, models: Models
) -> Generator[Note, None, tuple[FaceRecord, FaceBlend | None]]:
    """How a restored crop is laid over the photo, and its record; None: by the mask of every face, at its strength.

    Args:
        photo, drawn: (3, side, side) in [0, 1].
    """
    if not task.uses_face_mesh:
        return face, None
    turn = yaw(np.array(face.landmarks))
    face = replace(face, yaw=round(turn, 1))
    if (factor := _profile_factor(turn)) < 1:
        face = replace(face, strength=round(factor * face.strength, 3))
        yield note(
            "face {number} is turned {yaw:.0f} degrees to the side, where networks know little of it, so it is "
            "restored with strength {strength:g}",
            number=face.number,
            yaw=abs(turn),
            strength=face.strength,
        )
    crop = _with_meshes(photo, drawn, models) if abs(turn) <= MESH_YAW else None
    if crop and task.face_version >= 2:
        face = yield from _softened(crop, face, task)
    parts = Strengths.read(task.strength).parts
    if crop is None or not crop.mesh.is_sure:
        face = replace(face, strength=round(face.softened * face.strength, 3))
        if parts:
            yield note("the parts of face {number} are not found, so it has one strength", number=face.number)
        return face, None
    strength = face.softened * part_strengths(crop.mesh, crop.side, face.strength, parts)
    for guard in (_keep_closed_eyes, _keep_gaze, _keep_single_lids, _keep_identity):
        face, strength = yield from guard(crop, strength, face, task, models)
    return face, FaceBlend(*face_masks(crop.mesh, crop.side), strength)


def _profile_factor(turn: float) -> float:
    beyond = (abs(turn) - PROFILE_YAW) / (90 - PROFILE_YAW)
    return 1 - (1 - PROFILE_STRENGTH) * float(np.clip(beyond, 0, 1))


def _with_meshes(photo: Tensor, drawn: Tensor, models: Models) -> RestoredCrop:
    before, after = (np.ascontiguousarray(t.permute(1, 2, 0).numpy(), dtype=np.float32) for t in (photo, drawn))
    face_mesh = models.face_mesh()
    return RestoredCrop(before, after, face_mesh.find(before), face_mesh.find(after))


def is_unclear(crop: RestoredCrop) -> bool:
    """Whether the photo shows too little of a face: what is drawn then is somebody."""
    if crop.photo_mesh.confidence >= CLEAR:
        return False
    return measures.face_blur(measures.luma(crop.photo), measures.luma(crop.drawn)) >= UNCLEAR_BLUR * crop.side / 512


def _softened(crop: RestoredCrop, face: FaceRecord, task: Restore) -> Generator[Note, None, FaceRecord]:
    """Gives less strength to a face that the photo doesn't show well enough, unless it has a strength of its own."""
    face = replace(face, clarity=round(crop.photo_mesh.confidence, 3))
    is_decided = task.unclear_strength == 1 or face.number in Strengths.read(task.strength).faces
    if is_decided or not is_unclear(crop):
        return face
    yield note(
        "the photo shows too little of face {number} to tell what it looked like, so it is left softer, at {part:.0%} "
        "of the restoration; give it a strength of its own to have it otherwise",
        number=face.number,
        part=task.unclear_strength,
    )
    return replace(face, softened=task.unclear_strength)


def part_strengths(mesh: Mesh, side: int, overall: float, parts: Mapping[str, float]) -> np.ndarray:
    """(side, side) float32: the strength of each pixel, `parts` over those of the skin."""
    strength = np.full((side, side), parts.get("skin", overall), np.float32)
    for part in PARTS if parts else ():
        strength += part_mask(mesh, part, side) * (parts.get(part, overall) - strength)
    return strength


Guard = Generator[Note, None, tuple[FaceRecord, np.ndarray]]


def _keep_closed_eyes(
    crop: RestoredCrop, strength: np.ndarray, face: FaceRecord, task: Restore, models: Models
) -> Guard:
    """Blends eyes back that are closed in the photo and drawn open."""
    before, after = measures.eye_openness(crop.photo_mesh), measures.eye_openness(crop.mesh)
    opened = [eye for eye in (0, 1) if before[eye] < CLOSED and after[eye] > before[eye] + OPENED]
    for eye in opened if crop.photo_mesh.is_sure else ():
        strength = strength * (1 - eye_mask(crop.mesh, eye, crop.side))
    if opened and crop.photo_mesh.is_sure:
        yield note("an eye of face {number} is closed in the photo, so it is not drawn open", number=face.number)
    return replace(face, eyes=tuple(round(v, 3) for v in before)), strength


def _keep_gaze(crop: RestoredCrop, strength: np.ndarray, face: FaceRecord, task: Restore, models: Models) -> Guard:
    """Blends eyes back that look elsewhere than in a photo that is sharp enough to tell."""
    is_open = min(face.eyes) >= CLOSED and crop.photo_mesh.is_sure
    if not is_open or measures.gaze_shift(crop.photo_mesh, crop.mesh) < GAZE_SHIFT:
        return face, strength
    mouth = crop.mesh.points[list(MOUTH_CORNERS), :2]
    light, drawn = measures.luma(crop.photo), measures.luma(crop.drawn)
    sigma = measures.matching_blur(light, drawn, mouth.mean(0), float(np.linalg.norm(mouth[1] - mouth[0])))
    if sigma <= GAZE_BLUR * crop.side / 512:
        strength = strength * (1 - part_mask(crop.mesh, "eyes", crop.side))
        yield note("face {number} looks elsewhere than in the photo, so its eyes are as there", number=face.number)
    return face, strength


def _keep_single_lids(
    crop: RestoredCrop, strength: np.ndarray, face: FaceRecord, task: Restore, models: Models
) -> Guard:
    """Blends upper eyelids back on which a crease is drawn that the photo doesn't show."""
    light, drawn = measures.luma(crop.photo), measures.luma(crop.drawn)
    creases, full = [], strength
    for eye in (0, 1):
        photo, result = (measures.crease_depth(picture, crop.mesh, eye) for picture in (light, drawn))
        if result > DRAWN_CREASE and not has_crease(light, drawn, crop.mesh, eye, task.face_version):
            strength, result = _without_crease(crop, strength, eye, max(DRAWN_CREASE, photo))
        creases.append((round(photo, 3), round(result, 3)))
    if strength is not full:
        yield note(
            "the eyelids of face {number} have no crease in the photo, so the one that was drawn is taken back",
            number=face.number,
        )
    return replace(face, creases=tuple(creases)), strength


def has_crease(light: np.ndarray, drawn: np.ndarray, mesh: Mesh, eye: int, version: int = 3) -> bool:
    """Whether the crease that is drawn on an eyelid stands in the photo too, both (side, side) luma.

    Where the photo is too blurred to tell, creases that are drawn deep on both eyelids are taken for real.
    """
    depth, width = measures.crease_depth(light, mesh, eye), np.linalg.norm(mesh.lids[eye, 8] - mesh.lids[eye, 0])
    sigma = measures.matching_blur(light, drawn, mesh.irises[eye, 0], float(width))
    if version < 2:
        expected = measures.crease_depth(measures.blurred(drawn, sigma), mesh, eye)
        return depth >= EARLIER_CREASE and depth >= EARLIER_FRACTION * expected
    if version >= 3 and _has_deep_creases(drawn, mesh):
        limit = CREASE_BLUR * len(light) / 512
        if sigma >= limit and measures.face_blur(light, drawn) >= limit:  # an invented crease makes an eye alone differ
            return True
    return depth >= PHOTO_CREASE and measures.crease_ratio(light, drawn, mesh, eye, sigma) > 0


def _has_deep_creases(drawn: np.ndarray, mesh: Mesh) -> bool:
    """Whether both upper eyelids are drawn with a crease, and deep ones in the mean."""
    depths = [measures.crease_depth(drawn, mesh, eye) for eye in (0, 1)]
    return min(depths) > DRAWN_CREASE and np.mean(depths) >= DEEP_CREASE


def _without_crease(crop: RestoredCrop, strength: np.ndarray, eye: int, limit: float) -> tuple[np.ndarray, float]:
    """The strength at which the crease on an eyelid is no deeper than `limit`, or 0 on the lid, and its depth."""
    mask = measures.lid_mask(crop.mesh, eye, crop.side)
    for factor in BACK:
        lower = strength * (1 - (1 - factor) * mask)
        depth = measures.crease_depth(measures.luma(crop.at(lower)), crop.mesh, eye)
        if depth <= limit:
            break
    return lower, depth


def _keep_identity(crop: RestoredCrop, strength: np.ndarray, face: FaceRecord, task: Restore, models: Models) -> Guard:
    """Blends a face back until it looks as much like the photo as is asked for."""
    measure = identity_measure(task)
    scores: list[float] = []
    for kept in (1.0, *BACK):
        blend = crop.at(kept * strength)
        mesh = crop.mesh if kept * strength.min() == 1 else models.face_mesh().find(blend)
        scores.append(identity_score(measure, crop.photo, crop.photo_mesh, blend, mesh, models))
        if scores[-1] >= task.min_likeness:
            break
    if kept < 1:
        yield note(
            "face {number} came out too unlike the photo (likeness {score:.2f}, from {least:g}), so it is blended back "
            "to {kept:.0%} of the restoration (likeness {now:.2f})",
            number=face.number,
            score=scores[0],
            least=task.min_likeness,
            kept=kept,
            now=scores[-1],
        )
    return replace(face, identity=round(scores[-1], 3), kept=kept), kept * strength
