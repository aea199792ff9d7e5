"""Masks of fakes: the data set's mask videos, cut by the crops of the fake's frames."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from tokd_lightning.data.annotations import mask_path
from tokd_lightning.data.layouts.video_folder import VIDEO_SUFFIXES
from tokd_lightning.data.video import Source, read_frames
from tokd_lightning.prepare.boxes import Square
from tokd_lightning.prepare.clip import Problem, Shot
from tokd_lightning.prepare.detectors import Picture
from tokd_lightning.prepare.plan import Version

_HALF = 128


def mask_video(root: Path, place: str) -> Path | None:
    """Find the mask video of a fake: ``manipulated_sequences/<method>/masks/videos/<name>.*``.

    Args:
        root: Root of an FF++ tree.
        place: Path of the fake's video, relative to it.
    """
    path = PurePosixPath(place)
    if len(path.parts) != 5 or path.parts[0] != "manipulated_sequences":
        return None
    folder = root.joinpath(*path.parts[:2], "masks", "videos")
    files = (folder / f"{path.stem}{suffix}" for suffix in sorted(VIDEO_SUFFIXES))
    return next((file for file in files if file.is_file()), None)


def store_masks(
    root: Path, out: Path, version: Version, shots: Sequence[Shot], size: int
) -> list[Problem]:
    """Cut a fake's mask video by its very frames and crops, and write one PNG per frame.

    The masks are 8 bit, 0 or 255 (forged); they go where :func:`~.annotations.mask_path` of the
    frames says, as a whole folder or not at all.

    Args:
        root: Root of the tree of videos.
        out: Output folder.
        version: The fake, at the quality that was searched.
        shots: Its crops.
        size: Side of a stored frame in pixels.

    Returns:
        A problem if there is no mask video, if it is shorter than the fake, or of another shape.
    """
    video = mask_video(root, version.video.place)
    if video is None:
        return [Problem(version, "no_mask", "there is no mask video of it")]
    source = Source(video)
    wanted = {shot.frame: shot for shot in shots}
    reading = read_frames(source, wanted, lambda index, frame: (index, source.upright(frame)))
    if not reading.kept:
        why = reading.damage or f"{reading.length} frames"
        return [Problem(version, "mask_short", f"{video.name}: {why}, none of those wanted")]
    masks: dict[int, Picture] = {}
    problems: list[Problem] = []
    for index, picture in reading.kept:
        shot = wanted[index]
        if picture.shape[:2] != shot.whole:
            height, width = picture.shape[:2]
            detail = f"{width} x {height} pixels, the fake has {shot.whole[1]} x {shot.whole[0]}"
            return [Problem(version, "mask_shape", detail)]
        masks[index] = cut_mask(picture, shot.square, size)
    if lacking := len(wanted) - len(masks):
        detail = f"{reading.length} frames, so {lacking} of {len(wanted)} frames have no mask"
        problems.append(Problem(version, "mask_short", detail))
    _write(out / mask_path(f"{version.out}/0000.png", 0), masks)
    return problems


def cut_mask(picture: Picture, square: Square, size: int) -> Picture:
    """Crop a mask, resize it without interpolating between more than its pixels, and threshold it.

    Args:
        picture: RGB or grey levels of the mask video, ``(H, W, 3)``.
        square: The crop of the frame.
        size: Side of the result in pixels.

    Returns:
        0 or 255, ``(size, size)``.
    """
    x, y, side = square
    grey = cv2.cvtColor(picture[y : y + side, x : x + side], cv2.COLOR_RGB2GRAY)
    way = cv2.INTER_AREA if side > size else cv2.INTER_NEAREST
    resized = grey if side == size else cv2.resize(grey, (size, size), interpolation=way)
    return np.where(np.asarray(resized) >= _HALF, np.uint8(255), np.uint8(0))


def _write(first: Path, masks: dict[int, Picture]) -> None:
    folder = first.parent
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for index, mask in masks.items():
        _, data = cv2.imencode(".png", mask)
        (draft / f"{index:04d}.png").write_bytes(data.tobytes())
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)
