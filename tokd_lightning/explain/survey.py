"""One pass over a split: scores with and without each band, and the attention of the RFAMs."""

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
from tokd_lightning.models.detectors import extras_of
from tokd_lightning.models.look import attention_maps

FloatArray = NDArray[np.float64]


class Filter(NamedTuple):
    """A filter applied to an image before the network; it keeps the channel means.

    Attributes:
        kind: ``none``; ``remove``: removes the frequencies from ``low`` to ``high``; ``low-pass``
            and ``high-pass``: keep only those; ``mean``: removes all.
        low: Lower bound of u / H + v / W, inclusive.
        high: Upper bound, exclusive.
    """

    kind: str
    low: float
    high: float


class Attention(NamedTuple):
    """Mean attention of a teacher over the frames of each method, in the order of the methods.

    Attributes:
        maps: One array per RFAM and branch, x before x^F, ``(methods, h, w)``.
        images: Mean frame in [0, 1], ``(methods, H, W, 3)``.
    """

    maps: list[FloatArray]
    images: FloatArray


class Survey(NamedTuple):
    """Results of one pass.

    Attributes:
        scores: A row per frame: the split's table and ``p_fake``.
        filtered: P(fake) under each filter, ``(filters, frames)``, in the order of ``scores``.
        filters: The filters.
        energy: Mean square of each band of images in [0, 1], for real and for fake frames,
            ``(bands, 2)``.
        methods: ``real`` and the forgeries, and the number of frames of each.
        attention: Attention of a teacher with RFAMs; None for other networks.
    """

    scores: pd.DataFrame
    filtered: FloatArray
    filters: list[Filter]
    energy: FloatArray
    methods: dict[str, int]
    attention: Attention | None


def filters(edges: Sequence[float]) -> list[Filter]:
    """Return the filters that :func:`filtered` applies, in the same order."""
    first, last = edges[0], edges[-1]
    found = [Filter("none", first, last)]
    for low, high in pairwise(edges):
        if low > first:
            found += [Filter("low-pass", first, low), Filter("high-pass", low, last)]
        found.append(Filter("remove", low, high))
    return [*found, Filter("mean", first, first)]


def filtered(x: Tensor, edges: Sequence[float]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Apply each filter to images ``(B, C, H, W)``.

    Filtering normalised images is equivalent to filtering those in [0, 1]: the normalisation's
    offset is in the mean, which is kept, and its scale commutes with linear filters.

    Yields:
        The filtered images and, if a band was removed, the band, else None.
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
    """Score every frame of a split under every filter, in one pass.

    Args:
        network: The network in ``eval()``, on its device.
        data: The frames; each is decoded once.
        split: ``test`` or ``val``.
        edges: Edges of the frequency bands.
        advance: Called after each batch.

    Raises:
        TokdError: A frame cannot be read, no frame can be read, or a score is not finite.
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
        extras = {key: value.to(device) for key, value in extras_of(network, batch).items()}
        label, methods_here, band_number = batch["label"], of_row[rows], 0
        for number, (image, band) in enumerate(filtered(x, edges)):
            if number == 0 and attends and isinstance(network, DualBranchTeacher):
                output, pairs = attention_maps(network, image)
                values = [part for pair in pairs for part in pair] + [x * std + mean]
                sums = _added(sums, values, methods_here, len(methods))
                logits = output.logits
            else:
                logits = network(image, **extras).logits
            scores[number].append(logits.double().softmax(1)[:, 1].cpu())
            if band is not None:
                square = (band * std).double().square().mean(dim=(1, 2, 3)).cpu()
                energy[band_number].index_add_(0, label, square)
                band_number += 1
        advance()
    if not index:
        raise TokdError(f"no frame of the {split} split could be read")
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
    if len(sums) < 2:  # no RFAM has a map, e.g. with `rfam: none`
        return None
    number = np.array(list(methods.values()), np.float64)
    with np.errstate(invalid="ignore"):  # methods without a frame
        means = [total.numpy() / number.reshape(-1, *[1] * (total.ndim - 1)) for total in sums]
    return Attention(means[:-1], means[-1].transpose(0, 2, 3, 1))
