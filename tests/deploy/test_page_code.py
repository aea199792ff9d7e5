"""The page's own resampling, cascade, tracking and colours, against OpenCV, Pillow and FFmpeg."""

import itertools

import av
import cv2
import numpy as np
import pytest
from page_code import as_array, as_image, call
from PIL import Image

from tokd_lightning.demo.cast import ProceduralCast
from tokd_lightning.demo.video import encode
from tokd_lightning.deploy.web import page_cascade
from tokd_lightning.prepare.boxes import Track
from tokd_lightning.prepare.detectors import haar
from tokd_lightning.prepare.haar import read_cascade
from tokd_lightning.prepare.imaging import enlarge
from tokd_lightning.prepare.tracking import follow_faces


@pytest.fixture(scope="module")
def cascade():
    return page_cascade(read_cascade())


@pytest.fixture(scope="module")
def drawn():
    cast = ProceduralCast(3, 320)
    return [np.asarray(cast.portrait(index).image) for index in range(3)]


def pictures():
    """Noise and smooth pictures of many sizes, and a size for each."""
    rng = np.random.default_rng(0)
    for number in range(12):
        height, width = rng.integers(20, 180, 2)
        picture = rng.integers(0, 256, (height, width, 3), np.uint8)
        if number % 2:
            picture = cv2.normalize(
                cv2.GaussianBlur(picture, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX
            )
        smaller = int(rng.integers(5, width + 1)), int(rng.integers(5, height + 1))
        if number % 4 == 0:  # whole factors have an arithmetic of their own
            factor = 2 + number % 3
            smaller = width // factor, height // factor
            picture = np.ascontiguousarray(picture[: smaller[1] * factor, : smaller[0] * factor])
        height, width = picture.shape[:2]
        larger = int(rng.integers(width, 2 * width + 2)), int(rng.integers(height, 2 * height + 2))
        yield picture, tuple(map(int, smaller)), larger


def test_resampling_equals_opencv_and_pillow_bit_by_bit():
    calls, expected = [], []
    for picture, smaller, larger in pictures():
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        calls.append(("grey", picture))
        expected.append(grey)
        for name, given, size, way in (
            ("area", picture, smaller, cv2.INTER_AREA),
            ("area", grey, larger, cv2.INTER_AREA),
            ("linear", picture, larger, cv2.INTER_LINEAR),
            ("linearExact", grey, smaller, cv2.INTER_LINEAR_EXACT),
            ("linearExact", grey, larger, cv2.INTER_LINEAR_EXACT),
        ):
            calls.append((name, given, *size))
            expected.append(cv2.resize(given, size, interpolation=way))
        shrunk = cv2.resize(grey, None, fx=0.37, fy=0.37, interpolation=cv2.INTER_AREA)
        calls.append(("area", grey, shrunk.shape[1], shrunk.shape[0], 0.37, 0.37))
        expected.append(shrunk)
        calls.append(("cubic", picture, *larger))
        expected.append(enlarge(picture, larger))
        for size in (smaller, larger, (smaller[0], larger[1]), (larger[0], smaller[1])):
            calls.append(("pillow", picture, *size))
            image = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
            expected.append(np.asarray(image))
    for given, made, correct in zip(calls, call(calls), expected, strict=True):
        np.testing.assert_array_equal(as_array(made), correct, err_msg=str((given[0], *given[2:])))


@pytest.mark.slow
def test_cascade_finds_the_boxes_of_opencv(cascade, drawn):
    file = cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml"
    opencv = cv2.CascadeClassifier(file)
    calls, expected = [], []
    for picture in drawn:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        two = np.concatenate([grey, cv2.resize(grey, (320, 320))[:, ::-1]], axis=1)
        for given in (grey, two, np.full((40, 60), 7, np.uint8)):
            for low, high in ((24, 0), (60, 200)):
                calls.append(("detect", given, low, *([high] if high else [])))
                found = opencv.detectMultiScale(
                    given, 1.1, 5, minSize=(low, low), maxSize=(high, high)
                )
                expected.append(sorted(np.reshape(found, (-1, 4)).tolist()))
    assert sum(map(bool, expected)) > len(drawn)
    rng = np.random.default_rng(0)
    clipped = 0
    for number in range(30):  # ungrouped, cut through the face: boxes end at the border
        grey = cv2.cvtColor(drawn[number % 3], cv2.COLOR_RGB2GRAY)
        size = (int(320 * rng.uniform(0.25, 0.8)),) * 2
        height, width = (size[0] * rng.uniform(0.6, 0.95, 2)).astype(int)
        given = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)[:height, :width].copy()
        calls.append(("detect", given, 20, 1000, 1.1, 0))
        found = opencv.detectMultiScale(given, 1.1, 0, minSize=(20, 20))
        expected.append(sorted(np.reshape(found, (-1, 4)).tolist()))
        clipped += sum(box[2] != box[3] for box in expected[-1])
    assert clipped > 10
    assert [sorted(boxes) for boxes in call(calls, cascade)] == expected


@pytest.mark.slow
def test_faces_are_followed_as_in_python(cascade, drawn):
    big = cv2.resize(drawn[0], (420, 420), interpolation=cv2.INTER_CUBIC)
    moving = [np.roll(big, (3 * n, 5 * n), (0, 1))[:400, :] for n in range(9)]
    cut = [*moving[:5], *(np.roll(cv2.resize(drawn[1], (420, 420)), n, 1)[:400] for n in range(5))]
    hidden = [frame.copy() for frame in moving]
    for frame in hidden[4:6]:
        frame[:] = 90
    grey = [np.full((100, 120, 3), 40, np.uint8)] * 3
    cases = [
        [np.ascontiguousarray(frame) for frame in frames] for frames in (moving, cut, hidden, grey)
    ]
    made = call([("follow", [as_image(frame) for frame in frames]) for frames in cases], cascade)
    for frames, found in zip(cases, made, strict=True):
        track = follow_faces(dict(enumerate(frames)), haar())[0]
        if not track.found:
            assert found is None
            continue
        assert track.sides is not None
        assert [frame for frame, _ in found["frames"]] == track.frames.tolist()
        places = [[at["x"], at["y"]] for _, at in found["frames"]]
        np.testing.assert_allclose(places, track.centres, rtol=0, atol=1e-12)
        np.testing.assert_allclose([at["side"] for _, at in found["frames"]], track.sides)
        assert found["absent"] == len(track.absent)
        assert found["atOnce"] == track.at_once


def test_crop_rounds_as_python():
    grid = itertools.product((0.1, 0.5, 0.99), (0.0, 0.5), (0.05, 0.3, 0.9))
    cases = [({"x": x, "y": y, "side": side}, 101, 67, 1.3) for x, y, side in grid]
    expected = []
    for at, width, height, margin in cases:
        centre = np.array([[at["x"], at["y"]]])
        track = Track(width, height, np.zeros(1), centre, at["side"])
        expected.append(list(track.square(0, width, height, margin)))
    assert call([("square", *case) for case in cases]) == expected


def test_colours_equal_ffmpegs_upper_halves(drawn, tmp_path):
    """4:2:0 planes of a frame, limited range, no tags: BT.601."""
    file = tmp_path / "a.mp4"
    frames = np.stack([cv2.resize(picture, (160, 120)) for picture in drawn])
    encode(frames, file, "c23")
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        first = next(container.decode(stream)).reformat(format="yuv420p")
        planes = [bytes(plane) for plane in first.planes]
        strides = [plane.line_size for plane in first.planes]
        shown = first.to_ndarray(format="rgb24")
    offsets = np.cumsum([0, *map(len, planes[:-1])]).tolist()
    data = list(b"".join(planes))
    layout = [{"offset": o, "stride": s} for o, s in zip(offsets, strides, strict=True)]
    given = {"data": data, "layout": layout, "width": 160, "height": 120, "nv12": False}
    made = call(
        [("fromPlanes", given, {"matrix": 2, "full": False})],
        scripts=("resize", "haar", "faces", "pixels", "video"),
    )
    np.testing.assert_array_equal(as_array(made[0]), shown)
