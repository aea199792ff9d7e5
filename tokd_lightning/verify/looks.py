"""Checks that training also makes: shapes, labels, frame numbers, partial data sets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tokd_lightning.data.layouts.listed import SUBSET
from tokd_lightning.data.layouts.numbering import ambiguous
from tokd_lightning.data.layouts.said import said_label
from tokd_lightning.data.layouts.video_folder import FOLDERS
from tokd_lightning.data.shapes import Shape, Size, is_square, telling_shapes
from tokd_lightning.verify.files import Frames
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip


def find_shapes(clips: Sequence[Clip], found: Sequence[Frames], report: Report) -> None:
    """Find images that are not square, and methods whose images differ in shape from real ones.

    Of several kinds of frames at one quality only the one that training uses is checked.

    Args:
        clips: Videos as frames.
        found: Results for their images.
        report: Takes ``not-square`` and ``shape-by-class``.
    """
    kinds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for clip in clips:
        kinds[clip.video.dataset, clip.video.quality].add(clip.kind)
    shapes: list[Shape] = []
    for clip, frames in zip(clips, found, strict=True):
        group = (clip.video.dataset, clip.video.quality)
        sizes = Counter(frame.size for frame in frames.frames if frame.size)
        if not sizes or clip.kind != min(kinds[group], key=FOLDERS.index):
            continue
        shapes.append(Shape(group, clip.video.method, sizes.most_common(1)[0][0]))
        if odd := Counter({size: n for size, n in sizes.items() if not is_square(size)}):
            report.add("not-square", clip.video.place or clip.files[0], _told(odd))
    for names, method, text in telling_shapes(shapes):
        report.add("shape-by-class", "/".join((*names, method)), text)


def _told(sizes: Counter[Size]) -> str:
    (size, _), *_ = sizes.most_common(1)
    return f"{sizes.total()} images, {size[0]}x{size[1]}"


def find_labels(clips: Sequence[Clip], report: Report) -> None:
    """Find videos whose label contradicts their path.

    Args:
        clips: All videos on disk.
        report: Takes ``label-against-path``.
    """
    for clip in clips:
        path = clip.files[0] if clip.files else clip.video.place
        label = int(clip.video.method != "real")
        if said_label(path) not in (None, label):
            report.add("label-against-path", path, f"labelled {'fake' if label else 'real'}")


def find_numbers(clips: Sequence[Clip], report: Report) -> None:
    """Note how frame numbers were read from names with several numbers, for one video per kind.

    Args:
        clips: All videos on disk.
        report: Takes ``frame-number``.
    """
    seen = set()
    for clip in clips:
        group = (clip.video.dataset, clip.video.method, clip.video.quality, clip.kind)
        if group in seen or not clip.numbers or len(clip.numbers) != len(clip.files):
            continue
        names = [file.rpartition("/")[2] for file in clip.files]
        if ambiguous(names, clip.numbers):
            seen.add(group)
            report.add("frame-number", clip.files[0], f"frame {clip.numbers[0]}")


def find_subset(root: Path, report: Report) -> None:
    """Note that a tree holds a part of the published videos.

    Args:
        root: The tree.
        report: Takes ``subset``.
    """
    if (root / SUBSET).is_file():
        report.add("subset", SUBSET)
