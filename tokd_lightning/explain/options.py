"""Options of an explanation, and its data."""

import os
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

import torch

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.frames import Batch, FrameLoader, Unreadable
from tokd_lightning.data.target import Target
from tokd_lightning.errors import TokdError
from tokd_lightning.evaluation import Trained
from tokd_lightning.evaluation.record import SEEN
from tokd_lightning.frequency import band_frequencies
from tokd_lightning.runs.identity import Config

STRIDES = (8, 16, 32)
_LOWEST = 1 / 32  # upper edge of the first logarithmic band
_KEPT = ("batch_size", "frames_per_video", "on_error")


class Options(NamedTuple):
    """Options of an explanation; None takes the value the run was trained with.

    Attributes:
        split: ``test`` or ``val``.
        frames: Number of frames for Grad-CAM, the first of those in ``pictures.png``.
        errors: Largest number of most confident errors added to them.
        strides: Strides of the feature maps for Grad-CAM.
        bands: Number of frequency bands.
        widths: ``log``: the first band ends at 1/32, and the upper edges grow by a constant factor;
            ``equal``: all bands have the same width.
        band_frames: Evenly spaced frames per video for the removal of bands.
        batch_size: Frames per batch.
        workers: Number of dataloader workers.
        device: ``auto``, ``cpu`` or ``gpu``.
        on_error: Whether an unreadable frame is an error (``fail``) or is left out (``skip``).
    """

    split: str = "test"
    frames: int = 8
    errors: int = 4
    strides: tuple[int, ...] = (32,)
    bands: int = 10
    widths: str = "log"
    band_frames: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    device: str = "auto"
    on_error: str | None = None


def check_options(options: Options) -> None:
    """Check the ranges of the options and the device.

    Raises:
        TokdError: A number is out of range, or no GPU was found for ``gpu``.
    """
    least = {"frames": 1, "errors": 0, "bands": 2, "band_frames": 1, "batch_size": 1, "workers": 0}
    for key, smallest in least.items():
        value = getattr(options, key)
        if value is not None and value < smallest:
            raise TokdError(f"--{key.replace('_', '-')} must be at least {smallest}, not {value}")
    if options.device == "gpu" and not torch.cuda.is_available():
        raise TokdError("no GPU was found: leave --device at auto, or set it to cpu")


def band_edges(count: int, widths: str, size: int) -> list[float]:
    """Return the edges of bands of the frequencies u / H + v / W in [0, 2].

    Args:
        count: Number of bands.
        widths: As in :class:`Options`.
        size: Side of the images in pixels.

    Raises:
        TokdError: A band contains no frequency of images of this size.
    """
    if widths == "equal":
        edges = [2 * k / count for k in range(count + 1)]
    else:
        ratio = (2 / _LOWEST) ** (1 / (count - 1))
        edges = [0.0, *(2 / ratio ** (count - k) for k in range(1, count)), 2.0]
    found = band_frequencies(size, size)
    inside = [int(((found >= low) & (found < high)).sum()) for low, high in pairwise(edges)]
    inside[0] -= 1  # the mean
    if 0 in inside:
        number = inside.index(0)
        raise TokdError(
            f"images of {size} px have no frequency between {edges[number]:.3g} and "
            f"{edges[number + 1]:.3g}: fewer --bands, or the other --widths"
        )
    return edges


def frames_of(
    trained: Trained, target: Target | None, options: Options, frames: int | None = None
) -> FrameDataModule:
    """Build the data module of a run's own data, or of other data preprocessed in the same way.

    Args:
        trained: The run.
        target: Other data; None takes the run's own from where its configuration says.
        options: How to explain.
        frames: Evenly spaced frames per video; None takes the run's own number.

    Raises:
        TokdError: The data do not exist.
    """
    own, asked = trained.fed, {"batch_size": options.batch_size, "frames_per_video": frames}
    given: Config = {key: value for key, value in asked.items() if value is not None}
    if options.on_error is not None:
        given["on_error"] = options.on_error
    workers = min(own["num_workers"], os.cpu_count() or 1)
    given["num_workers"] = workers if options.workers is None else options.workers
    if target is not None:
        other = target.module(
            options.split, None, **{key: own[key] for key in (*SEEN, *_KEPT)} | given
        )
        trained.model.ask(other)
        return other
    block = trained.config["data"]
    module, _, name = str(block["class_path"]).rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise TokdError(f"there is no {module}.{name}: name the data with --on") from error
    given |= {"augmentation": [], "teacher_quality": None}
    data: FrameDataModule = kind(**{**block["init_args"], **given})
    trained.model.ask(data)
    return data


def loader_of(data: FrameDataModule, split: str) -> FrameLoader:
    """Return a loader of every frame of a split, once each."""
    return data.test_dataloader() if split == "test" else data.val_dataloader()


def read(data: FrameDataModule, split: str, rows: list[int]) -> tuple[list[int], Batch]:
    """Read rows of a split's table.

    Returns:
        The rows that could be read, and their batch, with the images as network input.

    Raises:
        TokdError: A frame cannot be read and must not be skipped.
    """
    batch = loader_of(data, split).dataset.__getitems__(rows)
    if isinstance(batch, Unreadable):
        raise TokdError(batch.message)
    finished = data.on_after_batch_transfer(cast(Batch, batch), 0)
    return finished["index"].tolist(), finished


def where(target: Target | None, trained: Trained, split: str) -> Path:
    """Return the folder of an explanation, relative to the run's.

    For the run's own test split it is ``explanations`` itself, even if the data have moved.
    """
    label = trained.model.header["data"] if target is None else target.label
    part = [] if label == trained.model.header["data"] else [label]
    part += [] if split == "test" else [split]
    return Path("explanations", *(["-".join(part).replace("/", "-")] if part else []))
