"""The ports of OpenCV's functions against OpenCV, on random input."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tokd_lightning.demo.cast import ProceduralCast
from tokd_lightning.prepare import haar, imaging, resample

WAYS = {
    resample.area: cv2.INTER_AREA,
    resample.linear: cv2.INTER_LINEAR,
    resample.linear_exact: cv2.INTER_LINEAR_EXACT,
    resample.cubic: cv2.INTER_CUBIC,
}


@pytest.fixture(autouse=True)
def _opencv_s_own_code():
    used = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    yield
    cv2.ipp.setUseIPP(used)


def random_pictures(count, rng):
    """Pictures of random sizes, some with sizes that divide evenly, and the sizes to resize to."""
    for number in range(count):
        height, width = rng.integers(2, 120, 2)
        size = tuple(int(side) for side in rng.integers(1, 150, 2))
        if number % 4 == 0:
            factor = int(rng.integers(2, 5))
            size = max(1, width // factor), max(1, height // factor)
            height, width = (max(2, factor * side) for side in size[::-1])
        shape = (height, width) if number % 2 else (height, width, 3)
        yield rng.integers(0, 256, shape, dtype=np.uint8), (int(size[0]), int(size[1]))


@pytest.mark.parametrize("port", WAYS, ids=lambda port: port.__name__)
def test_resampling_equals_opencv_s_on_random_pictures(port):
    for picture, size in random_pictures(80, np.random.default_rng(0)):
        if port is resample.linear_exact:
            picture = np.ascontiguousarray(picture[..., 0] if picture.ndim == 3 else picture)
        expected = cv2.resize(picture, size, interpolation=WAYS[port])
        np.testing.assert_array_equal(port(picture, size), expected, f"{picture.shape} -> {size}")


def test_shrinking_by_a_factor_equals_opencv_s():
    rng = np.random.default_rng(1)
    for picture, _ in random_pictures(40, rng):
        factor = float(rng.uniform(max(0.2, 1.1 / min(picture.shape[:2])), 1))
        expected = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        found = resample.area(picture, expected.shape[1::-1], (factor, factor))
        np.testing.assert_array_equal(found, expected)


def test_grey_equals_opencv_s_for_many_colours():
    colours = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    expected = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(resample.grey(colours), expected)


def portrait(cast, number, side):
    drawn = Image.fromarray(np.asarray(cast.portrait(number).image).astype(np.uint8))
    return np.asarray(drawn.resize((side, side)).convert("L"))


def scenes():
    rng = np.random.default_rng(0)
    cast = ProceduralCast(0, 128)
    for number in range(2):
        scene = np.kron(rng.integers(0, 256, (17, 20)), np.ones((12, 12))).astype(np.uint8)
        if number:
            side = int(rng.integers(90, 150))
            scene[10 : 10 + side, 20 : 20 + side] = portrait(cast, number, side)
            scene[130:180, 180:230] = portrait(cast, 9 - number, 50)
        yield scene
    yield np.full((60, 60), 90, np.uint8)
    yield rng.integers(0, 256, (19, 40), dtype=np.uint8)


@pytest.mark.parametrize(
    ("neighbours", "limits"), [(5, (18, None)), (0, (18, None)), (2, (34, 70))]
)
def test_the_cascade_finds_the_boxes_that_opencv_finds(neighbours, limits):
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + haar.CASCADE)
    sizes = {name: (v, v) for name, v in zip(("minSize", "maxSize"), limits, strict=True) if v}
    found = 0
    for scene in scenes():
        expected = np.asarray(cascade.detectMultiScale(scene, 1.1, neighbours, **sizes))
        boxes = haar.detect(scene, neighbours, *limits)
        assert sorted(map(tuple, boxes)) == sorted(map(tuple, expected.reshape(-1, 4)))
        found += len(boxes)
    assert found


def test_boxes_are_merged_as_opencv_merges_them():
    rng = np.random.default_rng(0)
    for _ in range(20):
        centres = rng.integers(0, 200, (5, 4)) + np.array([0, 0, 30, 30])
        boxes = (centres[rng.integers(0, 5, 60)] + rng.integers(-6, 7, (60, 4))).astype(np.int64)
        expected, _ = cv2.groupRectangles(boxes.tolist(), 3, 0.2)
        found = haar.grouped(boxes, 3)
        assert sorted(map(tuple, found)) == sorted(map(tuple, np.reshape(expected, (-1, 4))))


def test_the_shipped_cascade_is_opencv_s_own():
    theirs = Path(cv2.data.haarcascades, haar.CASCADE)
    assert Path(haar.__file__).with_name(haar.CASCADE).read_bytes() == theirs.read_bytes()


def test_a_patch_is_found_where_opencv_finds_it(monkeypatch):
    rng = np.random.default_rng(0)
    for _ in range(20):
        part = cv2.GaussianBlur(rng.integers(0, 256, (60, 50), dtype=np.uint8), (0, 0), 2)
        y, x, height, width = *rng.integers(0, 20, 2), *rng.integers(16, 30, 2)
        patch = cv2.add(part[y : y + height, x : x + width], 9)
        monkeypatch.setattr(imaging, "HAS_OPENCV", True)
        expected, place = imaging.best_match(part, patch)
        monkeypatch.setattr(imaging, "HAS_OPENCV", False)
        found, at = imaging.best_match(part, patch)
        assert at == place == (x, y)
        assert found == pytest.approx(expected, abs=2e-4)


def test_enlarging_does_not_depend_on_intel_s_library():
    picture = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    for used in (True, False):
        cv2.ipp.setUseIPP(used)
        expected = resample.cubic(picture, (96, 96))
        np.testing.assert_array_equal(imaging.enlarge(picture, (96, 96)), expected)
        assert cv2.ipp.useIPP() == (used and cv2.ipp.useIPP())


def test_faces_are_found_and_cropped_alike_without_opencv(monkeypatch):
    from tokd_lightning.deploy.found import ReadOptions
    from tokd_lightning.deploy.read import read_picture
    from tokd_lightning.prepare.finders import make_finder

    rng = np.random.default_rng(0)
    scene = rng.integers(90, 120, (300, 420, 3), dtype=np.uint8)
    drawn = np.asarray(ProceduralCast(0, 200).portrait(1).image)
    scene[30:230, 100:300] = drawn.astype(np.uint8)
    for size in (64, 299):
        wanted = ReadOptions(1, size, "haar", 1.3, False, every=True)
        looks = []
        for has_opencv in (True, False):
            monkeypatch.setattr(imaging, "HAS_OPENCV", has_opencv)
            make_finder.cache_clear()
            looks.append(read_picture(scene, wanted).looks)
        make_finder.cache_clear()
        assert [look.box for look in looks[0]] == [look.box for look in looks[1]]
        assert len(looks[0]) >= 1
        for one, other in zip(*looks, strict=True):
            np.testing.assert_array_equal(one.face, other.face)
    assert Image.fromarray(looks[0][0].face).size == (299, 299)
