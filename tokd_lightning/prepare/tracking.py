"""Face tracking through the kept frames of a video, scene by scene."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.prepare.boxes import Floats, Track, median, middle_of, no_face, side_of
from tokd_lightning.prepare.detectors import Boxes, Detector, Picture
from tokd_lightning.prepare.imaging import best_match, shrink, to_grey

LOOKS = 8
"""Number of frames that are searched as a whole; on the others the search starts around the last
position."""
_SEARCHED, _KEPT, _LARGEST = 320, 480, 4096  # pixels along the shorter side
_STEP, _STRIDE = 0.75, 2.5  # largest move between kept frames, in face sides: several, single face
_LARGEST_CHANGE = 1.6
_ONE = 0.5  # largest distance of two boxes of one face, in face sides
_FEWEST = 4  # a face is on at least a quarter of its scene's frames
_SMALLEST = 0.3  # least side of another face, in units of the main face's
_MOST_FACES = 4
_JITTER = 0.03
_SAME_SCENE = 0.4
_SCENE_SIDE = 16
_FLAT = 3.0
_PATCH = 32
_ALIKE = 0.6
_SAME_FACE = 0.5  # measured from one kept frame to the next: .66 to 1 of one face, to .44 of others
_INNER, _SLACK = 0.4, 0.13  # faces, from the middle
_NEIGHBOUR = 1.1  # largest distance of a neighbour, in units of that between kept frames
_HARDLY = 0.1


class _Shot(NamedTuple):
    """A shrunk frame and its scale: pixels of the shrunk picture per pixel of the frame."""

    frame: int
    picture: Picture
    scale: float


_Chain = dict[int, Floats]
"""Boxes of one face by index among the scene's kept frames, in pixels of the shrunk pictures."""


class _Followed(NamedTuple):
    """A chain, and its boxes that came from the detector."""

    chain: _Chain
    detected: _Chain


def follow_faces(
    pictures: Mapping[int, Picture], detector: Detector, every: bool = False
) -> list[Track]:
    """Track the faces of a video over the given frames.

    A few frames of every scene are searched as a whole. From there a face is followed to the
    neighbouring frames: the detector searches around its last position, then the whole picture at
    its size; if it finds nothing, the face's last picture is matched. A frame without a match is
    not part of the track. Tracking never crosses a cut between two scenes.

    Args:
        pictures: Frames of one size by increasing frame number; at least one. Each is read once.
        detector: Finds boxes.
        every: Whether to return small faces, and more than three others, too.

    Returns:
        The track of the face with the largest total size over the frames, then of others present
        at the same time and not much smaller; one track without a face if none is found.
    """
    shots, width, height = [], 0, 0
    for frame, picture in pictures.items():
        height, width = picture.shape[:2]
        kept = _KEPT if len(pictures) > 1 else min(width, height)
        shots.append(_Shot(frame, *_smaller(picture, kept)))
    searched = {shots[i].frame for i in evenly_spaced(len(shots), LOOKS)}
    scenes = [_Scene(scene, detector, searched, every) for scene in _scenes(shots)]
    main = [(scene, scene.chains[0]) for scene in scenes if scene.chains]
    if sum(len(chain) for _, chain in main) < max(1, len(shots) // _FEWEST):
        return [no_face(width, height)]
    others = [[(scene, chain)] for scene in scenes for chain in scene.chains[1:]]
    tracks = [_track(found, width, height) for found in (main, *others)]
    frames = {shot.frame for shot in shots}
    most = max(len(boxes) for scene in scenes for boxes in scene.seen.values())
    return [t._replace(absent=frames.difference(t.frames), at_once=most) for t in tracks]


def follow_known(pictures: Mapping[int, Picture], detector: Detector, known: Track) -> Track:
    """Transfer a track from other frames to these.

    Between two nearby known frames with hardly any motion the position is interpolated linearly;
    otherwise the detector searches around the interpolated position.

    Args:
        pictures: Frames of the track's size by frame number.
        detector: Finds boxes.
        known: Face track on other frames.

    Returns:
        The track on those of the frames that show the face.
    """
    apart = median(np.diff(known.frames)) if len(known.frames) > 1 else 1.0
    found: dict[int, tuple[Floats, float]] = {}
    for frame in pictures:
        if frame in known.absent:
            continue
        after = int(np.searchsorted(known.frames, frame))
        ends = [i for i in (after - 1, after) if 0 <= i < len(known.frames)]
        near = [i for i in ends if abs(known.frames[i] - frame) <= _NEIGHBOUR * apart]
        exact = [i for i in near if known.frames[i] == frame]
        near = exact or near
        if not near:
            continue
        sides = known.side if known.sides is None else known.sides[near]
        side = float(np.min(sides)) * known.width
        inside = len(near) == 2 and float(np.ptp(sides)) == 0
        at = [np.interp(frame, known.frames, known.centres[:, axis]) for axis in (0, 1)]
        middle = np.array(at) * known.size
        moves = float(np.hypot(*(np.ptp(known.centres[near], axis=0) * known.size)))
        if not exact and not (inside and moves <= _HARDLY * side):
            box = np.array([*(middle - side / 2), side, side])
            seen = _nearest(detector.near(pictures[frame], box), box, box, _STEP)
            if seen is None and not (inside and moves <= _STEP * side):
                continue
            middle = middle if seen is None else middle_of(seen)
        found[frame] = middle / known.size, side / known.width
    if not found:
        return no_face(*known.size)
    return Track(
        *known.size,
        np.array(list(found), float),
        np.stack([middle for middle, _ in found.values()]),
        known.side,
        np.array([side for _, side in found.values()]),
        exact=True,
        absent=set(pictures).difference(found),
    )


class _Scene:
    """Frames between two cuts, and the faces on them.

    Args:
        shots: The frames.
        detector: Finds boxes.
        searched: Frame numbers to search as a whole.
        every: Whether small faces, and more than three others, count too.
    """

    def __init__(
        self, shots: Sequence[_Shot], detector: Detector, searched: set[int], every: bool
    ) -> None:
        self.shots, self.detector, self.every = shots, detector, every
        wanted = [n for n, shot in enumerate(shots) if shot.frame in searched]
        self.seen = self._search(wanted or [len(shots) // 2], _SEARCHED)
        if not any(len(boxes) for boxes in self.seen.values()):
            self.seen = self._search(sorted({*self.seen, 0, len(shots) - 1}), _LARGEST)
        self.alone = all(len(boxes) <= 1 for boxes in self.seen.values())
        self.chains = self._chains()

    def _search(self, wanted: Iterable[int], side: int) -> dict[int, Boxes]:
        found = {}
        for n in wanted:
            picture, scale = _smaller(self.shots[n].picture, side)
            found[n] = self.detector(picture) / scale
        return found

    def _chains(self) -> list[_Chain]:
        """Follow every detected face; return the largest, and those not much smaller."""
        left = {(n, i): box for n, boxes in self.seen.items() for i, box in enumerate(boxes)}
        found: list[_Followed] = []
        for _ in range(len(left) if self.every else _MOST_FACES):
            if not left:
                break
            # A box next to a face is more often a false alarm than a box that is the only one.
            start = min(left, key=lambda key: (len(self.seen[key[0]]), -side_of(left[key])))
            box = left.pop(start)
            once = len(self.seen) >= _FEWEST and not any(_like(box, b) for b in left.values())
            if found and once:
                continue
            followed = self._follow(start[0], box, [one.chain for one in found])
            count = len(followed.detected)
            kept = count * _FEWEST >= len(self.shots) and (count > 1 or len(self.shots) < _FEWEST)
            chain = followed.chain if kept else followed.detected
            for key, box in list(left.items()):
                if key[0] in chain and _is_one_of(box, [chain[key[0]]]):
                    del left[key]
            if kept:
                found.append(followed)
        found.sort(key=lambda one: -sum(map(side_of, one.detected.values())))
        if self.alone:  # never two faces on a frame: one person, lost in between
            whole: _Chain = {}
            for one in found:
                whole = {**one.chain, **whole}
            return [dict(sorted(whole.items()))] if whole else []
        least = _SMALLEST * _side(found[0].detected) if found and not self.every else 0.0
        return [one.chain for one in found if _side(one.detected) >= least]

    def _follow(self, start: int, box: Floats, others: Sequence[_Chain]) -> _Followed:
        """Follow a face from one frame to both ends of the scene, past those of other chains."""
        detected, pictured = {start: box}, {}
        for way in (range(start + 1, len(self.shots)), range(start - 1, -1, -1)):
            last, before, known, pace = box, start, start, np.zeros(2)
            for n in way:
                gap = abs(n - before)
                expected = last.copy()
                expected[:2] += pace * gap
                taken = [chain[n] for chain in others if n in chain]
                found = self._look(n, expected, last, taken)
                if found is not None and not _is_one_of(found, (last, expected)):
                    seen_last = self.shots[known].picture, detected[known]
                    found = found if _alike(*seen_last, self.shots[n].picture, found) else None
                if found is not None:
                    detected[n], known = found, n
                else:
                    found = _same_picture(
                        self.shots[known].picture, detected[known], self.shots[n].picture, expected
                    )
                    if found is None or _is_one_of(found, taken):
                        continue
                    pictured[n] = found
                pace = (middle_of(found) - middle_of(last)) / gap
                last, before = found, n
        return _Followed(dict(sorted({**pictured, **detected}.items())), detected)

    def _look(
        self, n: int, expected: Floats, last: Floats, taken: Sequence[Floats]
    ) -> Floats | None:
        """Search a frame for a face: around its position, then the whole picture at its size."""
        reach = _STRIDE if self.alone else _STEP

        def nearest(boxes: Boxes) -> Floats | None:
            free = [box for box in boxes if not _is_one_of(box, taken)]
            return _nearest(free, last, expected, reach)

        if n in self.seen:
            return nearest(self.seen[n])
        picture = self.shots[n].picture
        found = nearest(self.detector.near(picture, expected))
        return nearest(self.detector.of_side(picture, side_of(last))) if found is None else found


def _track(found: Sequence[tuple[_Scene, _Chain]], width: int, height: int) -> Track:
    """Join the chains of a face in several scenes into a track, in units of the frame."""
    frames: list[int] = []
    centres: list[Floats] = []
    sides: list[float] = []
    for scene, chain in found:
        scales = [scene.shots[n].scale for n in chain]
        middles = np.stack([middle_of(box) for box in chain.values()]) / np.array(scales)[:, None]
        # Sizes are taken from whole-frame searches: those around a known face are coarser.
        side = _side({n: box for n, box in chain.items() if n in scene.seen} or chain) / scales[0]
        frames += [scene.shots[n].frame for n in chain]
        centres.append(_steady(middles, list(chain), _JITTER * side) / [width, height])
        sides += [side / width] * len(chain)
    return Track(
        width,
        height,
        np.array(frames, float),
        np.concatenate(centres),
        median(sides),
        np.array(sides),
        exact=True,
    )


def _steady(middles: Floats, places: Sequence[int], jitter: float) -> Floats:
    """Remove the jitter of a detector: move each centre towards a straight line.

    The target is the average of a centre and its neighbours with weights 1, 2, 1; at the ends of a
    chain it is weighted 5, 2, -1 (least squares over three centres), so that a moving face does not
    lag. No centre moves further than ``jitter``. Frames with missing neighbours are unchanged.
    """
    steady = middles.copy()
    for i in range(len(middles)):
        near = [min(max(i, 1), len(middles) - 2) + k for k in (-1, 0, 1)]
        if len(middles) < 3 or places[near[2]] - places[near[0]] != 2:
            continue
        weights = ([5, 2, -1], [1, 2, 1], [-1, 2, 5])[i - near[0]]
        line = np.average(middles[near], axis=0, weights=weights)
        shift = line - middles[i]
        length = float(np.hypot(*shift))
        steady[i] += shift * min(1.0, jitter / length if length else 1.0)
    return steady


def _nearest(
    boxes: Iterable[Floats], last: Floats, expected: Floats, reach: float
) -> Floats | None:
    """Return the box nearest to the expected one, of those that can be the same face."""
    kept = [box for box in boxes if _near(box, last, reach) or _near(box, expected, _STEP)]
    return min(kept, key=lambda box: _distance(box, expected), default=None)


def _like(box: Floats, other: Floats) -> bool:
    return 1 / _LARGEST_CHANGE <= side_of(box) / side_of(other) <= _LARGEST_CHANGE


def _near(box: Floats, other: Floats, reach: float) -> bool:
    return _like(box, other) and _distance(box, other) <= reach * side_of(other)


def _distance(box: Floats, other: Floats) -> float:
    return float(np.hypot(*(middle_of(box) - middle_of(other))))


def _is_one_of(box: Floats, others: Iterable[Floats]) -> bool:
    return any(_distance(box, other) <= _ONE * side_of(other) for other in others)


def _side(chain: Mapping[int, Floats]) -> float:
    return median([side_of(box) for box in chain.values()])


def _same_picture(known: Picture, box: Floats, picture: Picture, expected: Floats) -> Floats | None:
    """Find a face that the detector misses (a turned head, say) by template matching."""
    side = side_of(box)
    scale = _PATCH / side
    patch = _grey_part(known, middle_of(box), side / 2, scale)
    part = _grey_part(picture, middle_of(expected), side, scale)
    if min(patch.shape) < _PATCH // 2 or any(np.less(part.shape, patch.shape)):
        return None
    best, place = best_match(part, patch)
    if best < _ALIKE:
        return None
    corner = np.maximum(np.floor(middle_of(expected) - side), 0) + np.array(place) / scale
    inside = box[:2] - np.maximum(np.floor(middle_of(box) - side / 2), 0)
    moved: Floats = np.concatenate([corner + inside, box[2:]])
    return moved


def _alike(known: Picture, box: Floats, picture: Picture, other: Floats) -> bool:
    """Return whether a box that is far from where a face was looks like that face."""
    patch, part = (
        _grey_part(shown, middle_of(b), reach * side_of(b), _PATCH / side_of(b))
        for shown, b, reach in ((known, box, _INNER), (picture, other, _INNER + _SLACK))
    )
    if min(patch.shape) < _PATCH // 2 or any(np.less(part.shape, patch.shape)):
        return False
    return best_match(part, patch)[0] >= _SAME_FACE


def _grey_part(picture: Picture, middle: Floats, reach: float, scale: float) -> Picture:
    """Crop the surroundings of a point, in grey and at another scale."""
    height, width = picture.shape[:2]
    low = np.clip(np.floor(middle - reach), 0, [width, height]).astype(int)
    high = np.clip(np.ceil(middle + reach), 0, [width, height]).astype(int)
    if (high - low).min() < 1:
        return np.zeros((0, 0), np.uint8)
    part = to_grey(picture[low[1] : high[1], low[0] : high[0]])
    width, height = (int(max(1, round(float(v) * scale))) for v in high - low)
    return shrink(part, (width, height))


def _scenes(shots: Sequence[_Shot]) -> Iterator[list[_Shot]]:
    """Split frames into scenes where the picture changes entirely."""
    if len(shots) == 1:
        yield [*shots]
        return
    scene: list[_Shot] = []
    before: Floats | None = None
    for shot in shots:
        side = (_SCENE_SIDE, _SCENE_SIDE)
        small = shrink(shot.picture, side).astype(np.float64)
        if before is not None and not _same_scene(before, small):
            yield scene
            scene = []
        scene.append(shot)
        before = small
    yield scene


def _same_scene(one: Floats, other: Floats) -> bool:
    """Return whether two thumbnails show the same scene, regardless of brightness and contrast."""
    a, b = one - one.mean((0, 1)), other - other.mean((0, 1))
    flat = [float(np.sqrt((part**2).mean())) < _FLAT for part in (a, b)]
    if any(flat):
        return all(flat)
    return float((a * b).sum()) >= _SAME_SCENE * float(np.sqrt((a**2).sum() * (b**2).sum()))


def _smaller(picture: Picture, side: int) -> tuple[Picture, float]:
    """Shrink a picture until its shorter side is at most ``side``; return it with its scale."""
    height, width = picture.shape[:2]
    scale = min(1.0, side / min(height, width))
    if scale == 1:
        return picture, 1.0
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return shrink(picture, size), scale
