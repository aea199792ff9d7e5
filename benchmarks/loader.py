"""Batches of 299 px frames: ours against Pillow with ToTensor, from JPEG files and from packs."""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from benchmarks.timing import Spread, compare, ratio, spread, threads
from tokd_lightning.data.frames import FrameDataset, loader
from tokd_lightning.data.manifest import build
from tokd_lightning.data.packed import write_pack
from tokd_lightning.data.sampling import EvaluationBatches, EveryNth

PER_VIDEO = 32


class Loading(NamedTuple):
    """Result of :func:`measure`.

    Attributes:
        faster: Form -> speed of our loader / speed of the plain one, in images per second of
            process time.
        rates: Loader -> images per second of process time.
        kilobytes: Average size of a JPEG file.
    """

    faster: dict[str, Spread]
    rates: dict[str, Spread]
    kilobytes: float


class Plain(Dataset[tuple[Tensor, int]]):
    """The obvious loader: Pillow decodes, ToTensor makes float32 in [0, 1]."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.to_tensor = ToTensor()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.files[index]) as image:
            return self.to_tensor(image.convert("RGB")), 0


def photograph(size: int, rng: np.random.Generator) -> Image.Image:
    """Draw an image whose spectrum falls like that of a face crop, amplitude ~ 1 / f^1.5."""
    frequencies = np.fft.fftfreq(size)
    radius = np.hypot(frequencies[:, None], frequencies)
    radius[0, 0] = 1 / size

    def field() -> npt.NDArray[np.float64]:
        drawn = np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) / radius**1.5).real
        return np.asarray((drawn - drawn.mean()) / drawn.std())

    light = field()
    colours = np.stack([light + 0.3 * field() for _ in range(3)], axis=-1)
    return Image.fromarray((128 + 50 * colours).clip(0, 255).astype(np.uint8))


def write(folder: Path, count: int, size: int, photographs: Path | None) -> dict[str, pd.DataFrame]:
    """Write the same frames as JPEG files of quality 75 and as packs of 32.

    Returns:
        ``jpeg`` and ``pack`` -> the manifest, with paths relative to ``folder``.
    """
    rng = np.random.default_rng(0)
    given = [] if photographs is None else sorted(photographs.rglob("*.jpg"))
    rows: dict[str, list[tuple[Any, ...]]] = {"jpeg": [], "pack": []}
    for video, first in enumerate(range(0, count, PER_VIDEO)):
        pixels = []
        for frame in range(min(PER_VIDEO, count - first)):
            if given:
                source = Image.open(given[(first + frame) % len(given)]).convert("RGB")
                image = ImageOps.fit(source, (size, size), Image.Resampling.LANCZOS)
            else:
                image = photograph(size, rng)
            encoded = io.BytesIO()
            image.save(encoded, "JPEG", quality=75)
            (folder / f"{video}_{frame}.jpg").write_bytes(encoded.getvalue())
            pixels.append(np.asarray(Image.open(encoded)).transpose(2, 0, 1))
            about = ("", "real", str(video), "", "", "", frame, 0, "test")
            rows["jpeg"].append((f"{video}_{frame}.jpg", *about))
            rows["pack"].append((f"{video}.npy#{frame}", *about))
        write_pack(folder / f"{video}.npy", list(range(len(pixels))), np.stack(pixels))
    return {form: build(each) for form, each in rows.items()}


def _loaders(
    folder: Path, tables: dict[str, pd.DataFrame], size: int, batch: int, workers: int
) -> dict[str, DataLoader[Any]]:
    files = [folder / path for path in tables["jpeg"]["path"]]
    found: dict[str, DataLoader[Any]] = {
        "plain": DataLoader(
            Plain(files), batch, num_workers=workers, persistent_workers=workers > 0
        )
    }
    for form, table in tables.items():
        rows = EvaluationBatches(EveryNth(len(table)), batch)
        frames = FrameDataset(table, folder, size)
        found[form] = loader(frames, workers, False, 0, batch_sampler=rows)
    return found


def _draining(batches: DataLoader[Any]) -> Callable[[], None]:
    def drain() -> None:
        for _ in batches:
            pass

    return drain


def measure(
    count: int = 128,
    size: int = 299,
    batch: int = 64,
    repeats: int = 11,
    photographs: Path | None = None,
) -> Loading:
    """Time whole passes in the main process, on one thread, with files in the page cache.

    Args:
        count: Number of frames.
        size: Side of the frames in pixels.
        batch: Frames per batch.
        repeats: Passes of each loader, interleaved.
        photographs: Folder of JPEG photographs to crop and resize instead of drawn images.
    """
    with tempfile.TemporaryDirectory() as place, threads(1):
        folder = Path(place)
        tables = write(folder, count, size, photographs)
        loaders = _loaders(folder, tables, size, batch, workers=0)
        seconds = compare({name: _draining(each) for name, each in loaders.items()}, repeats, 2)
        bytes_of = [(folder / path).stat().st_size for path in tables["jpeg"]["path"]]
    return Loading(
        {form: ratio(seconds["plain"], seconds[form]) for form in tables},
        {name: spread([count / s for s in each]) for name, each in seconds.items()},
        float(np.mean(bytes_of)) / 1000,
    )


def with_workers(
    workers: int = 2, count: int = 512, size: int = 299, batch: int = 64, repeats: int = 5
) -> dict[str, Spread]:
    """Return each loader's images per second of wall-clock time, with dataloader workers."""
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tables = write(folder, count, size, None)
        loaders = _loaders(folder, tables, size, batch, workers)
        for repeat in range(repeats + 1):
            for name, each in loaders.items():
                start = time.perf_counter()
                _draining(each)()
                if repeat:
                    rates.setdefault(name, []).append(count / (time.perf_counter() - start))
    return {name: spread(each) for name, each in rates.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--photographs", type=Path, help="a folder of JPEGs, instead of drawings")
    given = parser.parse_args()
    torch.manual_seed(0)
    found = measure(repeats=given.repeats, photographs=given.photographs)
    print(f"one core, JPEG files of {found.kilobytes:.1f} kB")
    for name, rate in found.rates.items():
        print(f"  {name:6} images/s {rate}")
    for form, factor in found.faster.items():
        print(f"  {form:6} / plain  {factor}")
    print(f"{given.workers} workers, on the clock")
    for name, rate in with_workers(given.workers).items():
        print(f"  {name:6} images/s {rate}")
