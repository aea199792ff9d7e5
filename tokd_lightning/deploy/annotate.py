"""Annotated pictures of scored files: the face, its score, the heatmap, the scores over time."""

from __future__ import annotations

import io
from itertools import chain, count
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tokd_lightning.deploy.detector import Heatmaps
from tokd_lightning.deploy.found import Look, Picture
from tokd_lightning.deploy.record import Model
from tokd_lightning.deploy.report import FrameScore, Verdict
from tokd_lightning.files import write_bytes

_SIDE = 480
_LINE = 22
_ROOM = 900  # so that the lines below have room
_PLOT_HEIGHT = 320
_COLOURS = {"fake": (213, 62, 50), "real": (38, 150, 90)}
_TOWARDS = {True: (213, 62, 50), False: (50, 98, 213)}
_GROUND, _INK = (255, 255, 255), (30, 30, 30)
_STRONGEST = 0.65


def annotate_file(
    folder: Path, verdict: Verdict, heat: Heatmaps, model: Model, taken: set[str]
) -> list[Path]:
    """Draw one file: the face, its score and heatmap; for a video the face with the highest score.

    A video gets a second picture with its scores over time.

    Args:
        folder: Output folder; created if missing.
        verdict: Verdict on the file.
        heat: Its faces and their heatmaps.
        model: The model that scored it.
        taken: Picture names already used; the name of this file's pictures is added.

    Returns:
        The written files.

    Raises:
        TokdError: The folder cannot be written.
    """
    highest = int(np.argmax([score.p_fake for score in verdict.frames]))
    look, score = heat.looks[highest], verdict.frames[highest]
    picture = _sheet(verdict, look, score, heat.maps[highest], model)
    stem = _free(_plain(verdict.path).replace("?", "_"), taken)
    written = [folder / f"{stem}.png"]
    write_bytes(written[0], _png(picture))
    if verdict.kind == "video":
        written.append(folder / f"{stem}_scores.png")
        write_bytes(written[1], plot(verdict))
    return written


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not yet in ``taken``, and add it."""
    numbered = (f"{name}-{number}" for number in count(2))
    free = next(each for each in chain([name], numbered) if each not in taken)
    taken.add(free)
    return free


def _plain(path: Path | None) -> str:
    """Return a file's name in printable ASCII, at most its last 60 characters."""
    name = ("picture" if path is None else path.name).encode("ascii", "replace").decode()
    return "".join(mark if mark.isprintable() else "?" for mark in name)[-60:]


def _sheet(
    verdict: Verdict, look: Look, score: FrameScore, heat: np.ndarray, model: Model
) -> Image.Image:
    whole, face = _with_box(look, verdict), heated(look.face, heat, model)
    strongest = float(np.abs(heat).max())
    sheet = Image.new(
        "RGB", (max(whole.width + 8 + face.width, _ROOM), _SIDE + 3 * _LINE + 10), _GROUND
    )
    sheet.paste(whole, (0, 0))
    sheet.paste(face, (whole.width + 8, 0))
    draw, colour = ImageDraw.Draw(sheet), _COLOURS[str(verdict.verdict)]
    lines = [
        f"{_plain(verdict.path)}: {verdict.verdict}, P(fake) {verdict.p_fake:.3f}, "
        f"fake above {verdict.threshold:.3f}"
    ]
    if verdict.kind == "video":
        when = f"{score.time:.2f} s" if score.time is not None else f"frame {score.frame}"
        lines[0] += f", mean of {len(verdict.frames)} frames"
        lines.append(f"shown: the highest, {score.p_fake:.3f} at {when}")
    lines.append(
        f"heat: class activation, red speaks for fake, blue for real; strongest {strongest:.1f}"
    )
    for number, line in enumerate(lines):
        draw.text((6, _SIDE + 6 + number * _LINE), line, colour if not number else _INK, _font(16))
    return sheet


def _with_box(look: Look, verdict: Verdict) -> Image.Image:
    """Draw the crop's box on the picture, resized to the sheet's height."""
    assert look.shown is not None
    image = Image.fromarray(look.shown)
    factor = min(_SIDE / image.height, 2 * _SIDE / image.width)
    image = image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    )
    corners = [value * look.scale * factor for value in look.box]
    x, y, across, along = corners
    draw, colour = ImageDraw.Draw(image), _COLOURS[str(verdict.verdict)]
    draw.rectangle((x, y, x + across - 1, y + along - 1), outline=colour, width=3)
    label = f"{verdict.p_fake:.2f}"
    _, _, right, bottom = draw.textbbox((0, 0), label, _font(18))
    tall = bottom + 8
    # Above the box if there is room, else below it; on it only where it is as high as the picture.
    below = y + along if y + along + tall <= image.height else y
    top = y - tall if y >= tall else below
    place = (min(max(0, x), image.width - right - 8), min(max(0, top), image.height - tall))
    draw.rectangle((*place, place[0] + right + 8, place[1] + bottom + 6), fill=colour)
    draw.text((place[0] + 4, place[1] + 2), label, (255, 255, 255), _font(18))
    return image


def heated(face: Picture, heat: np.ndarray, model: Model) -> Image.Image:
    """Overlay a heatmap on the centre crop of a face, which is what the network saw.

    Red is evidence for fake, blue for real; opacity is proportional to the absolute value, relative
    to the map's maximum.

    Args:
        face: RGB, ``(size, size, 3)``.
        heat: ``(h, w)``.
        model: Gives the size of the face and of the crop.
    """
    start, end = (model.size - model.crop) // 2, (model.size + model.crop) // 2
    image = np.asarray(Image.fromarray(face).resize((_SIDE, _SIDE)), np.float32)
    low, high = (round(value * _SIDE / model.size) for value in (start, end))
    smooth = Image.fromarray(heat.astype(np.float32)).resize(
        (high - low, high - low), Image.Resampling.BICUBIC
    )
    values = np.asarray(smooth) / max(float(np.abs(heat).max()), 1e-6)
    weight = np.zeros((_SIDE, _SIDE, 1), np.float32)
    weight[low:high, low:high, 0] = _STRONGEST * np.abs(values).clip(0, 1)
    colour = np.zeros((_SIDE, _SIDE, 3), np.float32)
    colour[low:high, low:high] = np.where(values[..., None] > 0, *map(np.array, _TOWARDS.values()))
    mixed = image * (1 - weight) + colour * weight
    shown = Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))
    if model.crop < model.size:
        ImageDraw.Draw(shown).rectangle((low, low, high - 1, high - 1), outline=(255, 255, 255))
    return shown


def plot(verdict: Verdict) -> bytes:
    """Plot the scores of a video over time, their mean and the threshold, as a PNG."""
    timed = all(frame.time is not None for frame in verdict.frames)
    image = Image.new("RGB", (_ROOM, _PLOT_HEIGHT), _GROUND)
    draw, small, grey = ImageDraw.Draw(image), _font(14), (120, 120, 120)
    left, right, top, bottom = 60, _ROOM - 220, 40, _PLOT_HEIGHT - 50
    along = [float(frame.time or 0) if timed else frame.frame for frame in verdict.frames]
    first, width = min(along), (max(along) - min(along)) or 1.0

    def place(at: float, p_fake: float) -> tuple[float, float]:
        return left + (at - first) / width * (right - left), bottom - p_fake * (bottom - top)

    def level(value: float, colour: tuple[int, int, int], thick: int, label: str, row: int) -> None:
        draw.line([place(first, value), place(first + width, value)], colour, thick)
        draw.line([(right + 14, top + row * _LINE), (right + 34, top + row * _LINE)], colour, thick)
        draw.text((right + 42, top + row * _LINE - 9), label, _INK, small)

    draw.text((left, 10), _plain(verdict.path), _INK, _font(16))
    draw.line([(left, top), (left, bottom), (right, bottom)], grey)
    for tick in (0.0, 0.5, 1.0):
        draw.text((left - 34, place(first, tick)[1] - 9), f"{tick:.1f}", _INK, small)
    for tick in (first, first + width / 2, first + width):
        text = f"{tick:.1f}" if timed else f"{tick:.0f}"
        draw.text((place(tick, 0)[0] - 10, bottom + 6), text, _INK, small)
    draw.text(((left + right) / 2 - 30, bottom + 24), "seconds" if timed else "frame", _INK, small)
    mean = float(verdict.p_fake or 0)
    level(verdict.threshold, grey, 1, f"threshold {verdict.threshold:.3f}", 1)
    level(mean, _COLOURS[str(verdict.verdict)], 3, f"mean {mean:.3f}: {verdict.verdict}", 2)
    draw.text((right + 42, top + 3 * _LINE - 9), "points: P(fake) of frames", _INK, small)
    for face in verdict.faces:
        points = [
            place(float(frame.time or 0) if timed else frame.frame, frame.p_fake)
            for frame in face.frames
        ]
        draw.line(points, _INK, 1)
        for x, y in points:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), _INK)
    return _png(image)


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
