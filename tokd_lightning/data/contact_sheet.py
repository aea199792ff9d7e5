"""A contact sheet of an FF++ tree: real and forged, each quality, x beside x^F (``tokd show``)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from tokd_lightning.data.layouts.ffpp import ALL_METHODS
from tokd_lightning.data.layouts.video_folder import FOLDERS, list_frames
from tokd_lightning.errors import TokdError
from tokd_lightning.frequency import high_pass

_REAL = "original_sequences/youtube"
_LARGEST = 512
_GAP, _LABEL, _TITLE, _SIDE = 4, 24, 34, 64
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


class _Cell(NamedTuple):
    rgb: NDArray[np.uint8]
    frequency: NDArray[np.float32]


def draw_contact_sheet(
    root: Path, out: Path, identities: int = 4, tile: int = 160, cutoff: float = 0.33
) -> None:
    """Draw real clips beside their forgeries, as pictures and as high frequencies (Eq. 1).

    A row is one identity at one quality, a column a method; identities are spread evenly over the
    tree and shown by their middle frame. x^F is computed on the picture at its own size (at most
    512 pixels) and amplified by one factor for the whole sheet, so that qualities compare.

    Args:
        root: An FF++ tree with extracted frames, mini-FF++ or genuine.
        out: The PNG to write.
        identities: How many targets to show, at most.
        tile: Longer side of a tile in pixels.
        cutoff: The cutoff of x^F, see :func:`~tokd_lightning.frequency.high_pass`.

    Raises:
        TokdError: No tree, no frames in it, an unreadable frame, or ``out`` cannot be written.
    """
    if not root.is_dir():
        raise TokdError(f"{root} is not a folder: name the root of an FF++ tree")
    if out.is_dir():
        raise TokdError(f"{out} is a folder: name the PNG file to write")
    methods = [m for m in ALL_METHODS if (root / "manipulated_sequences" / m).is_dir()]
    videos = {name: _videos(root / where) for name, where in _places(methods).items()}
    qualities = sorted({quality for quality, _ in videos["real"]})
    targets = _spread(videos, methods, qualities, identities)
    rows = [(target, quality) for target in targets for quality in qualities]
    cells = {
        (row, name): _cell(_middle_frame(folder), tile, cutoff)
        for row in rows
        for name, found in videos.items()
        if (folder := _of_target(found, *row)) is not None
    }
    peak = np.quantile(np.concatenate([np.abs(c.frequency).ravel() for c in cells.values()]), 0.99)
    gain = float(127 / max(peak, 1))
    kind = "SYNTHETIC mini-FF++" if (root / "SYNTHETIC.txt").is_file() else "FF++"
    title = f"{kind}: {root.resolve().name}   (x beside x^F, cutoff {cutoff:g}, times {gain:.1f})"
    sheet = _compose(rows, list(videos), cells, title, tile, gain)
    draft = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(draft, format="PNG")
        draft.replace(out)
    except OSError as error:
        raise TokdError(f"{out} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _places(methods: list[str]) -> dict[str, str]:
    return {"real": _REAL} | {m: f"manipulated_sequences/{m}" for m in methods}


def _videos(folder: Path) -> dict[tuple[str, str], Path]:
    """Find (quality, video) -> folder of frames; the first kind of frames that exists counts."""
    found = {}
    for quality in sorted(folder.iterdir()) if folder.is_dir() else []:
        kinds = [quality / kind for kind in FOLDERS if (quality / kind).is_dir()]
        for video in sorted(kinds[0].iterdir()) if kinds else []:
            if video.is_dir() and not video.name.startswith("."):
                found[quality.name, video.name] = video
    return found


def _of_target(found: dict[tuple[str, str], Path], target: str, quality: str) -> Path | None:
    names = (n for q, n in found if q == quality and n.split("_")[0] == target)
    name = next(names, None)
    return None if name is None else found[quality, name]


def _spread(
    videos: dict[str, dict[tuple[str, str], Path]],
    methods: list[str],
    qualities: list[str],
    count: int,
) -> list[str]:
    """Choose targets evenly, those first that exist in every quality and method."""
    reals = sorted({name for _, name in videos["real"]})
    if not reals:
        raise TokdError(f"no frames under {_REAL}/<quality>/{{{','.join(FOLDERS)}}} of this tree")
    owned = {name: {(q, n.split("_")[0]) for q, n in found} for name, found in videos.items()}
    full = [n for n in reals if all((q, n) in owned[m] for q in qualities for m in methods)]
    choice = full or reals
    picked = np.linspace(0, len(choice) - 1, min(count, len(choice))).round().astype(int)
    return [choice[i] for i in picked]


def _middle_frame(folder: Path) -> Path:
    names = list_frames(folder)
    if not names:
        raise TokdError(f"{folder} holds no frames: extract them, or remove the folder")
    return folder / names[len(names) // 2]


def _cell(path: Path, tile: int, cutoff: float) -> _Cell:
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise TokdError(f"{path} cannot be read as an image: replace or remove it") from error
    picture.thumbnail((_LARGEST, _LARGEST))
    pixels = np.asarray(picture, np.float32)
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    frequency = high_pass(x, cutoff)[0].permute(1, 2, 0).numpy()
    scale = tile / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return _Cell(np.asarray(picture.resize(size, Image.Resampling.BICUBIC)), frequency)


def _compose(
    rows: list[tuple[str, str]],
    columns: list[str],
    cells: dict[tuple[tuple[str, str], str], _Cell],
    title: str,
    tile: int,
    gain: float,
) -> Image.Image:
    """Lay the cells out under a title, with method names above and identity and quality beside."""
    across, down = 2 * tile + 3 * _GAP, tile + _GAP
    shape = (_SIDE + len(columns) * across, _TITLE + _LABEL + len(rows) * down)
    sheet = Image.new("RGB", shape, _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, 8), title, _INK, ImageFont.load_default(18))
    font = ImageFont.load_default(14)
    for column, name in enumerate(columns):
        pen.text((_SIDE + column * across, _TITLE + 2), name, _INK, font)
    for index, row in enumerate(rows):
        top = _TITLE + _LABEL + index * down
        pen.text((_GAP, top + tile // 2 - 16), "\n".join(row), _INK, font)
        for column, name in enumerate(columns):
            cell = cells.get((row, name))
            if cell is None:
                continue
            left = _SIDE + column * across
            sheet.paste(Image.fromarray(cell.rgb), (left, top))
            grey = np.clip(np.rint(128 + gain * cell.frequency), 0, 255).astype(np.uint8)
            size = (cell.rgb.shape[1], cell.rgb.shape[0])
            high = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)
            sheet.paste(high, (left + tile + _GAP, top))
    return sheet
