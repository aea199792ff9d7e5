"""Clips: a portrait that moves its head, talks and blinks, recorded by a simulated camera."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.blending.points import (
    BROWS,
    EYES,
    INNER_LIPS,
    LOWER_LIDS,
    NOSE,
    UPPER_LIDS,
    Points,
    border,
    crown,
    interocular,
)
from tokd_lightning.demo.warping import resample, thin_plate_map

Pictures = NDArray[np.uint8]
Series = NDArray[np.float64]

# The inner points of closed lips coincide, so only the outer ones control the warps.
STEERING = slice(0, INNER_LIPS.start)
_BORDER_MARGIN = 1.3
_SUPERSAMPLING = 2
_LIPS_PART = 0.03


class Portrait(NamedTuple):
    """A still picture: RGB ``(N, N, 3)`` uint8 and its 68 points in pixels."""

    image: Pictures
    points: Points


class Clip(NamedTuple):
    """A filmed portrait.

    Attributes:
        frames: RGB, ``(T, size, size, 3)`` uint8.
        points: The 68 points of each frame, ``(T, 68, 2)``, pixels.
        relaxed: The same points without any expression.
        expression: Mouth opening, smile, raised brows, closed eyes per frame, ``(T, 4)``.
    """

    frames: Pictures
    points: Series
    relaxed: Series
    expression: Series


def express(points: Points, expression: NDArray[np.float64]) -> Points:
    """Move relaxed points into an expression.

    Args:
        points: The 68 points of a relaxed, closed-mouthed face.
        expression: Mouth opening, smile (may be negative), raised brows, closed eyes; about 0..1.
    """
    opening, smile, brows, closed = expression
    unit = interocular(points)
    moved = points.copy()
    moved[55:60, 1] += 0.20 * unit * opening * np.array([0.75, 1, 1, 1, 0.75])
    moved[65:68, 1] += 0.20 * unit * opening
    moved[6:11, 1] += 0.14 * unit * opening * np.array([0.4, 0.8, 1, 0.8, 0.4])
    for corner, side in ((48, -1), (60, -1), (54, 1), (64, 1)):
        moved[corner] += smile * unit * np.array([0.07 * side, -0.05]) + [0, 0.08 * unit * opening]
    moved[BROWS, 1] -= 0.09 * unit * brows
    moved[UPPER_LIDS] += 0.85 * closed * (points[LOWER_LIDS] - points[UPPER_LIDS])
    return moved


def film(portrait: Portrait, rng: np.random.Generator, frames: int, size: int) -> Clip:
    """Animate and film a portrait.

    Args:
        portrait: The portrait; at twice the size of the frames it keeps all of its detail.
        rng: Generator of motion, expressions, light and camera.
        frames: Number of frames.
        size: Side of a frame in pixels.
    """
    stage = size * _SUPERSAMPLING
    scale = stage / len(portrait.image)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    still = cv2.resize(portrait.image, (stage, stage), interpolation=way).astype(np.float32)
    neutral = (portrait.points + 0.5) * scale - 0.5
    relaxed = _move_heads(neutral, rng, frames)
    expression = _act(rng, frames)
    points = np.stack([express(p, e) for p, e in zip(relaxed, expression, strict=True)])
    fixed = (border(stage) - stage / 2) * _BORDER_MARGIN + stage / 2
    read = np.concatenate([neutral[STEERING], crown(neutral), fixed])
    shots = []
    for now, calm in zip(points, relaxed, strict=True):
        to = np.concatenate([now[STEERING], crown(calm), fixed])
        shot = resample(still, thin_plate_map(to, read, stage), cubic=True)
        _open_mouth(shot, now)
        shots.append(shot)
    record = _record(shots, rng, size)
    shrink = 1 / _SUPERSAMPLING
    return Clip(record, (points + 0.5) * shrink - 0.5, (relaxed + 0.5) * shrink - 0.5, expression)


def _curve(rng: np.random.Generator, frames: int, columns: int) -> Series:
    """Draw smooth random curves in about [-1, 1], ``(frames, columns)``."""
    time = np.arange(frames)[:, None, None] / 12
    rate = rng.uniform(0.2, 1.6, (columns, 3))
    phase = rng.uniform(0, 2 * np.pi, (columns, 3))
    weight = rng.dirichlet(np.ones(3), columns)
    return np.asarray((weight * np.sin(2 * np.pi * rate * time + phase)).sum(-1))


def _act(rng: np.random.Generator, frames: int) -> Series:
    """Draw an expression per frame: talk, smile, brows, sometimes a blink."""
    raw = _curve(rng, frames, 3)
    talk = rng.uniform(0, 1.3) * np.clip(np.abs(raw[:, 0]) * 1.3 - 0.2, 0, 1)
    smile = rng.uniform(0.0, 0.6) + 0.4 * raw[:, 1]
    blink = np.zeros(frames)
    if rng.random() < 0.6:
        blink = np.exp(-(((np.arange(frames) - rng.uniform(0, frames)) / 0.8) ** 2))
    return np.stack([talk, smile, 0.7 * raw[:, 2], blink], 1)


def _move_heads(neutral: Points, rng: np.random.Generator, frames: int) -> Series:
    """Return the relaxed points shifted, rolled, scaled and turned, ``(frames, 68, 2)``."""
    unit = interocular(neutral)
    centre = neutral.mean(0)
    curve = _curve(rng, frames, 6) * rng.uniform(0.3, 1.0)
    shift = unit * (0.09 * curve[:, :2] + rng.uniform(-0.06, 0.06, 2))
    roll, grow = 0.06 * curve[:, 2] + rng.normal(0, 0.03), 1 + 0.03 * curve[:, 3]
    depth = 1 - np.clip(((neutral - centre) ** 2).sum(1) / (1.6 * unit) ** 2, 0, 1)
    depth[NOSE] += 0.5
    depth[EYES] -= 0.1
    turn = unit * np.array([0.10, 0.06]) * curve[:, 4:]
    cos, sin = grow * np.cos(roll), grow * np.sin(roll)
    spin = np.stack([np.stack([cos, sin], 1), np.stack([-sin, cos], 1)], 1)
    turned = (neutral - centre) + depth[None, :, None] * turn[:, None]
    return np.asarray(centre + turned @ spin + shift[:, None])


def _open_mouth(shot: NDArray[np.float32], points: Points) -> None:
    """Paint the dark inside of an open mouth and the upper teeth, in place."""
    inner = points[INNER_LIPS]
    gap = (inner[5:8, 1] - inner[[3, 2, 1], 1]).mean() / interocular(points)
    if gap < _LIPS_PART:
        return
    size = len(shot)
    shown = float(np.clip((gap - 2 * _LIPS_PART) * 12, 0, 0.6))
    teeth = inner.copy()
    teeth[5:8] += 0.6 * (inner[[3, 2, 1]] - inner[5:8])
    for outline, colour, cover in ((inner, (52, 18, 20), 0.9), (teeth, (190, 180, 168), shown)):
        mask = np.zeros((size, size), np.uint8)
        polygon = np.rint(cv2.convexHull(outline.astype(np.float32)) * 16).astype(np.int32)
        cv2.fillConvexPoly(mask, polygon, 255, cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(mask.astype(np.float32) * (cover / 255), (0, 0), size / 320)
        dim = np.asarray(colour, np.float32) * (0.4 + 0.6 * shot.mean() / 128)
        shot += (dim - shot) * soft[..., None]


def _record(shots: list[NDArray[np.float32]], rng: np.random.Generator, size: int) -> Pictures:
    """Simulate the camera: flickering light, lens, sensor noise; the same chain for every clip."""
    tint = rng.normal(1, [0.05, 0.015, 0.05])
    gamma = rng.uniform(0.85, 1.2)
    exposure = rng.uniform(0.85, 1.1) * (1 + rng.uniform(0.01, 0.06) * _curve(rng, len(shots), 1))
    flicker = rng.normal(0, rng.uniform(0.002, 0.012), len(shots))
    lean = rng.normal(0, 0.07, 2) + 0.06 * _curve(rng, len(shots), 2)
    lens, noise, grain = rng.uniform(0.35, 0.9), rng.uniform(0.8, 3.2), rng.uniform(0, 0.6)
    ticks = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = ticks[None], ticks[:, None]
    vignette = 1 - rng.uniform(0, 0.14) * (x**2 + y**2)
    record = []
    for index, shot in enumerate(shots):
        seen = cv2.resize(
            cv2.GaussianBlur(shot, (0, 0), lens), (size, size), interpolation=cv2.INTER_AREA
        )
        light = exposure[index, 0] + flicker[index] + lean[index, 0] * x + lean[index, 1] * y
        factor = (vignette * light)[..., None] * tint
        seen = 255 * np.clip(seen / 255 * factor, 0, 1).astype(np.float32) ** np.float32(gamma)
        random = rng.standard_normal((size, size, 3), np.float32)
        coarse = cv2.GaussianBlur(random, (0, 0), 0.8)
        strength = noise * (0.6 + 0.6 * np.sqrt(seen / 255))
        seen += strength * ((1 - grain) * random + grain * 2 * coarse)
        record.append(np.clip(np.rint(seen), 0, 255).astype(np.uint8))
    return np.stack(record)
