import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from tiny_videos import write_boxes

from tokd_lightning.errors import TokdError
from tokd_lightning.prepare import detectors, finders
from tokd_lightning.prepare.detectors import haar, mtcnn, yunet
from tokd_lightning.prepare.finders import Listed, Whole, fingerprint, make_finder

PHOTOGRAPHS = sorted((Path(__file__).parents[3] / "shared/faces").rglob("*.jpg"))
NOTHING = np.zeros((60, 100, 3), np.uint8)
needs_photographs = pytest.mark.skipif(not PHOTOGRAPHS, reason="the photographs are not here")


def load(file: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)


@needs_photographs
@pytest.mark.parametrize(
    "every", [pytest.param(12, id="few"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def test_haar_finds_exactly_one_face_on_photographs(every):
    detect = haar()
    found = [len(detect(load(file))) for file in PHOTOGRAPHS[::every]]
    assert found.count(1) >= 0.97 * len(found)


@needs_photographs
@pytest.mark.parametrize(("width", "height", "side"), [(640, 360, 200), (1280, 720, 300)])
def test_haar_s_box_is_where_the_face_is_at_any_size(width, height, side):
    face = cv2.resize(load(PHOTOGRAPHS[0]), (side, side), interpolation=cv2.INTER_AREA)
    alone = haar()(face)[0] + [width // 2, height // 4, 0, 0]
    scene = np.full((height, width, 3), face[2, 2], np.uint8)
    scene[height // 4 : height // 4 + side, width // 2 : width // 2 + side] = face
    found = haar()(scene)
    assert len(found) == 1
    np.testing.assert_allclose(found[0], alone, atol=0.12 * side)


def test_haar_finds_nothing_on_nothing():
    assert haar()(NOTHING).shape == (0, 4)
    assert haar()(np.zeros((1, 1, 3), np.uint8)).shape == (0, 4)


def test_yunet_without_opencv_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "yunet.onnx").touch()
    with pytest.raises(TokdError, match=r'needs OpenCV: pip install "tokd-lightning\[faces\]"'):
        detectors.yunet(tmp_path / "yunet.onnx")


def test_mtcnn_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    with pytest.raises(TokdError, match="pip install --no-deps facenet-pytorch"):
        mtcnn()


def test_mtcnn_s_corners_become_boxes_of_the_sure_ones(monkeypatch):
    class Network:
        def __init__(self, **settings):
            assert settings["keep_all"]

        def detect(self, picture):
            if not picture.any():
                return None, [None]
            return np.array([[10, 20, 40, 60], [0, 0, 5, 5.0]]), np.array([0.99, 0.5])

    package = ModuleType("facenet_pytorch")
    package.MTCNN = Network
    monkeypatch.setitem(sys.modules, "facenet_pytorch", package)
    assert mtcnn()(NOTHING + 1).tolist() == [[10, 20, 30, 40]]
    assert mtcnn()(NOTHING).shape == (0, 4)


def test_yunet_gets_bgr_of_the_picture_s_size(monkeypatch, tmp_path):
    class Network:
        @classmethod
        def create(cls, *_):
            return cls()

        def setInputSize(self, size):
            self.size = size

        def detect(self, picture):
            if not picture.any():
                return 1, None
            assert self.size == (100, 60)
            assert tuple(picture[0, 0]) == (3, 2, 1)
            return 1, np.array([[1, 2, 3, 4, *[0] * 11]], np.float32)

    monkeypatch.setattr(cv2, "FaceDetectorYN", Network)
    (tmp_path / "model.onnx").touch()
    detect = yunet(tmp_path / "model.onnx")
    assert detect(NOTHING + np.array([1, 2, 3], np.uint8)).tolist() == [[1, 2, 3, 4]]
    assert detect(NOTHING).shape == (0, 4)


def test_yunet_sees_large_pictures_at_320_pixels(monkeypatch, tmp_path):
    class Network:
        @classmethod
        def create(cls, *_):
            return cls()

        size = (320, 320)

        def setInputSize(self, size):
            self.size = size

        def detect(self, picture):
            assert self.size == picture.shape[1::-1]
            return 1, np.array([[16, 32, 80, 80, *[0] * 11]], np.float32)

    monkeypatch.setattr(cv2, "FaceDetectorYN", Network)
    (tmp_path / "model.onnx").touch()
    picture = np.ones((1280, 2560, 3), np.uint8)
    assert yunet(tmp_path / "model.onnx")(picture).tolist() == [[64, 128, 320, 320]]


def test_file_that_is_no_model_is_one_line(tmp_path):
    (tmp_path / "model.onnx").write_text("not a model")
    with pytest.raises(TokdError, match="is not a YuNet model"):
        yunet(tmp_path / "model.onnx")
    with pytest.raises(TokdError, match="no detector"):
        yunet(tmp_path / "none.onnx")


def test_listed_boxes_are_interpolated_as_they_are(tmp_path):
    file = write_boxes(tmp_path / "b.csv", ("a", 10, 60, 20, 20, 20), ("a", 0, 0, 0, 20, 20))
    [track] = Listed(file).find("a", {0: NOTHING})
    assert [track.square(f, 100, 60, 1.0)[:2] for f in (0, 5, 10)] == [(0, 0), (30, 10), (60, 20)]
    assert not Listed(file).find("b", {0: NOTHING})[0].found


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a", 0, 1, 1, 0, 5), "line 2: frame must be at least 0, w and h above 0"),
        (("a", -1, 1, 1, 5, 5), "line 2: frame must be"),
        (("a", 0, "nan", 1, 5, 5), "line 2: frame must be"),
        (("a", 0, "left", 1, 5, 5), "line 2: frame, x, y, w and h must be numbers"),
        (("a", 0), "line 2: frame, x, y, w and h must be numbers"),
    ],
)
def test_wrong_boxes_are_named_by_line(tmp_path, row, message):
    with pytest.raises(TokdError, match=message):
        Listed(write_boxes(tmp_path / "b.csv", row))


def test_wrong_tables_of_boxes_are_one_line(tmp_path):
    row = ("a", 0, 1, 1, 5, 5)
    with pytest.raises(TokdError, match="line 3: a second box for frame 0 of a"):
        Listed(write_boxes(tmp_path / "b.csv", row, row))
    (tmp_path / "b.csv").write_text("video,frame\n")
    with pytest.raises(TokdError, match="lacks the column x"):
        Listed(tmp_path / "b.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TokdError, match="cannot read"):
        Listed(tmp_path / "b.csv")


def test_whole_picture_needs_no_margin():
    assert Whole().margin(1.3) == 1
    assert Whole().find("a", {0: NOTHING})[0].square(3, 100, 60, 1.0) == (20, 0, 60)
    assert Whole().find("a", {0: NOTHING[:, :30]})[0].square(3, 30, 60, 1.0) == (0, 15, 30)


def test_fingerprint_is_of_the_content(tmp_path):
    one, other = (write_boxes(tmp_path / name, ("a", 0, 1, 1, 5, 5)) for name in ("1.csv", "2.csv"))
    assert fingerprint(str(one)) == fingerprint(str(other))
    write_boxes(other, ("a", 0, 1, 1, 5, 6))
    assert fingerprint(str(one)) != fingerprint(str(other))
    with pytest.raises(TokdError, match="no detector 'face'"):
        fingerprint("face")


def test_finder_is_made_by_name(tmp_path, monkeypatch):
    make_finder.cache_clear()
    assert isinstance(make_finder("none"), Whole)
    assert isinstance(make_finder("haar"), finders.Detecting)
    file = write_boxes(tmp_path / "B.CSV", ("a", 0, 1, 1, 5, 5))
    assert isinstance(make_finder(str(file)), Listed)
    with pytest.raises(TokdError, match="no detector"):
        make_finder(str(tmp_path / "none.onnx"))
