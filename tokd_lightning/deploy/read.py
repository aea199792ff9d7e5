"""Reading the faces of one user file of any kind, without trusting it."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tokd_lightning.data.image import to_rgb
from tokd_lightning.deploy.compression import jpeg_quality
from tokd_lightning.deploy.doubts import unlike_training
from tokd_lightning.deploy.found import Faces, Look, ReadOptions, SampledFrames, UnreadableFile
from tokd_lightning.prepare.boxes import Square, Track, as_large
from tokd_lightning.prepare.detectors import Picture
from tokd_lightning.prepare.finders import Finder, make_finder
from tokd_lightning.prepare.frames import cut_out
from tokd_lightning.prepare.imaging import shrink

LARGEST = 50_000_000
"""Largest number of pixels of a picture; a larger photograph has to be shrunk first."""
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
_SHOWN = 960


def read(path: Path, wanted: ReadOptions) -> Faces:
    """Read a file by its content, regardless of its suffix.

    Args:
        path: The file.
        wanted: How to read it.

    Returns:
        Its faces, or the reason why there are none; no file content makes it raise.
    """
    try:
        return _read(path, wanted)
    except UnreadableFile as unfit:
        return Faces(unfit.kind, unfit.status, unfit.reason)
    except MemoryError:
        return Faces("unknown", "too_large", "reading it takes too much memory")
    except Exception as error:  # decoders raise any exception on a broken file
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        return Faces("unknown", "unreadable", said[:160] or type(error).__name__)


def read_picture(picture: Picture, wanted: ReadOptions, jpeg: float | None = None) -> Faces:
    """Return the faces of a picture in memory.

    Args:
        picture: RGB, ``(H, W, 3)``.
        wanted: How to read it.
        jpeg: Quality of its file if that was a JPEG.
    """
    given = SampledFrames({0: picture}, {0: None}, "", 1.0, jpeg=jpeg)
    return _faces("image", given, make_finder(wanted.detector), wanted)


def _read(path: Path, wanted: ReadOptions) -> Faces:
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise UnreadableFile("a folder that cannot be read")
    if not stat.S_ISREG(state.st_mode):
        raise UnreadableFile("not a regular file")
    if not state.st_size:
        raise UnreadableFile("the file is empty")
    finder = make_finder(wanted.detector)
    picture = _picture(path)
    if picture is not None:
        return read_picture(picture[0], wanted, picture[1])
    from tokd_lightning.deploy.videos import sample_frames  # imports the video decoder

    found = sample_frames(path, wanted.frames, LARGEST, wanted.time_limit)
    if not found.pictures:
        raise UnreadableFile(found.note or "the video holds no frame", "video")
    return _faces("video", found, finder, wanted)


def _picture(path: Path) -> tuple[Picture, float | None] | None:
    """Decode an image, upright, RGB, with its JPEG quality; None if the file is not an image."""
    try:
        with path.open("rb") as file, Image.open(file, formats=_formats()) as image:
            width, height = image.size
            if width * height > LARGEST:
                raise UnreadableFile(
                    f"{width} x {height} pixels are too many, at most {LARGEST // 10**6} million",
                    "image", "too_large",
                )  # fmt: skip
            return to_rgb(image), jpeg_quality(image)
    except UnidentifiedImageError:
        return None
    except Image.DecompressionBombError as error:
        raise UnreadableFile(
            f"too many pixels, at most {LARGEST // 10**6} million", "image", "too_large"
        ) from error
    except (UnreadableFile, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the file system, not of the decoder
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise UnreadableFile(f"a broken image ({said})", "image") from error


@cache
def _formats() -> list[str]:
    """Return the accepted formats that this build of Pillow can read; import no others."""
    for name in _FORMATS:
        with suppress(ImportError):
            import_module(f"PIL.{'WebP' if name == 'WEBP' else name.capitalize()}ImagePlugin")
    return [name for name in _FORMATS if name in Image.OPEN]


def _faces(kind: str, given: SampledFrames, finder: Finder, wanted: ReadOptions) -> Faces:
    """Find the face as ``tokd prepare`` does, and crop it from every picture."""
    pictures = given.pictures
    notes = [given.note] if given.note else []
    whole = _whole(kind, pictures, wanted)
    if whole and wanted.detector != "none":
        notes.append(f"taken whole: its {wanted.stored} pixels are those of a prepared frame")
    tracks = [] if whole else finder.find("", pictures, wanted.every)
    if tracks and not tracks[0].found:
        return Faces(kind, "no_face", "; ".join(["no face was found", *notes]))
    notes += _remarks(kind, tracks, len(pictures), wanted)
    margin = finder.margin(wanted.margin)
    looks: list[Look] = []
    for number, track in enumerate(tracks if wanted.every else tracks[:1] or [None]):
        for frame, picture in pictures.items():
            height, width = picture.shape[:2]
            square = None
            if track is not None:
                if not track.shows(frame):
                    continue
                square = track.square(frame, width, height, margin)
            look = _look(frame, given.times[frame], picture, given.scale, square, wanted)
            looks.append(look._replace(number=number))
    height, width = next(iter(pictures.values())).shape[:2]
    size = width / given.scale, height / given.scale
    cut = bool(tracks) and wanted.detector != "none"
    doubts = unlike_training(looks, size, given.crf, cut, wanted, given.jpeg)
    return Faces(kind, "scored", "; ".join(notes), looks, doubts)


def _remarks(kind: str, tracks: Sequence[Track], frames: int, wanted: ReadOptions) -> Iterator[str]:
    """Yield what is left out: frames without the face, and other faces."""
    if not tracks:
        return
    track = tracks[0]
    if track.absent:
        yield f"no face on {len(track.absent)} of {frames} frames, which are not scored"
    if wanted.every:
        if len(tracks) > 1:
            yield f"{len(tracks)} faces, the highest P(fake) counts"
    elif kind == "image" and track.at_once > 1:
        yield f"{track.at_once} faces, the largest scored"
    elif count := as_large(track, tracks[1:]):
        yield f"{count} other faces are about as large, one is scored"


def _whole(kind: str, pictures: Mapping[int, Picture], wanted: ReadOptions) -> bool:
    """Return whether pictures are like the training frames, not scenes with a face.

    They are if the training frames were used whole, or if an image has exactly the size of the
    frames that ``tokd prepare`` wrote for training.
    """
    if wanted.detector == "none":
        return wanted.stored is None
    shapes = {picture.shape[:2] for picture in pictures.values()}
    return kind == "image" and wanted.stored is not None and shapes == {(wanted.stored,) * 2}


def _look(
    frame: int,
    time: float | None,
    picture: Picture,
    shrunk: float,
    square: Square | None,
    wanted: ReadOptions,
) -> Look:
    """Crop the face, or take the whole picture if there is no square."""
    height, width = picture.shape[:2]
    corners = (0, 0, width, height) if square is None else (*square, square.side)
    x, y, across, along = (int(value / shrunk) for value in corners)
    scale = min(1.0, _SHOWN / max(width, height))
    shown: Picture | None = None
    if wanted.show:
        smaller = max(1, round(width * scale)), max(1, round(height * scale))
        shown = shrink(picture, smaller)
    face = fed_face(picture, square, wanted.size, wanted.stored)
    return Look(frame, time, (x, y, across, along), face, shown, scale * shrunk)


def fed_face(picture: Picture, square: Square | None, size: int, stored: int | None) -> Picture:
    """Crop and resize a picture to the network's input, as in training.

    Args:
        picture: RGB, ``(H, W, 3)``.
        square: The crop; None takes the whole picture, as training takes a frame.
        size: Side of the input.
        stored: Side of the crops that ``tokd prepare`` wrote; None if it is that of the input.

    Returns:
        RGB, ``(size, size, 3)``.
    """
    if square is not None:
        picture = cut_out(picture, square, stored or size)
    if picture.shape[:2] == (size, size):
        return picture
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)
