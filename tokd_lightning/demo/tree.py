"""Demo on disk: FF++'s official tree, written pair by pair, resumable, in parallel."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.landmarks import COUNT
from tokd_lightning.data.layouts.ffpp import FAKE, YOUTUBE
from tokd_lightning.data.layouts.video_folder import VIDEOS
from tokd_lightning.data.synthetic import NOTICE
from tokd_lightning.demo.cast import Cast, generator
from tokd_lightning.demo.clips import Clip, film
from tokd_lightning.demo.forgeries import FORGERIES
from tokd_lightning.demo.video import decode, encode
from tokd_lightning.files import replacing, write_json, write_text

REAL_FOLDER, FAKE_FOLDER = Path(YOUTUBE), Path(FAKE)
_PARTS = ".parts"
_FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]

_NOTICE = """\
This is a mini-FF++: SYNTHETIC data made by `tokd demo` to try the programs, not FaceForensics++ \
and no part of it. The {identities} identities are {source}. For each there is one clip of \
{frames} frames at {size} x {size} pixels and one forgery by each of four simple programs that \
imitate the traces of FF++'s families: Deepfakes, Face2Face, FaceSwap and NeuralTextures. The \
clips were encoded by libx264 at the CRF their folder is named after ({quality}) and decoded \
again. Numbers measured on this data say nothing about any real data set.
"""


class PairJob(NamedTuple):
    """One pair of identities to film, forge in both directions, encode and decode.

    Attributes:
        cast: Source of the portraits.
        first: Number of the first identity; the second follows.
        out: Root of the tree.
        quality: Names of the quality folders.
        seed: Seed of everything random.
        frames: Frames per clip.
        size: Side of a frame in pixels.
    """

    cast: Cast
    first: int
    out: Path
    quality: tuple[str, ...]
    seed: int
    frames: int
    size: int

    @property
    def part(self) -> Path:
        """Return the file that marks this pair as complete; it holds the pair's landmarks."""
        return self.out / _PARTS / f"{self.first:03d}.csv"


def make_pair(job: PairJob) -> None:
    """Write two identities' real clips and their eight forgeries in every quality.

    Files get their final names only when complete, and the pair counts as done only once its part
    file exists.
    """
    # Pairs already run in parallel; more threads inside each would only slow them down.
    cv2.setNumThreads(1)
    numbers = (job.first, job.first + 1)
    clips = [
        film(job.cast.portrait(n), generator(job.seed, n, "clip"), job.frames, job.size)
        for n in numbers
    ]
    names = [f"{n:03d}" for n in numbers]
    for target in (0, 1):
        _write_video(job, REAL_FOLDER, names[target], clips[target].frames)
        for method, forge in FORGERIES.items():
            rng = generator(job.seed, numbers[target], method)
            forged = forge(clips[target], clips[1 - target], rng)
            name = f"{names[target]}_{names[1 - target]}"
            _write_video(job, FAKE_FOLDER / method, name, forged.frames)
            _write_masks(job.out / FAKE_FOLDER / method / "masks" / "frames", name, forged.masks)
    ways = {names[0]: 0, names[1]: 1, "_".join(names): 0, "_".join(names[::-1]): 1}
    rows = [row for name, target in ways.items() for row in _rows(name, clips[target])]
    write_rows(job.part, rows)


def finish_tree(root: Path, jobs: list[PairJob], splits: dict[str, list[list[str]]]) -> None:
    """Write the split files and the landmarks of all pairs."""
    folder = root / "splits"
    for split, pairs in splits.items():
        write_json(folder / f"{split}.json", pairs)
    points = [f"{axis}{index}" for index in range(COUNT) for axis in "xy"]
    rows: list[list[str]] = [["video", "frame", *points]]
    for job in jobs:
        with job.part.open(newline="", encoding="utf-8") as file:
            rows.extend(csv.reader(file))
    write_rows(root / "landmarks.csv", rows)


def remove_parts(root: Path) -> None:
    """Remove the part files of a finished tree."""
    shutil.rmtree(root / _PARTS, ignore_errors=True)


def write_notice(
    root: Path, identities: int, source: str, frames: int, size: int, quality: tuple[str, ...]
) -> None:
    """Write SYNTHETIC.txt, which explains what this data is and is not."""
    qualities = ", ".join(quality)
    kind = source if source == "procedural faces" else "photographs set in motion by a program"
    notice = _NOTICE.format(
        identities=identities, source=kind, frames=frames, size=size, quality=qualities
    )
    write_text(root / NOTICE, notice)


def split_pairs(identities: int) -> dict[str, list[list[str]]]:
    """Divide pairs of identities into train, val and test, about 70 : 10 : 20, at least one each.

    Args:
        identities: An even number, at least 6.

    Returns:
        Pairs by split, as in FF++: [a, b] stands for the reals a and b and the fakes a_b and b_a.
    """
    pairs = [[f"{n:03d}", f"{n + 1:03d}"] for n in range(0, identities, 2)]
    val, test = max(1, round(len(pairs) * 0.1)), max(1, round(len(pairs) * 0.2))
    train = len(pairs) - val - test
    return {"train": pairs[:train], "val": pairs[train:-test], "test": pairs[-test:]}


def _write_video(job: PairJob, folder: Path, name: str, frames: NDArray[np.uint8]) -> None:
    for quality in job.quality:
        videos = job.out / folder / quality / VIDEOS
        pictures = job.out / folder / quality / "frames"
        videos.mkdir(parents=True, exist_ok=True)
        pictures.mkdir(parents=True, exist_ok=True)
        draft = videos / f".{name}.part"
        encode(frames, draft, quality)
        drafts = pictures / f".{name}.part"
        shutil.rmtree(drafts, ignore_errors=True)
        drafts.mkdir()
        for index, frame in enumerate(decode(draft)):
            _, png = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), _FAST_PNG)
            (drafts / f"{index:04d}.png").write_bytes(png.tobytes())
        shutil.rmtree(pictures / name, ignore_errors=True)
        drafts.replace(pictures / name)
        draft.replace(videos / f"{name}.mp4")


def _write_masks(folder: Path, name: str, masks: NDArray[np.float32]) -> None:
    """Write the masks of a forged clip, the same for every quality: 255 is forged."""
    drafts = folder / f".{name}.part"
    shutil.rmtree(drafts, ignore_errors=True)
    drafts.mkdir(parents=True)
    for index, mask in enumerate(masks):
        levels = np.where(mask >= 0.5, np.uint8(255), np.uint8(0))
        _, png = cv2.imencode(".png", levels, _FAST_PNG)
        (drafts / f"{index:04d}.png").write_bytes(png.tobytes())
    shutil.rmtree(folder / name, ignore_errors=True)
    drafts.replace(folder / name)


def _rows(name: str, clip: Clip) -> Iterator[list[str]]:
    for index, points in enumerate(clip.points):
        yield [name, str(index), *(f"{value:.2f}" for value in points.ravel())]


def write_rows(path: Path, rows: list[list[str]]) -> None:
    """Write a CSV file atomically."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
