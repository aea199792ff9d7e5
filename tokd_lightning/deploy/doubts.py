"""Reasons why the score of a file means little: pictures unlike those of training."""

from __future__ import annotations

from collections.abc import Sequence

from tokd_lightning.data.qualities import CRF
from tokd_lightning.deploy.found import Look, ReadOptions

_FILLS, _ASPECT = 0.5, 1.1  # of 204 portraits the face fills at most 0.45
_ENLARGED = 2.0
_HARDER = 6.0  # steps of CRF that halve the bit rate
_COARSER = 20.0  # steps of JPEG quality


def unlike_training(
    looks: Sequence[Look],
    size: tuple[float, float],
    crf: CRF,
    cut: bool,
    wanted: ReadOptions,
    jpeg: float | None = None,
) -> list[str]:
    """Return how the faces of a file are unlike the faces that the model was trained on.

    Args:
        looks: Its faces; at least one.
        size: Width and height of its pictures.
        crf: Setting of its encoder, where the file records it.
        cut: Whether faces were found and cropped, rather than pictures taken whole.
        wanted: How it was read.
        jpeg: Its JPEG quality; None if it is no JPEG.
    """
    found = []
    sides = [min(look.box[2:]) for look in looks if look.number == 0]
    side, shorter = sorted(sides)[len(sides) // 2], min(size)
    if cut and side >= _FILLS * shorter and max(size) <= _ASPECT * shorter:
        found.append(
            "the face fills the picture: if it is a face crop already, --detector none takes it "
            "whole"
        )
    target = wanted.stored or wanted.size
    if side * _ENLARGED <= target:
        found.append(f"the face is tiny: {side} pixels with its margin, enlarged to {target}")
    if isinstance(crf, float) and wanted.crf is not None and crf - wanted.crf >= _HARDER:
        found.append(
            f"compressed harder than the training data: CRF {crf:g}, they have {wanted.crf:g}"
        )
    if jpeg is not None and wanted.jpeg is not None and wanted.jpeg - jpeg >= _COARSER:
        found.append(
            f"compressed harder than the training data: JPEG quality {jpeg:.0f}, theirs is worth "
            f"about {wanted.jpeg:.0f}"
        )
    return found
