"""Linear probe: logistic regression on the features of a frozen, pretrained backbone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from tokd_lightning.audit.measured import Section
from tokd_lightning.data.augment import Normalise
from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.decode import read_frame
from tokd_lightning.data.held import without
from tokd_lightning.data.manifest import VIDEO
from tokd_lightning.errors import TokdError
from tokd_lightning.metrics.classification import FloatArray, LabelArray
from tokd_lightning.models.backbones import Backbone, build_backbone

FRAMES = 4  # of each video
_BATCH = 64
_C = 1.0  # inverse strength of the L2 penalty, as in scikit-learn
_HALF = Normalise(0.5, 0.5)
_SAVED = ("path", "dataset", "method", "video", "label", "p_fake")


def build_probe(name: str, weights: Path | None, size: int) -> Backbone:
    """Build the frozen backbone of a probe.

    Args:
        name: Name of the network, see :func:`~tokd_lightning.models.backbones.build_backbone`.
        weights: File of its weights; None downloads timm's.
        size: Pixels along both sides of the images.

    Raises:
        TokdError: There is no such network, or its weights are unavailable.
    """
    given = True if weights is None else str(weights)
    backbone = build_backbone(name, given, size=size, role="maps")
    return backbone.eval().requires_grad_(False)


def fit_probe(data: FrameDataModule, name: str, backbone: Backbone) -> tuple[pd.DataFrame, Section]:
    """Fit the probe on the run's training split and score its test split.

    Forgeries that the run leaves out of training are left out of the probe's, too.

    Args:
        data: Reads the run's data.
        name: Name of the backbone.
        backbone: The backbone.

    Returns:
        P(fake) of frames of the test, and what the probe is, for ``measured.json``.

    Raises:
        TokdError: A split lacks a class, or a frame cannot be read.
    """
    manifest, _ = without(data.scan(data.quality).manifest, data.leave_out)
    tables = {split: spaced(manifest[manifest["split"] == split]) for split in ("train", "test")}
    for split, table in tables.items():
        if table["label"].nunique() < 2:
            raise TokdError(f"--probe needs real and fake frames in the split {split}")
    features = {split: _features(backbone, data, table) for split, table in tables.items()}
    label = tables["train"]["label"].to_numpy(np.int64)
    p_fake = fit_and_score(features["train"], label, features["test"])
    scores = tables["test"].assign(p_fake=p_fake)[list(_SAVED)]
    said = {
        "backbone": name, "frames_per_video": FRAMES, "features": features["train"].shape[1],
        "train_frames": len(label), "c": _C,
    }  # fmt: skip
    return scores, said


def spaced(table: pd.DataFrame) -> pd.DataFrame:
    """Return at most :data:`FRAMES` evenly spaced frames of each video."""
    groups = table.groupby(VIDEO, sort=False)
    size, number = groups["path"].transform("size"), groups.cumcount()
    few = size.clip(upper=FRAMES)
    # Frame i is taken where floor(i * few / size) rises: few times, at even distances.
    return table[(number * few) // size != ((number - 1) * few) // size].reset_index(drop=True)


def fit_and_score(train: FloatArray, label: LabelArray, test: FloatArray) -> FloatArray:
    r"""Fit a logistic regression and return P(fake) of the test.

    On standardised features x, with weights :math:`c_y = n / (2 n_y)` that balance the classes, it
    minimises

    .. math:: \tfrac{1}{2} \|w\|^2 + C \sum_i c_{y_i} \log(1 + e^{-(2 y_i - 1)(w x_i + b)})

    Args:
        train: Features, ``(N, D)``.
        label: 0 real, 1 fake, ``(N,)``; both occur.
        test: Features, ``(M, D)``.
    """
    mean, sd = train.mean(0), train.std(0)
    scale = np.where(sd > 0, sd, 1.0)
    x, rest = (torch.from_numpy((part - mean) / scale) for part in (train, test))
    y = torch.tensor(label, dtype=torch.float64)
    balance = len(y) / (2 * torch.where(y > 0, y.sum(), (1 - y).sum()))
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=1000, tolerance_grad=1e-9, tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        solver.zero_grad()
        losses = F.softplus(-(2 * y - 1) * (x @ weight + bias))
        loss = (_C * (balance * losses).sum() + weight.square().sum() / 2) / len(y)
        cast(Any, loss).backward()  # torch's is without types
        return loss

    cast(Any, solver).step(closure)
    with torch.no_grad():
        found: FloatArray = torch.sigmoid(rest @ weight + bias).numpy()
    return found


@torch.inference_mode()
def _features(backbone: Backbone, data: FrameDataModule, table: pd.DataFrame) -> FloatArray:
    """Return the mean of the coarsest map of each frame, ``(N, D)``."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = backbone.trained_on
    normalise = (_HALF if known is None else Normalise(known.mean, known.std)).to(device)
    backbone.to(device)
    found = []
    for images in _batches(data, table["path"].tolist()):
        maps = backbone(normalise(images.to(device).float() / 255))
        found.append(maps[max(maps)].mean((2, 3)).double().cpu())
    return torch.cat(found).numpy()


def _batches(data: FrameDataModule, paths: list[str]) -> Iterator[Tensor]:
    root, size, crop = Path(data.root), data.size, data.input_size
    edge = (size - crop) // 2

    def read(path: str) -> Tensor:
        try:
            return read_frame(root / path, size)[:, edge : edge + crop, edge : edge + crop]
        except ValueError as error:
            raise TokdError(f"cannot read {root / path}: {error}") from error

    with ThreadPoolExecutor(8) as threads:
        for start in range(0, len(paths), _BATCH):
            yield torch.stack([*threads.map(read, paths[start : start + _BATCH])])
