"""Checks of a manifest before training, for problems that would spoil the result."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
from PIL import Image, UnidentifiedImageError

from tokd_lightning.data.image import orientation_of, upright_size
from tokd_lightning.data.layouts.numbering import ambiguous
from tokd_lightning.data.layouts.said import said_label
from tokd_lightning.data.manifest import VIDEO, first_rows
from tokd_lightning.data.packed import split_path
from tokd_lightning.data.shapes import Shape, Size, is_square, telling_shapes
from tokd_lightning.data.spacing import evenly_spaced

_LOOKED_AT = 64  # images per data set, quality and method whose headers are read
_READ = 20_000  # paths that are compared with their labels


def partial_notes(videos: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return notes on the splits of which only some videos are present.

    Args:
        videos: Split -> number of videos with frames, and number that belong to it.
    """
    return [
        f"only a part of {split}: {there} of {listed} videos"
        for split, (there, listed) in videos.items()
    ]


def suspicions(manifest: pd.DataFrame, root: Path, size: int) -> list[str]:
    """Return notes on frame numbers, labels and shapes that a user should know of.

    Args:
        manifest: Rows of the manifest.
        root: Folder that their paths are relative to.
        size: Side in pixels to which training resizes the images.
    """
    first = first_rows(manifest)
    return [
        *_readings(manifest, first),
        *_labels(first),
        *_shapes(first, root, size),
    ]


def _readings(manifest: pd.DataFrame, first: pd.DataFrame) -> Iterator[str]:
    """Yield a note on frame numbers read from names with several numbers, checked on samples."""
    found = []
    for row in first.drop_duplicates(["dataset", "method", "quality"]).index:
        video = manifest.loc[row, VIDEO]
        rows = manifest.loc[row : row + 63]
        rows = rows[(rows[VIDEO] == video).all(axis=1)]
        names = [path.rpartition("/")[2] for path in rows["path"]]
        if example := ambiguous(names, rows["frame"].tolist()):
            found.append(example)
    if found:
        yield "frames are numbered by what varies in their names: " + ", ".join(
            list(dict.fromkeys(found))[:3]
        )


def _labels(first: pd.DataFrame) -> Iterator[str]:
    some = first.iloc[evenly_spaced(len(first), _READ)]
    pairs = list(zip(some["path"], some["label"], strict=True))
    told = [(path, label, said_label(path)) for path, label in pairs]
    against = [(path, label) for path, label, said in told if said not in (None, label)]
    if against:
        path, label = against[0]
        yield (
            f"{len(against)} of {len(pairs)} videos are labelled against their paths, e.g. {path} "
            f"as {'fake' if label else 'real'}: are the labels the wrong way round? 1 is fake"
        )


def _shapes(first: pd.DataFrame, root: Path, size: int) -> Iterator[str]:
    shapes: list[Shape] = []
    odd: list[tuple[str, Size]] = []
    for (dataset, quality, method), rows in first.groupby(
        ["dataset", "quality", "method"], sort=False
    ):
        paths = rows["path"].tolist()
        for path in (paths[i] for i in evenly_spaced(len(paths), _LOOKED_AT)):
            if found := _size(root, path):
                shapes.append(Shape((str(dataset), str(quality)), str(method), found))
                odd += [] if is_square(found) else [(path, found)]
    if odd:
        path, found = odd[0]
        yield (
            f"{len(odd)} of {len(shapes)} images looked at are not square, e.g. {path} of "
            f"{found[0]}x{found[1]}: training squashes them to {size}x{size}; no faces? tokd "
            "prepare cuts them out"
        )
    for group, _, text in telling_shapes(shapes):
        yield (
            f"the images' shape alone tells the classes of {' '.join(group)} apart: {text}; cut "
            "both alike, as tokd prepare does"
        )


def _size(root: Path, path: str) -> Size | None:
    """Read an image's size, turned as EXIF says, from its header.

    None for packs, which are square, and damaged files.
    """
    if split_path(path)[1] is not None:
        return None
    try:
        with Image.open(root / path) as image:
            if image.width == image.height:  # however it is turned
                return image.size
            return upright_size(image, orientation_of(image))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
