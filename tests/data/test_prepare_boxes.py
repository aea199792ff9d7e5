import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokd_lightning.prepare.boxes import Track, no_face

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
    frames, centres = np.array([10.0, 20]), np.array([[0.25, 0.4], [0.3, 0.4]])
    track = Track(200, 100, frames, centres, 0.2)
    middle = [track.square(f, 200, 100, 1.0) for f in (10, 15, 20)]
    assert middle == [(30, 20, 40), (35, 20, 40), (40, 20, 40)]
    assert track.square(0, 200, 100, 1.0) == track.square(10, 200, 100, 1.0)
    assert track.square(99, 200, 100, 1.0) == track.square(20, 200, 100, 1.0)
    assert track.shows(15)
    exact = track._replace(exact=True, sides=np.array([0.2, 0.4]))
    assert [exact.shows(f) for f in (10, 15, 20)] == [True, False, True]
    assert [exact.square(f, 200, 100, 1.0).side for f in (10, 20)] == [40, 80]


def test_no_face_is_not_found():
    assert not no_face(10, 10).found
    assert not no_face(10, 10).shows(0)
    assert no_face(10, 20).size == (10, 20)
