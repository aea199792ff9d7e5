"""Plan of a preparation: the videos, the groups that share a face track, the output paths."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from tokd_lightning.data.layouts.celebdf import crossing
from tokd_lightning.data.layouts.celebdf_tree import PARTS, SYNTHESIS, TEST_LIST
from tokd_lightning.data.layouts.dfdc import LISTS
from tokd_lightning.data.layouts.ffpp import FAKE, REAL
from tokd_lightning.data.layouts.subset import Subset, trim_celebdf, trim_ffpp
from tokd_lightning.data.layouts.video_folder import (
    NOT_VIDEOS,
    SUFFIXES,
    VIDEO_SUFFIXES,
    VIDEOS,
    Video,
)
from tokd_lightning.data.packed import PACK_SUFFIX
from tokd_lightning.data.qualities import best_first
from tokd_lightning.data.reader import list_any
from tokd_lightning.data.synthetic import NOTICE
from tokd_lightning.errors import TokdError

Layout = Literal["ffpp", "celebdf", "folder"]
LAYOUTS: tuple[Layout, ...] = ("ffpp", "celebdf", "folder")
_NAMES = {"ffpp": "FF++", "celebdf": "Celeb-DF", "folder": "flat"}
_SEQUENCES = (REAL, FAKE)
_MEDIA = VIDEO_SUFFIXES | SUFFIXES | {PACK_SUFFIX}


class Version(NamedTuple):
    """One video at one quality.

    Attributes:
        video: The layout's entry; for a re-encoded copy, with the quality of the copy.
        out: Path of its frames relative to the output: a folder, or a pack without its suffix.
        crf: CRF at which it is re-encoded first; None to use the file unchanged.
    """

    video: Video
    out: str
    crf: int | None = None


Clip = tuple[Version, ...]
"""One video at all its qualities, the best first."""
Group = tuple[Clip, ...]
"""A real video and the fakes made from it, or a single video."""


_Key = tuple[str, str, str]


class PreparePlan(NamedTuple):
    """Everything to prepare.

    Attributes:
        versions: Videos in the order of the layout's lists, quality by quality.
        groups: The same videos, grouped by shared face track.
        across: Output paths of fakes that no split may contain.
        unlisted: Video files that no split lists, relative to the tree; they are left out.
        passed_over: Other files among the videos, which are ignored, relative to the tree.
        subset: The trimmed split files if only the existing videos are used.
    """

    versions: list[Version]
    groups: list[Group]
    across: set[str]
    unlisted: list[str]
    passed_over: list[str]
    subset: Subset | None = None

    @property
    def qualities(self) -> list[str]:
        """Names of the qualities, in order of appearance."""
        return list(dict.fromkeys(version.video.quality for version in self.versions))


def make_plan(
    layout: Layout,
    root: Path,
    quality: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    splits: Path | None = None,
    reencode: int | None = None,
    subset: bool = False,
) -> PreparePlan:
    """List the videos of a tree and sort them into groups.

    Args:
        layout: Layout of the tree.
        root: The tree.
        quality: Qualities to take; None takes all. For a flat tree, the name of its one quality.
        methods: Manipulations to take in addition to the real videos; None takes all.
        splits: FF++'s split files or Celeb-DF's test list, if they are elsewhere.
        reencode: CRF of a re-encoded copy of every video, made from its best quality.
        subset: Whether to take only the existing videos and trim the split files to them.

    Raises:
        TokdError: The tree has another layout, lacks a quality or method, has the quality of the
            copies already, or has names that collide or cannot be written to a manifest.
    """
    if layout not in LAYOUTS:
        raise TokdError(f"no layout {layout!r}: choose from {', '.join(LAYOUTS)}")
    if layout == "folder" and quality is not None and len(quality) > 1:
        raise TokdError("a flat tree holds one quality: name one")
    wanted = [None] if quality is None else list(dict.fromkeys(quality))
    videos = [v for name in wanted for v in list_any(root, name, splits, strict=False)]
    if any(_layout_of(v) != layout for v in videos[:1]):
        found = _NAMES[_layout_of(videos[0])]
        right = f"tokd prepare {_layout_of(videos[0])} {root}"
        raise TokdError(f"{root} is not a {_NAMES[layout]} tree but a {found} one: {right}")
    if methods is not None:
        there = sorted({v.method for v in videos} - {"real"})
        if unknown := [name for name in methods if name not in there]:
            raise TokdError(f"{root} has no method {unknown[0]!r}: choose from {', '.join(there)}")
        videos = [v for v in videos if v.method in ("real", *methods)]
        # Real videos of actors belong to DeepFakeDetection, the others to the other methods.
        kept = {v.dataset for v in videos if v.method != "real"}
        videos = [v for v in videos if not kept or v.dataset in kept]
    part = _subset(layout, root, videos, splits) if subset else None
    videos = videos if part is None else part.videos
    versions = [Version(v, _place(layout, v)) for v in videos]
    if reencode is not None:
        versions += _copies(layout, root, _clips(versions).values(), reencode)
    _refuse_places(versions)
    across = set(crossing(v.video for v in versions)) if layout == "celebdf" else set()
    outs = {version.out for version in versions if version.video in across}
    left = [] if layout != "ffpp" else _unlisted(root, versions, quality, methods)
    passed = _passed_over(root, versions)
    return PreparePlan(versions, _grouped(_clips(versions)), outs, left, passed, part)


def _subset(layout: Layout, root: Path, videos: list[Video], splits: Path | None) -> Subset:
    """Trim the split files or test list of a tree to the existing videos."""
    if layout == "folder":
        raise TokdError("a flat tree has no lists of videos to trim: leave out --subset")
    return (trim_ffpp if layout == "ffpp" else trim_celebdf)(root, videos, splits)


def _refuse_places(versions: Sequence[Version]) -> None:
    """Raise on output paths that collide or nest, and on names that no manifest can hold."""
    outs: dict[str, str] = {}
    for version in versions:
        place, quality = version.video.place, version.video.quality
        if any(c < " " or "\ud800" <= c <= "\udfff" for c in f"{place}{version.out}{quality}"):
            raise TokdError(
                f"the name {place!r} or {quality!r} has control characters or is not UTF-8"
            )
        if outs.setdefault(version.out, place) != place:
            raise TokdError(
                f"{outs[version.out]} and {place} have the same name: rename one of them"
            )
    for version in versions:
        for parent in PurePosixPath(version.out).parents:
            if (other := outs.get(parent.as_posix())) is not None:
                raise TokdError(
                    f"the frames of {other} would be where those of {version.video.place} go: "
                    "rename one of the two"
                )


def _unlisted(
    root: Path,
    versions: Sequence[Version],
    quality: Sequence[str] | None,
    methods: Sequence[str] | None,
) -> list[str]:
    """Find the video files of the chosen qualities and methods that FF++'s splits do not list."""
    planned = {version.video.place for version in versions}
    parts = {PurePosixPath(place).parts[1:3] for place in planned}
    names, levels = ({part[i] for part in parts} for i in (0, 1))
    found = []
    for sequence in _SEQUENCES:
        for file in sorted((root / sequence).glob("*/*/videos/*")):
            place = file.relative_to(root)
            if file.suffix.lower() not in VIDEO_SUFFIXES or file.name.startswith("."):
                continue
            if place.parts[2] in NOT_VIDEOS:
                continue
            if quality is not None and place.parts[2] not in levels:
                continue
            if methods is not None and place.parts[1] not in names:
                continue
            if place.as_posix() not in planned:
                found.append(place.as_posix())
    return found


def _passed_over(root: Path, versions: Sequence[Version]) -> list[str]:
    """Find the files among the videos whose suffix is not a video's, an image's or a pack's."""
    folders = {PurePosixPath(version.video.place).parent for version in versions}
    beside = {folder.parent / place.name for folder in folders for place in _folders(root, folder)}
    return [
        (folder / file.name).as_posix()
        for folder in sorted(folders | beside)
        for file in _files(root / folder)
        if file.suffix.lower() not in _MEDIA
        and not file.name.startswith(".")
        and file.name not in LISTS
    ]


def _folders(root: Path, folder: PurePosixPath) -> list[Path]:
    """List the sibling folders of a folder, whose files may all be of another kind."""
    if folder.name == VIDEOS:
        return []
    return [place for place in (root / folder.parent).iterdir() if place.is_dir()]


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []


def _clips(versions: Iterable[Version]) -> dict[_Key, Clip]:
    """Collect the qualities of every video: files before copies, the best first."""
    clips: dict[_Key, list[Version]] = {}
    for version in versions:
        v = version.video
        clips.setdefault((v.dataset, v.method, v.name), []).append(version)
    return {
        key: tuple(sorted(clip, key=lambda v: (v.crf is not None, best_first(v.video.quality))))
        for key, clip in clips.items()
    }


def _copies(layout: Layout, root: Path, clips: Iterable[Clip], crf: int) -> Iterator[Version]:
    """Plan a re-encoded copy of the best quality of every video."""
    name = f"c{crf}"
    for clip in clips:
        if name in (version.video.quality for version in clip):
            raise TokdError(f"{root} has the quality {name} already: leave out --reencode {crf}")
        copy = clip[0].video._replace(quality=name)
        yield Version(copy, _place(layout, copy, name), crf)


def identify(group: Group) -> str:
    """Return a name for a group, a hash of its content."""
    content = json.dumps(group, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def stamps(group: Group, root: Path) -> list[list[int]]:
    """Return size and modification time of a group's video files, to detect changes.

    Args:
        group: The videos.
        root: The tree.

    Returns:
        Size and modification time in nanoseconds of each file; empty for a missing file.
    """
    found: list[list[int]] = []
    for place in dict.fromkeys(version.video.place for clip in group for version in clip):
        try:
            stat = (root / place).stat()
            found.append([stat.st_size, stat.st_mtime_ns])
        except OSError:
            found.append([])
    return found


def split_files(layout: Layout, root: Path, splits: Path | None) -> dict[str, Path]:
    """Find the other files to copy to the output: path in the output to present path.

    Args:
        layout: Layout of the tree.
        root: The tree.
        splits: Where the split files or the test list are, if elsewhere.
    """
    found = {NOTICE: root / NOTICE} if (root / NOTICE).is_file() else {}
    if layout == "celebdf":
        place = root if splits is None else splits
        return found | {TEST_LIST: place / TEST_LIST if place.is_dir() else place}
    if layout == "folder":
        return found
    places = [splits] if splits is not None else [root / "splits", root]
    for place in places:
        if (place / "train.json").is_file():
            names = [f"{split}.json" for split in ("train", "val", "test")]
            return found | {f"splits/{name}": place / name for name in names}
    return found


def _layout_of(video: Video) -> Layout:
    top = PurePosixPath(video.place).parts[0]
    if top in _SEQUENCES:
        return "ffpp"
    return "celebdf" if top.casefold() in {part.casefold() for part in PARTS} else "folder"


def _place(layout: Layout, video: Video, copy: str | None = None) -> str:
    """Return the output path of a video's frames, where training looks for them."""
    parts = PurePosixPath(video.place).parts
    if layout == "ffpp":  # <sequences>/<method>/<quality>/videos/<file>
        return "/".join((*parts[:2], copy or parts[2], "faces", video.name))
    if layout == "celebdf":  # <part>/[<quality>/][videos/]<file>
        deep = 1 if video.method in ("real", SYNTHESIS) else 3  # Celeb-DF++: scenario and method
        return "/".join((*parts[:deep], video.quality, "faces", video.name))
    return "/".join((*([copy] if copy else []), *parts[:-1], video.name))


def _grouped(clips: Mapping[_Key, Clip]) -> list[Group]:
    """Group every real video with the fakes made from it, the real one first."""
    groups: dict[_Key, list[Clip]] = {}
    for key, clip in clips.items():
        v = clip[0].video
        real = (v.dataset, "real", v.background)
        owner = real if v.background and real in clips else key
        groups.setdefault(owner, []).append(clip)
    return [
        tuple(sorted(group, key=lambda clip: clip[0].video.method != "real"))
        for group in groups.values()
    ]
