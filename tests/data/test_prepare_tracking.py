"""Where the crops of moving faces are, against the places to which a test has moved them."""

import cv2
import numpy as np
import pytest
from moving import SIZE, put, room, sway
from tiny_videos import rows_of, write_boxes
from trees import write_splits

from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.demo.video import encode
from tokd_lightning.prepare import prepare
from tokd_lightning.prepare.boxes import Track, as_large
from tokd_lightning.prepare.detectors import Detector
from tokd_lightning.prepare.finders import make_finder
from tokd_lightning.prepare.tracking import follow_faces, follow_known

SMALL = {"size": 32, "workers": 1}


def middles(rows: list[dict[str, str]]) -> dict[int, np.ndarray]:
    """Middles of the crops of a manifest by frame."""
    return {
        int(r["frame"]): np.array([int(r["x"]), int(r["y"])]) + int(r["side"]) / 2 for r in rows
    }


def kept(clip, count: int = 24) -> dict[int, np.ndarray]:
    return {i: clip[i] for i in evenly_spaced(len(clip), count)}


def test_crops_stay_on_a_face_that_moves(tmp_path):
    side, places = 70, sway(96, 70)
    video = tmp_path / "tree/test/real/a.mp4"
    video.parent.mkdir(parents=True)
    encode(np.stack([put(room(0), 0, place, side) for place in places]), video, "c23")
    prepare("folder", tmp_path / "tree", tmp_path / "out", **SMALL)
    found = middles(rows_of(tmp_path / "out/manifest.csv"))
    assert sorted(found) == evenly_spaced(96, 32)
    apart = [float(np.hypot(*(middle - places[f]))) / side for f, middle in found.items()]
    assert np.percentile(apart, 90) < 0.08
    assert max(apart) < 0.15


def test_nothing_is_carried_over_a_cut_or_past_a_face_that_leaves():
    left, right = (90.0, 110.0), (230.0, 120.0)
    clip = [put(room(1), 0, left, 60) for _ in range(16)]
    clip += [put(room(2), 2, right, 100) for _ in range(16)]
    clip += [room(3)] * 16
    [track] = follow_faces(kept(clip), make_finder("haar").detector)
    assert {f for f in kept(clip) if track.shows(f)} == {f for f in kept(clip) if f < 32}
    assert track.absent == {f for f in kept(clip) if f >= 32}
    for f in track.frames.astype(int):
        square = track.square(f, *SIZE, 1.0)
        place, side = (left, 60) if f < 16 else (right, 100)
        middle = np.array([square.x, square.y]) + square.side / 2
        assert np.hypot(*(middle - place)) < 0.08 * side
        assert square.side == pytest.approx(side, rel=0.15)


def test_frames_without_the_face_are_left_out_and_listed(tmp_path):
    clip = [put(room(1), 0, (120, 110), 70) for _ in range(24)]
    clip[9:15] = [room(1)] * 6
    for label in ("real", "fake/swap"):
        video = tmp_path / "tree/test" / label / "a.mp4"
        video.parent.mkdir(parents=True)
        encode(np.stack(clip if label == "real" else clip[:9]), video, "c23")
    prepare("folder", tmp_path / "tree", tmp_path / "out", **SMALL, frames=12)
    rows = rows_of(tmp_path / "out/manifest.csv")
    shown = [int(r["frame"]) for r in rows if r["method"] == "real"]
    assert shown == [f for f in evenly_spaced(24, 12) if not 9 <= f < 15]
    [problem] = [r for r in rows_of(tmp_path / "out/problems.csv") if r["problem"] == "face_lost"]
    assert problem["method"] == "real"
    assert problem["detail"] == "no face on 3 of 12 frames, which are left out: 9, 11, 13"


def scripted(boxes: dict[int, list[list[float]]]) -> tuple[Detector, dict[int, np.ndarray]]:
    """Make pictures that say which frame they are, and a detector that knows where faces are."""
    texture = np.random.default_rng(0).integers(0, 60, (200, 300, 3)).astype(np.uint8)
    pictures = {f: (texture + 3 * f).astype(np.uint8) for f in boxes}
    shown = {int(picture[0, 0, 0]): boxes[f] for f, picture in pictures.items()}

    def anywhere(picture):
        return np.array(shown[int(picture[0, 0, 0])], float).reshape(-1, 4)

    class Scripted(Detector):
        def of_side(self, picture, side):
            return anywhere(picture)

        def near(self, picture, box):
            found = anywhere(picture)
            return found[np.hypot(*(found[:, :2] - box[:2]).T) < 0.7 * box[2]]

    return Scripted(anywhere, lambda picture, side: anywhere(picture), 48.0), pictures


def test_of_two_people_the_nearer_one_is_followed_throughout():
    near, far = [180.0, 80, 90, 90], [20.0, 60, 50, 50]
    boxes = {f: [far, near] if f % 2 else [near, far] for f in range(12)}
    boxes[3] = [far]
    detector, pictures = scripted(boxes)
    tracks = follow_faces(pictures, detector)
    assert len(tracks) == 2
    assert as_large(tracks[0], tracks[1:]) == 0
    assert {tracks[0].square(f, 300, 200, 1.0) for f in tracks[0].frames} == {(180, 80, 90)}


def test_faces_that_are_as_large_are_all_followed():
    one, other = [20.0, 60, 80, 80], [200.0, 60, 72, 72]
    detector, pictures = scripted({f: [other, one] for f in range(12)})
    tracks = follow_faces(pictures, detector)
    assert as_large(tracks[0], tracks[1:]) == 1
    assert [track.square(5, 300, 200, 1.0) for track in tracks] == [(20, 60, 80), (200, 60, 72)]


def test_false_alarms_are_left_out():
    face = [100.0, 80, 60, 60]
    boxes = {f: [face] for f in range(12)}
    boxes[2] = [[220.0, 10, 70, 70], face]
    boxes[5] = [[0.0, 120, 80, 80]]
    detector, pictures = scripted(boxes)
    [track] = follow_faces(pictures, detector)
    assert {track.square(f, 300, 200, 1.0) for f in track.frames} == {(100, 80, 60)}


@pytest.mark.parametrize("alone", [False, True])
def test_a_larger_false_alarm_near_the_face_does_not_take_its_place(alone):
    face, alarm = [120.0, 110, 60, 60], [110.0, 45, 80, 80]
    boxes = {f: [face] for f in range(12)}
    boxes[5] = [alarm] if alone else [alarm, face]
    detector, pictures = scripted(boxes)
    [track] = follow_faces(pictures, detector)
    assert {track.square(f, 300, 200, 1.0) for f in track.frames} == {(120, 110, 60)}
    assert track.shows(4)
    assert track.shows(6)


@pytest.mark.parametrize(("seen", "found"), [(0, False), (1, False), (2, True)])
def test_a_face_must_be_seen_on_a_quarter_of_the_frames(seen, found):
    detector, _ = scripted({0: []})
    places = np.random.default_rng(1).integers(0, 255, (8, 40, 40, 3)).astype(np.uint8)
    faces = iter([[[5.0, 5, 20, 20]]] * seen + [[]] * 100)
    once = detector._replace(anywhere=lambda picture: np.array(next(faces)).reshape(-1, 4))
    [track] = follow_faces(dict(enumerate(places)), Detector(*once))
    assert track.found is found


def test_jitter_is_taken_out_and_motion_is_not():
    rng = np.random.default_rng(0)
    true = np.stack([60 + 6 * np.arange(16), 80 + 40 * np.sin(np.arange(16) / 2)], axis=1)
    seen = true + rng.normal(0, 1.2, true.shape)
    detector, pictures = scripted({f: [[*(seen[f] - 30), 60, 60]] for f in range(16)})
    [track] = follow_faces(pictures, detector)
    steady = track.centres * [300, 200]
    assert np.hypot(*(steady - true).T).max() < 0.08 * 60
    still = seen - true + [150, 100]
    detector, pictures = scripted({f: [[*(still[f] - 30), 60, 60]] for f in range(16)})
    [track] = follow_faces(pictures, detector)
    jumps = [np.abs(np.diff(c, axis=0)).mean() for c in (track.centres * [300, 200], still)]
    assert jumps[0] < 0.7 * jumps[1]


def test_a_face_that_the_detector_misses_is_found_by_its_picture():
    places = sway(12, 40)
    clip = {f: put(room(1), 0, places[f], 70) for f in range(12)}
    haar = make_finder("haar").detector
    missed = clip[6].tobytes()

    class Blind(Detector):
        def near(self, picture, box):
            found = super().near(picture, box)
            return found[:0] if picture.tobytes() == missed else found

        def of_side(self, picture, side):
            found = super().of_side(picture, side)
            return found[:0] if picture.tobytes() == missed else found

    seen = iter(range(99))
    first = haar._replace(anywhere=lambda p: haar(p) if next(seen) % 2 == 0 else haar(p)[:0])
    [track] = follow_faces(clip, Blind(*first))
    assert track.shows(6)
    middle = track.centres[track.frames == 6][0] * SIZE
    assert np.hypot(*(middle - places[6])) < 0.1 * 70


def test_a_fake_with_fewer_frames_takes_over_where_the_face_is():
    places = sway(96, 60)
    clip = [put(room(1), 0, place, 70) for place in places]
    detector = make_finder("haar").detector
    [track] = follow_faces(kept(clip), detector)
    other = {i: clip[i] for i in evenly_spaced(80, 24)}
    taken = follow_known(other, detector, track)
    assert taken.frames.tolist() == list(other)
    apart = np.hypot(*(taken.centres * SIZE - places[list(other)]).T) / 70
    assert np.percentile(apart, 90) < 0.08
    gone = dict.fromkeys(range(40, 60), room(1))
    assert not {*follow_known(gone, detector, track._replace(frames=track.frames * 0.1)).frames}


def two(one: float, other: float, changed: int | None) -> np.ndarray:
    """Film two people; one of them in another light."""
    frames = []
    for t in range(8):
        picture = put(room(4), 0, (90 + t, 120), one)
        picture = put(picture, 2, (230 - t, 120), other)
        if changed is not None:
            x = 90 + t if changed == 0 else 230 - t
            spot = np.zeros((*picture.shape[:2], 1), np.float32)
            cv2.circle(spot, (x, 125), 14, 40, -1)
            picture = np.clip(picture + spot, 0, 255).astype(np.uint8)
        frames.append(picture)
    return np.stack(frames)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("small", [66, 44])
@pytest.mark.parametrize("way", ["mask", "difference", "neither"])
def test_of_two_faces_the_changed_one_is_taken(tmp_path, way, small):
    root = tmp_path / "tree"
    write_splits(root / "splits", train=[["000", "001"]], val=[], test=[])
    original = root / "original_sequences/youtube/c23/videos/000.mp4"
    forged = root / "manipulated_sequences/Deepfakes/c23/videos/000_001.mp4"
    mask = root / "manipulated_sequences/Deepfakes/masks/videos/000_001.mp4"
    for file in (original, forged, *([mask] if way == "mask" else [])):
        file.parent.mkdir(parents=True)
    encode(two(80, small, 1), forged, "c23")
    if way == "difference":
        encode(two(80, small, None), original, "c23")
    if way == "mask":
        spots = np.zeros((8, *SIZE[::-1], 3), np.uint8)
        for t in range(8):
            cv2.circle(spots[t], (230 - t, 120), 24, (255, 255, 255), -1)
        encode(spots, mask, "c23")
    prepare("ffpp", root, tmp_path / "out", **SMALL, frames=4, quality=["c23"])
    rows = rows_of(tmp_path / "out/manifest.csv")
    shown = ["Deepfakes", "real"] if way == "difference" else ["Deepfakes"]
    assert sorted({r["method"] for r in rows}) == shown
    right = way != "neither"
    for f, middle in middles(rows).items():
        place = (230 - f, 120) if right else (90 + f, 120)
        assert np.hypot(*(middle - place)) < 0.15 * 80
    listed = [r for r in rows_of(tmp_path / "out/problems.csv") if r["problem"] == "several_faces"]
    unsure = not right and small == 66
    assert [r["video"] for r in listed] == (["000_001"] if unsure else [])


def test_a_table_of_boxes_is_taken_as_it_is(tmp_path):
    file = write_boxes(tmp_path / "b.csv", ("a", 0, 10, 10, 20, 20))
    finder = make_finder(str(file))
    [track] = finder.find("a", {0: room(0)})
    assert finder.take_over(track, {7: room(0)}) is track
    assert isinstance(track, Track)
    assert track.shows(7)
