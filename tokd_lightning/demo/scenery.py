"""Surroundings of a procedural face: the background, neck, shoulders and clothes."""

from __future__ import annotations

import cv2
import numpy as np

from tokd_lightning.demo.anatomy import Anatomy
from tokd_lightning.demo.canvas import Canvas, cloud

_ROOMS = ("wall", "studio", "shelf", "window", "garden", "lights")
_COLLARS = ("crew", "neck", "shirt")


def paint_room(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint one of six kinds of background, out of focus."""
    size, x, y = canvas.size, canvas.x, canvas.y
    room = str(rng.choice(_ROOMS))
    base = rng.uniform(50, 210) * rng.uniform(0.8, 1.15, 3)
    slope = rng.normal(0, 0.15, 2)
    canvas.paint(base, np.ones((size, size), np.float32))
    canvas.picture *= (1 + slope[0] * x + slope[1] * y)[..., None].astype(np.float32)
    if room == "wall":
        canvas.picture *= 1 + 0.04 * cloud(rng, size, 8, 4)[..., None]
        for _ in range(rng.integers(0, 3)):
            cx, cy, w, h = rng.uniform([-1, -1, 0.2, 0.2], [1, 0.2, 0.5, 0.4])
            near = np.minimum(w - abs(x - cx), h - abs(y - cy))
            canvas.paint(rng.uniform(20, 90, 3), canvas.inside(near))
            canvas.paint(rng.uniform(70, 230, 3), canvas.inside(near - 0.03))
    elif room == "studio":
        glow = canvas.blob(rng.uniform(-0.4, 0.4), -0.2, 0.9, 0.9)
        canvas.picture *= (0.5 + 0.7 * glow)[..., None]
    elif room == "shelf":
        left = -1.0
        while left < 1:
            width, top = rng.uniform(0.05, 0.16), rng.uniform(-0.15, 0.1)
            row = np.minimum(x - left, left + width - x) + 0 * y
            for height in (-1.0, -0.35, 0.3):
                book = np.minimum(row, np.minimum(y - height - 0.15 + top, height + 0.6 - y))
                canvas.paint(rng.uniform(25, 200, 3), canvas.inside(book))
            left += width
    elif room == "window":
        cx, pane = rng.uniform(-0.7, 0.7), rng.uniform(0.35, 0.6)
        bars = np.minimum(abs((x - cx) % pane - pane / 2), abs(y % pane - pane / 2)) - 0.025
        sky = np.array([225, 232, 240]) * rng.uniform(0.75, 1)
        canvas.paint(sky, canvas.inside(np.minimum(bars, pane * 1.4 - abs(x - cx))))
    elif room == "garden":
        leaves = cloud(rng, size, 10, 5)[..., None]
        canvas.picture[:] = rng.uniform([40, 80, 20], [130, 150, 80]) * (1 + 0.3 * leaves)
    else:
        canvas.picture *= 0.4
        for _ in range(rng.integers(8, 22)):
            cx, cy, radius = rng.uniform([-1, -1, 0.04], [1, 0.8, 0.16])
            disc = canvas.inside(radius - np.hypot(x - cx, y - cy))
            canvas.paint(rng.uniform(90, 255, 3), disc * np.float32(rng.uniform(0.3, 0.8)))
    blur = rng.uniform(1.0, 5.0) * size / 256
    canvas.picture[:] = np.clip(cv2.GaussianBlur(canvas.picture, (0, 0), blur), 0, 255)


def paint_bust(canvas: Canvas, who: Anatomy, light: float, rng: np.random.Generator) -> None:
    """Paint neck, shoulders and clothes.

    Args:
        canvas: The picture with its background.
        who: The face.
        light: Direction of the light, -1 (left) .. 1 (right).
        rng: Generator of the clothes.
    """
    size, x, y = canvas.size, canvas.x, canvas.y
    neck = who.half_width * (0.58 + 0.16 * who.masculine)
    flare = np.clip(y - who.chin, 0, 1) ** 2 * 1.6
    across = x / (neck + flare)
    tube = np.sqrt(np.clip(1 - across**2, 0.05, 1)) * (1 + 0.35 * light * across)
    below_jaw = y - who.chin - 0.05 + 1.3 * x**2
    shadow = 0.62 + 0.38 / (1 + np.exp(-np.clip(below_jaw / 0.045, -30, 30)))
    tone = (0.5 + 0.45 * tube) * shadow
    cover = canvas.inside(np.minimum(neck + flare - abs(x), y - 0.25))
    warm = tone[..., None] ** np.array([1.0, 1.12, 1.2])
    canvas.paint(who.skin * warm, cover)

    slope = rng.uniform(0.22, 0.4)
    top = who.chin + rng.uniform(0.12, 0.18)
    shoulder = y - top - slope * np.clip(abs(x) - neck, 0, 1) ** 1.3
    collar = str(rng.choice(_COLLARS))
    depth = {"crew": 0.07, "neck": 0.22, "shirt": 0.2}[collar]
    opening = np.clip(1 - abs(x) / (neck * 1.02), 0, 1)
    opening = np.sqrt(opening) * depth if collar == "crew" else opening * depth
    cloth = canvas.inside(shoulder - opening)
    colour = rng.uniform(15, 230) * rng.uniform(0.7, 1.2, 3)
    folds = 1 + 0.07 * cloud(rng, size, 5, 3) + 0.15 * light * x - 0.15 * abs(x)
    if rng.random() < 0.3:
        stripes = np.sin((y + 0.15 * x**2) * rng.uniform(30, 70)) > 0.2
        folds = folds * np.where(stripes, 1, rng.uniform(0.6, 0.9))
    canvas.paint(np.clip(colour * folds[..., None], 0, 255), cloth)
    edge = np.exp(-(((shoulder - opening - 0.018) / 0.012) ** 2)).astype(np.float32)
    canvas.shade(0.75 if collar == "crew" else 0.85, edge * cloth)
    if collar == "shirt":
        lapel = canvas.inside(
            np.minimum(0.11 - abs(abs(x) - neck * 0.75), 0.16 - (shoulder - opening))
        )
        canvas.paint(np.clip(colour * 1.15 + 10, 0, 255), lapel * cloth * 0.8)
    canvas.picture[:] = np.clip(canvas.picture, 0, 255)
