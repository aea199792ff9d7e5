"""One pass over a split: scores with and without each band, and what the RFAMs attend to."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.errors import TokdError
from tokd_lightning.explain.options import loader_of
from tokd_lightning.frequency import split_bands
from tokd_lightning.models import DualBranchTeacher
from tokd_lightning.models.look import attention_maps

FloatArray = NDArray[np.float64]


class Filter(NamedTuple):
    """What is done to an image before a network sees it; its channel means stay.

    Attributes:
        kind: ``none``; ``remove``: without the frequencies from ``low`` to ``high``; ``low-pass``
            and ``high-pass``: with those alone; ``mean``: without any.
        low: Of u / H + v / W.
        high: The first that is above.
    """

    kind: str
    low: float
    high: float


class Attention(NamedTuple):
    """Means of a teacher's attention, over the frames of each method, in order.

    Attributes:
        maps: Per RFAM and branch, x before x^F: ``(methods, h, w)``.
        images: Mean frame in [0, 1], ``(methods, H, W, 3)``.
    """

    maps: list[FloatArray]
    images: FloatArray


class Survey(NamedTuple):
    """What one pass has found.

    Attributes:
        scores: A row per frame: the split's table and ``p_fake``.
        filtered: P(fake) under each filter, ``(filters, frames)``, in the order of ``scores``.
        filters: Their names.
        energy: Mean square of each band in an image in [0, 1], of real and of fake frames,
            ``(bands, 2)``.
        methods: ``real`` and the forgeries, and how many frames each has.
        attention: Of a teacher with RFAMs; None of other networks.
    """

    scores: pd.DataFrame
    filtered: FloatArray
    filters: list[Filter]
    energy: FloatArray
    methods: dict[str, int]
    attention: Attention | None


def filters(edges: Sequence[float]) -> list[Filter]:
    """Name the filters that :func:`filtered` applies, in its order."""
    first, last = edges[0], edges[-1]
    found = [Filter("none", first, last)]
    for low, high in pairwise(edges):
        if low > first:
            found += [Filter("low-pass", first, low), Filter("high-pass", low, last)]
        found.append(Filter("remove", low, high))
    return [*found, Filter("mean", first, first)]


def filtered(x: Tensor, edges: Sequence[float]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Apply one filter after the other to images ``(B, C, H, W)``.

    Normalised images are filtered as those in [0, 1] would be: what normalisation subtracts is in
    the mean, which stays, and what it divides by goes through a linear filter.

    Yields:
        What is left and, of a removed band, the band.
    """
    yield x, None
    below = mean = x.mean(dim=(2, 3), keepdim=True).expand_as(x).contiguous()
    for number, band in enumerate(split_bands(x, edges)):
        if number:
            yield below, None
            yield x - below + mean, None
        yield x - band, band
        below = below + band
    yield mean, None


@torch.inference_mode()
def survey(
    network: nn.Module,
    data: FrameDataModule,
    split: str,
    edges: Sequence[float],
    advance: Callable[[], None] = lambda: None,
) -> Survey:
    """Look at every frame of a split once, under every filter.

    Args:
        network: In ``eval()``, on its device.
        data: The frames; each is decoded once.
        split: ``test`` or ``val``.
        edges: Of the bands of frequency.
        advance: Called after each batch.

    Raises:
        TokdError: A frame cannot be read, none can, or a score is not a number.
    """
    device = next(network.parameters()).device
    table, names = data.table(split), filters(edges)
    order = table.drop_duplicates("method").sort_values(["label", "method"])
    methods = {str(name): 0 for name in order["method"]}
    code = {name: number for number, name in enumerate(methods)}
    of_row = torch.tensor([code[str(name)] for name in table["method"]])
    std, mean = data.normalise.std.to(device), data.normalise.mean.to(device)
    index: list[Tensor] = []
    scores: list[list[Tensor]] = [[] for _ in names]
    energy = torch.zeros(len(edges) - 1, 2, dtype=torch.float64)
    sums: list[Tensor] = []
    attends = isinstance(network, DualBranchTeacher) and len(network.rfams) > 0
    for batch in loader_of(data, split):
        rows = batch["index"]
        if not len(rows):
            advance()
            continue
        batch["image"] = batch["image"].to(device)
        x = data.on_after_batch_transfer(batch, 0)["image"]
        index.append(rows)
        label, methods_here, band_number = batch["label"], of_row[rows], 0
        for number, (image, band) in enumerate(filtered(x, edges)):
            if number == 0 and attends and isinstance(network, DualBranchTeacher):
                output, pairs = attention_maps(network, image)
                values = [part for pair in pairs for part in pair] + [x * std + mean]
                sums = _added(sums, values, methods_here, len(methods))
                logits = output.logits
            else:
                logits = network(image).logits
            scores[number].append(logits.double().softmax(1)[:, 1].cpu())
            if band is not None:
                square = (band * std).double().square().mean(dim=(1, 2, 3)).cpu()
                energy[band_number].index_add_(0, label, square)
                band_number += 1
        advance()
    if not index:
        raise TokdError(f"not one frame of the {split} split could be read")
    rows_seen = torch.cat(index)
    p_fake = torch.stack([torch.cat(parts) for parts in scores]).numpy()
    if not np.isfinite(p_fake).all():
        raise TokdError("some scores are not a number: the network has diverged")
    seen = table.loc[rows_seen.tolist()]
    for name, count in seen["method"].value_counts().items():
        methods[str(name)] = int(count)
    number_of = np.bincount(seen["label"], minlength=2)
    with np.errstate(invalid="ignore"):
        per_class = energy.numpy() / number_of
    return Survey(
        seen.assign(p_fake=p_fake[0]), p_fake, names, per_class, methods, _means(sums, methods)
    )


def _added(sums: list[Tensor], values: list[Tensor], codes: Tensor, count: int) -> list[Tensor]:
    """Add maps to the sums over the frames of each method."""
    if not sums:
        sums = [torch.zeros(count, *value.shape[1:], dtype=torch.float64) for value in values]
    for total, value in zip(sums, values, strict=True):
        total.index_add_(0, codes, value.double().cpu())
    return sums


def _means(sums: list[Tensor], methods: dict[str, int]) -> Attention | None:
    if len(sums) < 2:  # no RFAM has a map, as with `rfam: none`
        return None
    number = np.array(list(methods.values()), np.float64)
    with np.errstate(invalid="ignore"):  # of a method without a frame
        means = [total.numpy() / number.reshape(-1, *[1] * (total.ndim - 1)) for total in sums]
    return Attention(means[:-1], means[-1].transpose(0, 2, 3, 1))
