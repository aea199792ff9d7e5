"""How to explain a run, and on which frames."""

import os
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.frames import Batch, FrameLoader, Unreadable
from tokd_lightning.data.target import Target
from tokd_lightning.errors import TokdError
from tokd_lightning.evaluate import Trained
from tokd_lightning.evaluate.record import SEEN
from tokd_lightning.frequency import band_frequencies
from tokd_lightning.naming import Config

STRIDES = (8, 16, 32)
WIDTHS = ("log", "equal")
_LOWEST = 1 / 32  # where the first of the log bands ends
_KEPT = ("batch_size", "frames_per_video", "on_error")


class Options(NamedTuple):
    """How to explain; None is what the run was trained with.

    Attributes:
        split: ``test`` or ``val``.
        frames: Frames whose Grad-CAM is drawn, the first of those that ``pictures.png`` has.
        errors: The most confident errors that join them, at most.
        strides: Of the maps that Grad-CAM reads.
        bands: Number of bands of frequency.
        widths: ``log``: the first band ends at 1/32, each further one is wider than the one before
            by the same factor; ``equal``.
        band_frames: Evenly spaced frames of every video whose bands are removed.
        batch_size: Frames per batch.
        workers: Processes that decode.
        device: ``auto``, ``cpu`` or ``gpu``.
        on_error: Whether an unreadable frame ends it (``fail``) or is left out (``skip``).
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
    """Refuse options that no explanation can have.

    Raises:
        TokdError: A number is out of its range, or there is no such device.
    """
    least = {"frames": 1, "errors": 0, "bands": 2, "band_frames": 1, "batch_size": 1, "workers": 0}
    for key, smallest in least.items():
        value = getattr(options, key)
        if value is not None and value < smallest:
            raise TokdError(f"--{key.replace('_', '-')} must be at least {smallest}, not {value}")
    if options.device == "gpu" and not torch.cuda.is_available():
        raise TokdError("no GPU was found: leave --device at auto, or set it to cpu")


def band_edges(count: int, widths: str, size: int) -> list[float]:
    """Cut the frequencies u / H + v / W of [0, 2] into bands.

    Args:
        count: Of bands.
        widths: As in :class:`Options`.
        size: Side of the images.

    Raises:
        TokdError: A band has not one frequency of such images.
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
    """Build the data module of a run's own data, or of others, prepared as the run's own are.

    Args:
        trained: The run.
        target: Other data; None takes the run's own from where its configuration says.
        options: How.
        frames: Evenly spaced frames of every video.

    Raises:
        TokdError: There are no such data.
    """
    own, asked = trained.fed, {"batch_size": options.batch_size, "frames_per_video": frames}
    given: Config = {key: value for key, value in asked.items() if value is not None}
    if options.on_error is not None:
        given["on_error"] = options.on_error
    workers = min(own["num_workers"], os.cpu_count() or 1)
    given["num_workers"] = workers if options.workers is None else options.workers
    if target is not None:
        return target.module(
            options.split, None, **{key: own[key] for key in (*SEEN, *_KEPT)} | given
        )
    block = trained.config["data"]
    module, _, name = str(block["class_path"]).rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise TokdError(f"there is no {module}.{name}: name the data with --on") from error
    given |= {"augmentation": [], "teacher_quality": None}
    data: FrameDataModule = kind(**{**block["init_args"], **given})
    return data


def loader_of(data: FrameDataModule, split: str) -> FrameLoader:
    """Load every frame of a split once."""
    return data.test_dataloader() if split == "test" else data.val_dataloader()


def read(data: FrameDataModule, split: str, rows: list[int]) -> tuple[list[int], Tensor]:
    """Read rows of a split's table.

    Returns:
        Those that could be read, and their images as the network sees them, ``(N, 3, H, W)``.

    Raises:
        TokdError: A frame cannot be read and must not be skipped.
    """
    batch = loader_of(data, split).dataset.__getitems__(rows)
    if isinstance(batch, Unreadable):
        raise TokdError(batch.message)
    finished = data.on_after_batch_transfer(cast(Batch, batch), 0)
    return finished["index"].tolist(), finished["image"]


def where(target: Target | None, trained: Trained, split: str) -> Path:
    """Name the folder of an explanation, below the run's.

    Of the run's own test split it is ``explanations`` itself, wherever the data lie now.
    """
    label = trained.model.header["data"] if target is None else target.label
    part = [] if label == trained.model.header["data"] else [label]
    part += [] if split == "test" else [split]
    return Path("explanations", *(["-".join(part).replace("/", "-")] if part else []))
