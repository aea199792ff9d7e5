"""One video at all its qualities: the same frames and the same crops of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av

from tokd_lightning.data.qualities import CRF, wrong_crf
from tokd_lightning.data.stream import Packets, read_packets
from tokd_lightning.data.video import DAMAGE, Frame, Shelf, Source, read_frames
from tokd_lightning.errors import reason
from tokd_lightning.prepare.boxes import Square, Track
from tokd_lightning.prepare.detectors import Picture
from tokd_lightning.prepare.finders import Finder
from tokd_lightning.prepare.frames import cut_out
from tokd_lightning.prepare.options import Options
from tokd_lightning.prepare.plan import Clip, Version
from tokd_lightning.prepare.reencode import reencode


class Shot(NamedTuple):
    """A face cut out of one frame.

    Attributes:
        frame: The frame's index.
        square: The crop.
        picture: RGB, ``(size, size, 3)``.
        whole: Height and width of the whole picture.
    """

    frame: int
    square: Square
    picture: Picture
    whole: tuple[int, int]


class Problem(NamedTuple):
    """A problem with one video, reported to the user.

    Attributes:
        version: The video.
        kind: ``missing``, ``unreadable``, ``truncated``, ``wrong_crf``, ``no_face``,
            ``face_lost``, ``several_faces``, ``short``, ``lengths_differ``, ``no_mask``,
            ``mask_short`` or ``mask_shape``.
        detail: Details for the report.
    """

    version: Version
    kind: str
    detail: str


class CutVideo(NamedTuple):
    """Result of cutting the faces out of one video.

    Attributes:
        track: Track of its face; None if no quality can be read.
        shots: The same frames and crops of every readable quality.
        problems: What went wrong.
        crfs: The CRF that x264 was given, for every quality whose stream states it.
        others: Tracks of other faces; empty for a video with a lent track.
    """

    track: Track | None
    shots: dict[Version, list[Shot]]
    problems: list[Problem]
    crfs: dict[Version, CRF]
    others: Sequence[Track] = ()


class Upright(Mapping[int, Picture]):
    """Mapping from frame numbers to pictures, each converted on access.

    Args:
        source: The video.
        frames: Its frames.
    """

    def __init__(self, source: Source, frames: Mapping[int, Frame]) -> None:
        self.source, self.frames = source, frames

    def __getitem__(self, frame: int) -> Picture:
        """Convert a frame."""
        return self.source.upright(self.frames[frame])

    def __iter__(self) -> Iterator[int]:
        """Iterate over the frame numbers."""
        return iter(self.frames)

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.frames)


class _View(NamedTuple):
    """Crops of one quality of a video, its number of readable frames, and what damage ended it."""

    shots: list[Shot]
    length: int
    damage: str


class Cutter:
    """Face cutter for videos.

    Args:
        finder: Finds the faces.
        options: How they are cropped.
    """

    def __init__(self, finder: Finder, options: Options) -> None:
        self.finder = finder
        self.options = options
        self.margin = finder.margin(options.margin)
        self.shelf = Shelf()

    def cut(self, root: Path, clip: Clip, lent: Track | None = None) -> CutVideo:
        """Cut the face out of evenly spaced frames of a video, at all its qualities.

        The frames are spread over the shortest quality. Its length is certain only after decoding:
        packets are counted first, and if decoding gives another length the video is read again.

        Args:
            root: Folder that the videos' paths are relative to.
            clip: The video, the best quality first.
            lent: Face track of the real video that this one was made from; used if the pictures
                have the same size.
        """
        sources, packets, problems = self._open(root, clip)
        length = min((found.length for found in packets.values()), default=0)
        faces: list[Track] = []
        views: dict[Version, _View] = {}
        while sources:
            wanted = self.options.chosen(length)
            faces, views = self._look(sources, wanted, lent)
            for version, view in views.items():
                if not view.length:
                    problems.append(Problem(version, "unreadable", view.damage))
                    del sources[version]
            shortest = min((views[version].length for version in sources), default=length)
            if shortest == length:
                break
            length = shortest
        views = {version: views[version] for version in sources}
        track = faces[0] if faces else None
        problems += self._remarks(views, track, lent)
        self.shelf.clear()
        crfs = {version: found.crf for version, found in packets.items()}
        shots = {v: view.shots for v, view in views.items()}
        return CutVideo(track, shots, problems, crfs, faces[1:])

    def _open(
        self, root: Path, clip: Clip
    ) -> tuple[dict[Version, Source], dict[Version, Packets], list[Problem]]:
        """Re-encode the copies, open the readable videos and read their packets."""
        sources: dict[Version, Source] = {}
        packets: dict[Version, Packets] = {}
        problems: list[Problem] = []
        for version in clip:
            path = root / version.video.place
            if not path.is_file():
                problems.append(Problem(version, "missing", f"there is no {version.video.place}"))
                continue
            source = Source(path)
            if version.crf is not None:
                source, original = reencode(path, version.crf)
                if original.damage:
                    kind = "truncated" if original.length else "unreadable"
                    problems.append(Problem(version, kind, original.damage))
                if not original.length:
                    continue
            try:
                packets[version] = read_packets(source)
                sources[version] = source
            except DAMAGE as error:
                problems.append(Problem(version, "unreadable", reason(error)))
                continue
            if detail := wrong_crf(version.video.quality, packets[version].crf):
                problems.append(Problem(version, "wrong_crf", detail))
        return sources, packets, problems

    def _look(
        self, sources: Mapping[Version, Source], wanted: Sequence[int], lent: Track | None
    ) -> tuple[list[Track], dict[Version, _View]]:
        """Read every quality; the face is located on the first one that gives a frame."""
        faces: list[Track] = []
        views: dict[Version, _View] = {}
        self.shelf.clear()
        for version, source in sources.items():
            reading = read_frames(source, wanted, partial(self._keep, source, faces))
            if not faces and reading.kept:
                faces = self._find(version.video.name, source, reading.kept, lent)
            shots: list[Shot] = []
            for index, kept in reading.kept:
                if isinstance(kept, Shot):
                    shots.append(kept)
                elif kept is not None and faces[0].shows(index):
                    shots.append(self._cut(index, source.upright(kept), faces[0]))
            views[version] = _View(shots, reading.length, reading.damage)
        return faces, views

    def _keep(
        self, source: Source, faces: Sequence[Track], index: int, frame: av.VideoFrame
    ) -> tuple[int, Frame | Shot | None]:
        """Crop the face at once if its track is known, so that no large picture is kept."""
        if not faces:
            return index, self.shelf.keep(source, frame)
        track = faces[0]
        return index, self._cut(index, source.upright(frame), track) if track.shows(index) else None

    def _find(
        self,
        name: str,
        source: Source,
        kept: Sequence[tuple[int, Frame | Shot | None]],
        lent: Track | None,
    ) -> list[Track]:
        """Use the face track of the real video, or search the frames for faces."""
        frames = {i: f for i, f in kept if f is not None and not isinstance(f, Shot)}
        pictures = Upright(source, frames)
        if lent is None or any(source.size(f) != lent.size for f in frames.values()):
            return self.finder.find(name, pictures)
        track = self.finder.take_over(lent, pictures) if lent.found else lent
        return [track]

    def _cut(self, index: int, picture: Picture, face: Track) -> Shot:
        height, width = picture.shape[:2]
        square = face.square(index, width, height, self.margin)
        return Shot(index, square, cut_out(picture, square, self.options.size), (height, width))

    def _remarks(
        self, views: Mapping[Version, _View], track: Track | None, lent: Track | None
    ) -> Iterator[Problem]:
        """Yield the problems of the readable qualities."""
        shortest = min((view.length for view in views.values()), default=0)
        for version, view in views.items():
            if view.damage:
                yield Problem(version, "truncated", view.damage)
            if view.length > shortest:
                detail = f"{view.length} frames, {shortest} at another quality: those are used"
                yield Problem(version, "lengths_differ", detail)
            if track is not None and not track.found:
                whose = "its real video" if track is lent else "it"
                yield Problem(version, "no_face", f"no face was found on {whose}")
                continue
            if track is not None and track.absent:
                numbers = ", ".join(map(str, sorted(track.absent)))
                count = f"{len(track.absent)} of {len(track.absent) + len(view.shots)}"
                detail = f"no face on {count} frames, which are left out: {numbers}"
                yield Problem(version, "face_lost", detail)
            if shortest < self.options.frames:
                detail = f"{shortest} of {self.options.frames} frames"
                yield Problem(version, "short", detail)
