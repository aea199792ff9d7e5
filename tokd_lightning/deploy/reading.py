"""One file of a user's becomes faces: whatever it is, and without trusting it."""

from __future__ import annotations

import stat
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from tokd_lightning.data.image import to_rgb
from tokd_lightning.data.prepare.boxes import Track
from tokd_lightning.data.prepare.detectors import Picture
from tokd_lightning.data.prepare.finders import Finder, make_finder
from tokd_lightning.data.prepare.frames import cut_out
from tokd_lightning.deploy.found import Found, Look, Wanted
from tokd_lightning.deploy.videos import Film, Unfit, film

LARGEST = 50_000_000
"""Pixels of a picture, at most: more is no photograph, or one that should be made smaller first."""
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
_SHOWN = 960
_LOOKS = 8


def read(path: Path, wanted: Wanted) -> Found:
    """Read a file as what it is, whatever its name says.

    Args:
        path: The file.
        wanted: What of it.

    Returns:
        Its faces, or why there are none; nothing that a file holds makes it raise.
    """
    try:
        return _read(path, wanted)
    except Unfit as unfit:
        return Found(unfit.kind, unfit.status, unfit.reason)
    except MemoryError:
        return Found("unknown", "too_large", "reading it takes too much memory")
    except Exception as error:  # decoders raise anything over a broken file
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        return Found("unknown", "unreadable", said[:160] or type(error).__name__)


def _read(path: Path, wanted: Wanted) -> Found:
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise Unfit("a folder that cannot be read")
    if not stat.S_ISREG(state.st_mode):
        raise Unfit("not a regular file")
    if not state.st_size:
        raise Unfit("the file is empty")
    finder = make_finder(wanted.detector)
    picture = _picture(path)
    if picture is not None:
        return _faces("image", Film({0: picture}, {0: None}, "", 1.0), finder, wanted)
    found = film(path, wanted.frames, LARGEST)
    if not found.pictures:
        raise Unfit(found.note or "the video holds no frame", "video")
    return _faces("video", found, finder, wanted)


def _picture(path: Path) -> Picture | None:
    """Decode an image, upright, RGB; None if it is none."""
    try:
        with path.open("rb") as file, Image.open(file, formats=_formats()) as image:
            width, height = image.size
            if width * height > LARGEST:
                raise Unfit(
                    f"{width} x {height} pixels are too many, at most {LARGEST // 10**6} million",
                    "image", "too_large",
                )  # fmt: skip
            return to_rgb(image)
    except UnidentifiedImageError:
        return None
    except Image.DecompressionBombError as error:
        raise Unfit(
            f"too many pixels, at most {LARGEST // 10**6} million", "image", "too_large"
        ) from error
    except (Unfit, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's reason, not the decoder's
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise Unfit(f"a broken image ({said})", "image") from error


@cache
def _formats() -> list[str]:
    """Name the formats that this Pillow was built to read."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _faces(kind: str, given: Film, finder: Finder, wanted: Wanted) -> Found:
    """Find the face as ``tokd prepare`` does, and cut it out of every picture."""
    pictures, note = given.pictures, given.note
    frames = list(pictures)
    places = np.linspace(0, len(frames) - 1, min(_LOOKS, len(frames))).round().astype(int)
    track = finder.track("", {frames[i]: pictures[frames[i]] for i in places})
    if not track.found:
        return Found(kind, "no_face", f"no face was found{f'; {note}' if note else ''}")
    margin = finder.margin(wanted.margin)
    looks = [
        _look(frame, given.times[frame], picture, given.scale, track, margin, wanted)
        for frame, picture in pictures.items()
    ]
    return Found(kind, "scored", note, looks)


def _look(
    frame: int,
    time: float | None,
    picture: Picture,
    shrunk: float,
    track: Track,
    margin: float,
    wanted: Wanted,
) -> Look:
    height, width = picture.shape[:2]
    square = track.square(frame, width, height, margin)
    x, y, side = (int(value / shrunk) for value in square)
    scale = min(1.0, _SHOWN / max(width, height))
    shown: Picture | None = None
    if wanted.show:
        smaller = max(1, round(width * scale)), max(1, round(height * scale))
        shown = np.asarray(cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA), np.uint8)
    face = cut_out(picture, square, wanted.size)
    return Look(frame, time, (x, y, side, side), face, shown, scale * shrunk)
