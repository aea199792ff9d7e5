import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokd_lightning.data.prepare.boxes import Track, no_face, track_of

LENGTH = st.integers(1, 5000)
SHARE = st.floats(-0.5, 1.5)


def still(x: float, y: float, side: float, width: int, height: int) -> Track:
    return Track(width, height, np.zeros(1), np.array([[x, y]]), side)


@given(
    width=LENGTH, height=LENGTH, x=SHARE, y=SHARE, side=st.floats(0, 3), margin=st.floats(0.1, 3)
)
def test_crop_is_inside_the_picture_and_as_near_as_can_be(width, height, x, y, side, margin):
    square = still(x, y, side, width, height).square(7, width, height, margin)
    assert all(type(number) is int for number in square)
    assert 0 <= square.x <= width - square.side
    assert 0 <= square.y <= height - square.side
    assert square.side >= 1
    wanted = side * width * margin
    if wanted >= 1 and wanted < min(width, height) - 1:
        assert abs(square.side - wanted) <= 0.5
    for corner, centre, length in ((square.x, x, width), (square.y, y, height)):
        left = centre * length - square.side / 2
        if 0 <= left <= length - square.side:
            assert abs(corner - left) <= 0.5 + 1e-6
        else:
            assert corner == (0 if left < 0 else length - square.side)


def test_crop_scales_with_the_picture():
    track = still(0.5, 0.25, 0.25, 400, 200)
    assert track.square(0, 400, 200, 1.0) == (150, 0, 100)
    assert track.square(0, 800, 400, 1.0) == (300, 0, 200)


def test_centre_moves_evenly_between_known_frames_and_stays_beyond_them():
    boxes = {f: np.array([[10 + f, 20.0, 40, 40]]) for f in (10, 20, 30, 40)}
    track = track_of(boxes, 200, 100)
    middle = [track.square(f, 200, 100, 1.0) for f in (20, 25, 30)]
    assert middle == [(30, 20, 40), (35, 20, 40), (40, 20, 40)]
    assert track.square(0, 200, 100, 1.0) == track.square(10, 200, 100, 1.0)
    assert track.square(99, 200, 100, 1.0) == track.square(40, 200, 100, 1.0)


def test_jitter_is_smoothed_and_the_side_is_the_median():
    rng = np.random.default_rng(0)
    boxes = {
        f: np.array([[100 + rng.normal(0, 3), 80 + rng.normal(0, 3), s, s]])
        for f, s in enumerate([60, 61, 59, 90, 60, 60, 58, 62])
    }
    track = track_of(boxes, 400, 300)
    assert track.side * 400 == pytest.approx(60)
    raw = np.array([b[0, :2] + b[0, 2:] / 2 for b in boxes.values()]) / [400, 300]
    jumps, before = (np.abs(np.diff(c, axis=0)).mean() for c in (track.centres, raw))
    assert jumps < 0.7 * before


def test_false_alarms_are_left_out():
    face = [100.0, 80, 60, 60]
    boxes = {f: np.array([face]) for f in range(8)}
    boxes[2] = np.array([[300.0, 10, 90, 90], face])
    boxes[5] = np.array([[0.0, 200, 80, 80]])
    track = track_of(boxes, 400, 300)
    assert 5 not in track.frames
    assert {track.square(f, 400, 300, 1.0) for f in range(8)} == {(100, 80, 60)}


def test_of_two_people_the_nearer_one_is_followed_throughout():
    near, far = [200.0, 80, 90, 90], [20.0, 60, 50, 50]
    boxes = {f: np.array([far, near] if f % 2 else [near, far]) for f in range(8)}
    boxes[3] = np.array([far])
    assert {track_of(boxes, 400, 300).square(f, 400, 300, 1.0) for f in range(8)} == {(200, 80, 90)}


def test_a_face_that_crosses_the_picture_is_followed():
    boxes = {
        f: np.array([[30.0 * f, 50, 60, 60], [350.0, 220, 60, 60]][: 1 + f % 2]) for f in range(8)
    }
    track = track_of(boxes, 400, 300)
    assert len(track.frames) == 8
    assert track.square(4, 400, 300, 1.0).x == 120


@pytest.mark.parametrize(("seen", "found"), [(0, False), (1, False), (2, True)])
def test_a_face_must_be_seen_on_a_quarter_of_the_frames(seen, found):
    boxes = {f: np.array([[10.0, 10, 30, 30]][: int(f < seen)]).reshape(-1, 4) for f in range(8)}
    assert track_of(boxes, 100, 100).found is found


def test_no_frames_no_face():
    assert not track_of({}, 100, 100).found
    assert not no_face(10, 10).found
    assert no_face(10, 20).size == (10, 20)
