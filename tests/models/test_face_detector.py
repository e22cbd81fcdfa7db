"""The detector on a public-domain portrait: Eileen Collins, by NASA."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from skimage.data import astronaut, brick, camera, chelsea, stereo_motorcycle

from calotype.checkpoints.bundled import shipped
from calotype.errors import CalotypeError
from calotype.models.face_detector import LANDMARK_WIDTHS, Detector, iou
from tests.ops.repair.scenes import FOLDERS, SCENES, opened

EYES, NOSE, MOUTH = slice(0, 2), 2, slice(3, 5)


@pytest.fixture(scope="module")
def detector():
    return Detector(shipped("yunet", "face_detection_yunet_2023mar.onnx"))


@pytest.fixture(scope="module")
def photo():
    return astronaut()


@pytest.fixture(scope="module")
def upright(detector, photo):
    (face,) = detector.find(photo)
    return face


def test_a_face_has_its_features_in_their_places(upright):
    x, y, w, h = upright.box
    assert upright.confidence > 0.9
    assert 160 < x < 200 and 50 < y < 90 and 70 < w < 120 and 80 < h < 140
    points = upright.landmarks
    assert points.shape == (5, 2)
    assert points[0, 0] < points[1, 0] and points[3, 0] < points[4, 0]  # left first, as seen
    assert points[EYES, 1].max() < points[NOSE, 1] < points[MOUTH, 1].min()
    assert ((points > [x, y]) & (points < [x + w, y + h])).all()


def test_the_mirrored_face_has_mirrored_landmarks(detector, photo, upright):
    (face,) = detector.find(photo[:, ::-1])
    mirrored = upright.landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [photo.shape[1] - 1, 0]
    assert np.abs(face.landmarks - mirrored).max() < 1.5


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_photo_has_the_same_face(detector, photo, upright, quarters):
    (face,) = detector.find(np.rot90(photo, quarters))
    points, (height, width) = face.landmarks, photo.shape[:2]
    for _ in range(quarters):  # np.rot90 moves (x, y) to (y, width - 1 - x); this is the way back
        points = np.stack([width - 1 - points[:, 1], points[:, 0]], 1)
    assert height == width
    assert np.abs(points - upright.landmarks).max() < 0.1
    centre = np.array([face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2])
    assert np.abs(centre - face.landmarks.mean(0)).max() < 20


def test_a_turned_photo_that_is_not_square_is_mapped_back(detector, photo, upright):
    part = photo[:300]  # 300 x 512
    (face,) = detector.find(np.rot90(part, 1))  # 512 x 300: (x, y) went to (y, 511 - x)
    expected = np.stack([upright.landmarks[:, 1], 511 - upright.landmarks[:, 0]], 1)
    assert np.abs(face.landmarks - expected).max() < 1.5
    x, y, w, h = upright.box
    assert iou(face.box, (y, 512 - x - w, h, w)) > 0.85


@pytest.mark.parametrize("side", [256, 128, 64])
def test_small_faces_are_found(detector, photo, upright, side):
    small = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
    face = max(detector.find(small), key=lambda f: f.confidence)
    ratio = 512 / side
    assert np.abs((face.landmarks + 0.5) * ratio - 0.5 - upright.landmarks).max() < 1.5 * ratio


def test_a_face_that_fills_a_large_picture_is_found(detector, photo):
    close = cv2.resize(photo[50:210, 140:300], (1600, 1600), interpolation=cv2.INTER_CUBIC)
    face = detector.find(close)[0]
    assert face.confidence > 0.8 and face.box[2] > 600


def test_a_grey_photo_has_the_same_face(detector, photo, upright):
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)
    (face,) = detector.find(grey)
    assert np.abs(face.landmarks - upright.landmarks).max() < 2


def test_two_faces_are_two(detector, photo):
    faces = detector.find(np.hstack([photo, photo]))
    assert len(faces) == 2
    assert abs(abs(faces[0].box[0] - faces[1].box[0]) - 512) < 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (8, 4000), (33, 31)])
def test_pictures_of_any_shape_are_looked_at(detector, shape):
    assert detector.find(np.full((*shape, 3), 128, np.uint8)) == []


def test_nothing_is_found_where_nothing_is(detector):
    wall = brick()[..., None].repeat(3, 2)
    noise = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    assert [f for f in detector.find(wall) + detector.find(noise) if f.confidence >= 0.7] == []


def halved(pixels):
    return np.atleast_3d(cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def check_stays(detector, pixels):
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    assert [detector.upright_turns(np.rot90(pixels, quarters)) for quarters in range(4)] == [0, 0, 0, 0]


def test_what_only_looks_like_a_face_turns_no_photo(detector):
    """In one orientation each of them has something that the detector takes for a face, with up to 0.8."""
    for pixels in (*stereo_motorcycle()[:2], halved(chelsea())):
        check_stays(detector, pixels)
    assert detector.find(halved(chelsea())) == []


@pytest.mark.slow
def test_no_photo_without_a_face_is_turned(detector):
    names = [folder / name for folder, names in FOLDERS.items() for name in names]
    photos = [opened(path) for path in names if path.stem not in ("astronaut", "camera", "groot")]
    photos += [np.clip(scene(), 0, 255).astype(np.uint8) for scene in SCENES]
    assert len(photos) == 39
    for pixels in photos:
        check_stays(detector, pixels)
        check_stays(detector, halved(pixels))


@pytest.mark.parametrize("person", [astronaut, camera])
def test_a_face_shows_which_side_is_up(detector, person):
    whole = np.broadcast_to(np.atleast_3d(person()), (512, 512, 3))
    for pixels in (whole, halved(whole)):
        assert [detector.upright_turns(np.rot90(pixels, quarters)) for quarters in range(4)] == [0, 3, 2, 1]


def test_most_faces_show_which_side_is_up(detector, photo):
    """Two that stand and one that lies; one that stands on its head beside one that lies shows nothing."""
    small = cv2.resize(photo[:300, 60:360], (150, 150), interpolation=cv2.INTER_AREA)
    group = np.hstack([small, small, np.rot90(small)])
    assert [detector.upright_turns(np.rot90(group, quarters)) for quarters in range(3)] == [0, 3, 2]
    assert detector.upright_turns(np.hstack([np.rot90(small), np.rot90(small, 2)])) == 0


def test_a_turned_photo_is_looked_at_once_in_each_crop(detector, photo, monkeypatch):
    seen, detect = [], detector._detect

    def counted(picture, scale):
        seen.append((picture.tobytes(), picture.shape, scale))
        return detect(picture, scale)

    monkeypatch.setattr(detector, "_detect", counted)
    assert len(detector.find(np.rot90(photo))) == 1
    assert len(seen) == len(set(seen)) > len(LANDMARK_WIDTHS)


@pytest.mark.slow
def test_threads_see_the_same_as_one(detector, photo, upright):
    photos = [photo, photo[:400], photo[:, :450], photo] * 2
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.find, photos))
    alone = [detector.find(one) for one in photos]
    assert [[f.box for f in one] for one in together] == [[f.box for f in one] for one in alone]
    assert np.array_equal(together[0][0].landmarks, upright.landmarks)


def test_opencv_says_nothing_needless(photo, capfd):
    Detector(shipped("yunet", "face_detection_yunet_2023mar.onnx")).find(photo[:300, :300])
    assert capfd.readouterr().err == ""


def test_a_file_that_is_no_detector_is_named(tmp_path):
    path = tmp_path / "yunet.onnx"
    with pytest.raises(CalotypeError, match=r"yunet\.onnx cannot be read"):
        Detector(path)
    path.write_bytes(b"not a network at all")
    with pytest.raises(CalotypeError, match=r"yunet\.onnx cannot be read"):
        Detector(path)
