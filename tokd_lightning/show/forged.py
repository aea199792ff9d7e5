"""Sheet of forged samples: ``tokd show --forge``."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tokd_lightning.data.annotated import AnnotatedDataset
from tokd_lightning.data.annotations import Annotations
from tokd_lightning.data.decode import load_frame, resize
from tokd_lightning.data.frames import Unreadable
from tokd_lightning.errors import TokdError
from tokd_lightning.show.choose import middle_frames, spread
from tokd_lightning.show.sheet import font_of, shorten

COLUMNS = ("as stored", "real counterpart", "forged", "mask m", "X-ray 4m(1 - m)")
_SAMPLES = 2
_GAP, _HEAD = 4, 26

_Tile = NDArray[np.uint8]


def draw_forged(
    manifest: pd.DataFrame,
    root: Path,
    title: str,
    forge: str,
    landmarks: Path | None = None,
    identities: int = 4,
    tile: int = 160,
    seed: int | None = None,
) -> tuple[bytes, int]:
    """Draw real frames with their forged samples as training makes them, two per frame.

    Args:
        manifest: Rows of a manifest.
        root: Folder that their paths are relative to.
        title: The first line.
        forge: Method, ``sbi`` or ``bi``.
        landmarks: File of the landmarks; None means ``<root>/landmarks.csv``.
        identities: Largest number of frames, each of another video.
        tile: Side of a picture in pixels.
        seed: Seed of the choice and of the samples; None spreads the choice evenly.

    Returns:
        The bytes of a PNG, and the number of real frames with landmarks.

    Raises:
        TokdError: There are no real frames, landmarks are missing, or a frame cannot be read.
    """
    reals = manifest[manifest["label"] == 0]
    if reals.empty:
        raise TokdError(f"{root} has no real frames here: samples are forged from real ones")
    annotations = Annotations(root, landmarks, forge)
    table = annotations.apply({"train": reals.reset_index(drop=True)})["train"]
    count = len(table) // 2
    stills = {still.video: still.path for still in middle_frames(table[:count])}
    rows = {path: row for row, path in enumerate(table["path"][:count])}
    tiles: list[list[_Tile]] = []
    for video in spread(stills, identities, seed):
        row = rows[stills[video]]
        try:
            stored = load_frame(root / stills[video])
        except ValueError as error:
            raise TokdError(f"cannot read {root / stills[video]}: {error}") from error
        size = min(stored.shape[1:])
        arguments = annotations.arguments("train") | {"masks": []}
        dataset = AnnotatedDataset(table, root, size, **arguments, seed=seed or 0)
        for epoch in range(_SAMPLES):
            start = epoch * len(table)
            batch = dataset.__getitems__([start + row, start + row + count])
            if isinstance(batch, Unreadable):
                raise TokdError(batch.message)
            (real, fake), mask = batch["image"], batch["mask"][1, 0].float() / 255
            grey = [
                (255 * m).round().byte().expand(3, -1, -1) for m in (mask, 4 * mask * (1 - mask))
            ]
            images = [resize(stored, size), real, fake, *grey]
            tiles.append([_tile(image, tile) for image in images])
    return _page(tiles, f"{title}, forged by {forge}", tile), count


def _tile(image: torch.Tensor, side: int) -> _Tile:
    pixels = resize(image.contiguous(), side)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def _page(tiles: list[list[_Tile]], title: str, tile: int) -> bytes:
    across = tile + _GAP
    width, height = len(COLUMNS) * across + _GAP, 2 * _HEAD + len(tiles) * across
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    large, small = font_of(15), font_of(12)
    pen.text((_GAP, 5), shorten(title, large, width - 2 * _GAP), "black", large)
    for column, name in enumerate(COLUMNS):
        text = shorten(name, small, tile)
        pen.text((_GAP + column * across, _HEAD + 7), text, "black", small)
    for line, row in enumerate(tiles):
        for column, pixels in enumerate(row):
            place = _GAP + column * across, 2 * _HEAD + line * across
            page.paste(Image.fromarray(pixels), place)
    content = io.BytesIO()
    page.save(content, format="PNG")
    return content.getvalue()
