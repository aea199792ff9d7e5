"""Imitations of FF++'s four forgeries; each leaves only the traces of its family.

Rössler et al., "FaceForensics++: Learning to Detect Manipulated Facial Images", ICCV 2019,
describe the originals. A forgery works on the finished frames of two clips; pixels outside its
mask do not change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.blending.colour import blend, match_colours
from tokd_lightning.data.blending.points import (
    BROWS,
    JAW,
    LIPS,
    Plane,
    Points,
    hull_mask,
    interocular,
)
from tokd_lightning.demo.clips import STEERING, Clip, Pictures, express
from tokd_lightning.demo.warping import Image, resample, thin_plate_map


class Forged(NamedTuple):
    """A forged clip: RGB ``(T, size, size, 3)`` uint8, and its masks in [0, 1], ``(T, …)``."""

    frames: Pictures
    masks: NDArray[np.float32]


Forgery = Callable[[Clip, Clip, np.random.Generator], Forged]


def deepfakes(target: Clip, donor: Clip, rng: np.random.Generator) -> Forged:
    """Swap in the donor's face as a low-resolution decoder would reconstruct it.

    Coarse and smooth inside, colours transferred, a wide feathered border.

    Args:
        target: The clip to forge.
        donor: The clip whose face is used.
        rng: Draws the decoder's resolution and the border width, once per clip.
    """
    detail, feather = rng.uniform(0.48, 0.64), rng.uniform(0.05, 0.09)
    forged: list[tuple[Pictures, Plane]] = []
    for frame, points, other, read in _both(target, donor):
        size, unit = len(frame), interocular(points)
        face = resample(other, thin_plate_map(points[STEERING], read[STEERING], size))
        mask = hull_mask(_face(points), size, feather * unit, grow=0.93)
        coarse = _through(face, detail, cv2.INTER_CUBIC)
        forged.append(
            (blend(frame, match_colours(coarse, frame, mask, deviation=True), mask), mask)
        )
    return _stacked(forged)


def face2face(target: Clip, donor: Clip, rng: np.random.Generator) -> Forged:
    """Give the target the donor's expression by warping its own face.

    The face is rendered as a texture: resampled twice, lit slightly differently, with a sharp edge.

    Args:
        target: The clip to forge.
        donor: The clip whose expression is used.
        rng: Draws the texture's resolution and light, once per clip.
    """
    detail = rng.uniform(0.68, 0.83)
    light = (1 + rng.normal(0, 0.035) + rng.normal(0, 0.015, 3)).astype(np.float32)
    forged: list[tuple[Pictures, Plane]] = []
    for index, (frame, points, _, _) in enumerate(_both(target, donor)):
        size = len(frame)
        acted = express(target.relaxed[index], donor.expression[index])
        face = resample(frame, thin_plate_map(acted[STEERING], points[STEERING], size))
        texture = _through(face, detail, cv2.INTER_LINEAR) * light
        mask = hull_mask(np.concatenate([_face(points), _face(acted)]), size, 0.7, grow=0.97)
        forged.append((blend(frame, texture, mask), mask))
    return _stacked(forged)


def faceswap(target: Clip, donor: Clip, rng: np.random.Generator) -> Forged:
    """Copy the donor's face at full resolution, with a tremor from frame to frame.

    The border is hard; only mean colours are matched, and not fully.

    Args:
        target: The clip to forge.
        donor: The clip whose face is used.
        rng: Draws the tremor and the degree of colour matching.
    """
    match, tremor = rng.uniform(0.2, 0.65), rng.uniform(0.012, 0.03)
    forged: list[tuple[Pictures, Plane]] = []
    for frame, points, other, read in _both(target, donor):
        size, unit = len(frame), interocular(points)
        shift, turn = rng.normal(0, tremor * unit, 2), rng.normal(0, tremor)
        centre = points.mean(0)
        spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        placed = centre + (points - centre) @ spin + shift
        warp = thin_plate_map(placed[STEERING], read[STEERING], size)
        face = resample(other, warp)
        mask = hull_mask(_face(placed), size, grow=0.94)
        matched = match_colours(face, frame, mask, deviation=False)
        forged.append((blend(frame, face + np.float32(match) * (matched - face), mask), mask))
    return _stacked(forged)


def neural_textures(target: Clip, donor: Clip, rng: np.random.Generator) -> Forged:
    """Resynthesise the mouth region with the donor's expression.

    Imitates a decoder whose last layer doubles the resolution: half the detail, and four kernel
    phases that differ, visible as a fine regular pattern.

    Args:
        target: The clip to forge.
        donor: The clip whose mouth movements are used.
        rng: Draws the decoder's pattern, once per clip.
    """
    phases = rng.normal(0, 1, (2, 2))
    phases -= phases.mean()
    phases *= rng.uniform(0.024, 0.040) / np.abs(phases).mean()
    forged: list[tuple[Pictures, Plane]] = []
    for index, (frame, points, _, _) in enumerate(_both(target, donor)):
        size, unit = len(frame), interocular(points)
        mouth = target.expression[index].copy()
        mouth[:2] = donor.expression[index, :2]
        acted = express(target.relaxed[index], mouth)
        face = resample(frame, thin_plate_map(acted[STEERING], points[STEERING], size))
        pattern = np.tile(1 + phases, (size // 2 + 1, size // 2 + 1))[:size, :size, None]
        decoded = _through(face, 0.5, cv2.INTER_LINEAR) * pattern.astype(np.float32)
        mask = hull_mask(mouth_region(points, acted), size, 0.03 * unit)
        forged.append((blend(frame, decoded, mask), mask))
    return _stacked(forged)


FORGERIES: dict[str, Forgery] = {
    "Deepfakes": deepfakes,
    "Face2Face": face2face,
    "FaceSwap": faceswap,
    "NeuralTextures": neural_textures,
}


def mouth_region(*shapes: Points) -> Points:
    """Return the points around mouth and chin of one or more shapes."""
    return np.concatenate([part for p in shapes for part in (p[LIPS], p[5:12] * 0.9 + p[33] * 0.1)])


def _stacked(forged: list[tuple[Pictures, Plane]]) -> Forged:
    frames, masks = zip(*forged, strict=True)
    return Forged(np.stack(frames), np.stack(masks))


def _face(points: Points) -> Points:
    return np.concatenate([points[JAW], points[BROWS]])


def _both(target: Clip, donor: Clip) -> list[tuple[Image, Points, Image, Points]]:
    frames, others = target.frames.astype(np.float32), donor.frames.astype(np.float32)
    return list(zip(frames, target.points, others, donor.points, strict=True))


def _through(image: Image, detail: float, way: int) -> Image:
    """Shrink an image to a fraction of its resolution and enlarge it again."""
    size = len(image)
    small = max(8, round(size * detail))
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (size, size), interpolation=way), np.float32)
