"""Checks of the masks next to the fakes' frames: one for each frame, of its size, not empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from tokd_lightning.data.annotations import mask_path
from tokd_lightning.verify.files import Frames
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip


def find_masks(root: Path, clips: Sequence[Clip], found: Iterable[Frames], report: Report) -> None:
    """Report masks that do not fit their frames; methods without any mask are not checked.

    Args:
        root: The tree.
        clips: Videos as frames.
        found: Results for their images.
        report: Takes ``missing-mask``, ``extra-mask``, ``mask-size``, ``empty-mask`` and
            ``unreadable-frame``.
    """
    known: set[str] = set()  # qualities share their masks
    for clip, frames in zip(clips, found, strict=True):
        place = PurePosixPath(clip.video.place)
        if clip.video.method == "real" or len(place.parts) < 3:
            continue
        end = "#0" if clip.is_pack else "/0.png"
        folder = mask_path(f"{clip.video.place}{end}", 0).rpartition("/")[0]
        if folder in known or not (root / folder).parents[1].is_dir():
            continue
        if (root / folder).parent.is_dir():
            known.add(folder)
            _check(root, folder, frames, report)


def _check(root: Path, folder: str, frames: Frames, report: Report) -> None:
    if not (root / folder).is_dir():
        report.add("missing-mask", folder)
        return
    there = {file.name: file for file in sorted((root / folder).glob("*.png"))}
    sizes = {f"{n:04d}.png": f.size for n, f in zip(frames.numbers, frames.frames, strict=False)}
    report.extend("missing-mask", (f"{folder}/{name}" for name in sizes if name not in there))
    report.extend("extra-mask", (f"{folder}/{name}" for name in there if name not in sizes))
    for name, file in there.items():
        try:
            with Image.open(file) as image:
                size, highest = image.size, image.convert("L").getextrema()[1]
        except Exception as error:  # decoders raise anything for damaged bytes
            report.add("unreadable-frame", f"{folder}/{name}", str(error))
            continue
        wanted = sizes.get(name)
        if wanted is not None and size != wanted:
            detail = f"{size[0]} x {size[1]}, the frame has {wanted[0]} x {wanted[1]}"
            report.add("mask-size", f"{folder}/{name}", detail)
        if not highest:
            report.add("empty-mask", f"{folder}/{name}")
