"""Tiny videos whose pixels say which one, which frame and where they are from."""

import csv
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from trees import write_splits

from tokd_lightning.demo.video import encode

WIDTH, HEIGHT = 96, 64
PAIRS = {"train": [["000", "001"]], "val": [["002", "003"]], "test": [["004", "005"]]}
IDS = [name for pairs in PAIRS.values() for pair in pairs for name in pair]
YOUTUBE = "original_sequences/youtube"
DEEPFAKES = "manipulated_sequences/Deepfakes"


def film(number: int, frames: int = 6, size: tuple[int, int] = (WIDTH, HEIGHT)) -> NDArray:
    """Film a fine pattern of its own on grey that grows lighter with every frame."""
    width, height = size
    pattern = np.random.default_rng(number).normal(0, 30, (height // 4 + 1, width // 4 + 1, 3))
    pattern = cv2.resize(pattern, (width, height), interpolation=cv2.INTER_CUBIC)
    clip = [60 + 12 * frame + pattern for frame in range(frames)]
    return np.stack(clip).round().clip(0, 255).astype(np.uint8)


def index_of(picture: NDArray, number: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> int:
    """Read a frame's index from its light; the picture is the whole middle square."""
    middle = middle_of(film(number, 1, size)[0])
    return round((float(picture.mean()) - float(middle.mean())) / 12)


def middle_of(picture: NDArray) -> NDArray:
    height, width = picture.shape[:2]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    return picture[y : y + side, x : x + side]


def make_ffpp_videos(
    root: Path, qualities: Sequence[str] = ("c23", "c40"), frames: int = 6
) -> Path:
    """Make an FF++ tree of 6 real videos and 6 Deepfakes; a fake's pattern is 100 + its target."""
    write_splits(root / "splits", **PAIRS)
    donors = {a: b for pairs in PAIRS.values() for pair in pairs for a, b in (pair, pair[::-1])}
    for quality in qualities:
        for name in IDS:
            for part, video, number in (
                (YOUTUBE, name, int(name)),
                (DEEPFAKES, f"{name}_{donors[name]}", 100 + int(name)),
            ):
                place = root / part / quality / "videos" / f"{video}.mp4"
                place.parent.mkdir(parents=True, exist_ok=True)
                encode(film(number, frames), place, quality)
    return root


def put_index_first(file: Path) -> None:
    """Store a video as a streaming server does, so that it can be opened without its end."""
    fast = file.with_name("fast.mp4")
    with (
        av.open(str(file)) as old,
        av.open(str(fast), "w", options={"movflags": "faststart"}) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    fast.replace(file)


def contents(root: Path) -> dict[str, bytes | None]:
    """Read a folder: files by name, folders as None."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def write_boxes(file: Path, *rows: Sequence[object]) -> Path:
    lines = [("video", "frame", "x", "y", "w", "h"), *rows]
    file.write_text("\n".join(",".join(map(str, row)) for row in lines), encoding="utf-8")
    return file
