"""Inventory of a data set: every video, at every quality, as a file and as frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tokd_lightning.data.layouts.numbering import frame_numbers, numeric_order
from tokd_lightning.data.layouts.video_folder import (
    SUFFIXES,
    VIDEO_SUFFIXES,
    VIDEOS,
    Video,
)
from tokd_lightning.data.packed import PACK_SUFFIX
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.tree import Tree, suffix

FILES = VIDEOS


class Clip(NamedTuple):
    """Video at one quality in one form.

    Attributes:
        video: Its description; the split is empty if unknown.
        kind: ``videos`` for a file, otherwise the kind of frames: faces, frames, images.
        files: The video file, the pack, or the images in order; relative to the root.
        numbers: Frame number of each image; empty for files and packs.
    """

    video: Video
    kind: str
    files: tuple[str, ...]
    numbers: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """Name of the video, independent of quality and form."""
        return f"{self.video.dataset}/{self.video.method}/{self.video.name}"

    @property
    def is_file(self) -> bool:
        """Return whether it is an encoded video."""
        return self.kind == FILES

    @property
    def is_pack(self) -> bool:
        """Return whether its frames are in one file of raw pixels."""
        return len(self.files) == 1 and suffix(self.files[0]) == PACK_SUFFIX


def clip_at(tree: Tree, video: Video, kind: str) -> Clip:
    """Return the clip at a video's place."""
    if video.place not in tree:
        return Clip(video, kind, (video.place,))
    names = [name for name in tree.files(video.place) if suffix(name) in SUFFIXES]
    names.sort(key=numeric_order)
    files = tuple(f"{video.place}/{name}" for name in names)
    return Clip(video, kind, files, tuple(frame_numbers(names)))


def places_in(tree: Tree, folder: str, kind: str, report: Report) -> Iterator[tuple[str, str]]:
    """Yield the videos in a folder of one kind, as (name, place).

    A second file of the same name is reported and skipped.
    """
    wanted = VIDEO_SUFFIXES if kind == FILES else {PACK_SUFFIX}
    entries = [(name.rpartition(".")[0], name) for name in tree.files(folder)]
    entries = [(stem, name) for stem, name in entries if suffix(name) in wanted]
    if kind != FILES:
        entries += [(name, name) for name in tree.folders(folder)]
    seen: set[str] = set()
    for stem, name in entries:
        if stem in seen:
            report.add("same-name", f"{folder}/{name}")
        else:
            seen.add(stem)
            yield stem, f"{folder}/{name}"


def by_video(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    """Group clips by video, across qualities and forms."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[clip.key].append(clip)
    return dict(groups)
